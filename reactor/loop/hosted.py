"""What the loops for ASGI apps have in common.

An app runs in a task of the runtime, step by step. A step ends when the app suspends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final, Protocol

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.loop.reactor_loop import YIELD_AFTER, ReactorLoop

__all__ = ["FINISHED", "HostLoop", "Hosted"]

FINISHED: Final = object()
"""The result of `Hosted.first_step` for an app that did not suspend."""


class Hosted(AppExchange):
    """An exchange whose app runs in a task of the runtime. The loop sets the attributes."""

    __slots__ = ("coroutine", "slow", "suspended")

    coroutine: Coroutine[Any, Any, None]
    """The app's coroutine. It is set when the app first suspends."""
    suspended: bool
    """Whether the app has suspended. It is set before the app's first step."""
    slow: float
    """Seconds of the app's longest slow step, 0.0 if it had none."""

    def first_step(self) -> object:
        """Run the app until it ends or suspends. Return FINISHED, or the trap that it yielded."""
        raise NotImplementedError


class Event(Protocol):
    """An event of the runtime, such as trio.Event or asyncio.Event."""

    def is_set(self) -> bool: ...

    def set(self) -> object: ...

    async def wait(self) -> object: ...


class HostLoop(ReactorLoop):
    """A loop that runs ASGI apps. Create it while the runtime runs."""

    new_event: Callable[[], Event]
    """Makes an event. Those of anyio take ten times as long to make."""

    ready: deque[Hosted]  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._gathers = False
        """Whether suspended apps have put out what is to be sent soon."""
        self._gathers_since = 0.0
        """The monotonic time, in seconds, since which their output is gathered."""

    async def run(self) -> None:
        """Serve until `close`. Return when all apps have ended. Raises a fault of the reactor."""
        raise NotImplementedError

    def close(self) -> None:
        """Cancel every app, and stop serving."""
        raise NotImplementedError

    def _flush_soon(self) -> None:
        """Send the gathered output before the runtime waits for events."""
        raise NotImplementedError

    def _flush_if_late(self, now: float) -> None:
        """Send the gathered output now, if other apps may go on for long before that, or if the
        next step may be slow. `now`: the monotonic time."""
        if now < self._stall_budget_until or now - self._gathers_since > YIELD_AFTER:
            self._gathers_since = now
            self._flush_now()

    def _flush_now(self) -> None:
        """Send the gathered output. An app's step has just ended."""
        self.flush()

    def _end_step(self, exchange: Hosted) -> float:
        """Record the end of an app's step; return the monotonic time."""
        now = monotonic()
        since = self.pulse.since
        took = now - since[0]
        since[0] = 0.0
        if took > STALLED_AFTER:
            exchange.slow = max(exchange.slow, self._stalled(now, took))
        return now
