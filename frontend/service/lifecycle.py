"""The phases of one service, from its start to its end.

    SERVING   the service runs
    DELAYED   readiness fails, all else goes on: balancers look elsewhere (--shutdown-delay)
    DRAINING  the backlog is taken and nothing new is; every answer is the last of its connection;
              idle connections have a grace for one more request (--close-grace)
    STOPPING  all is answered, or the time is over (--graceful-timeout): apps shut down

`Shutdown` moves it on. Others look.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Lifecycle", "ServicePhase"]


class ServicePhase(Enum):
    """Where a service stands."""

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
        """The stop has begun: the service is not ready any more."""
        return self.phase is not ServicePhase.SERVING
