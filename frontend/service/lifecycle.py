"""The phases of one service, from its start to its end.

    SERVING   the service runs
    DELAYED   /readyz fails, and all else goes on until balancers notice (--shutdown-delay)
    DRAINING  connections in the backlog are accepted, and no new ones; every answer is the last of
              its connection; idle connections may send one more request within --close-grace
    STOPPING  all requests are answered, or --graceful-timeout is over: apps shut down

Only `Shutdown` changes the phase.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Lifecycle", "ServicePhase"]


class ServicePhase(Enum):
    """The phases of a service, in order."""

    SERVING = "serving"
    DELAYED = "delayed"
    DRAINING = "draining"
    STOPPING = "stopping"


class Lifecycle:
    """The phase of one service."""

    __slots__ = ("handed_over", "phase")

    def __init__(self) -> None:
        self.phase = ServicePhase.SERVING
        self.handed_over = False
        """Another front end goes on with the listeners."""

    @property
    def stopping(self) -> bool:
        """Whether the stop has begun, so that the service is not ready any more."""
        return self.phase is not ServicePhase.SERVING
