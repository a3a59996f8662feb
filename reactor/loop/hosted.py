"""What the loops for ASGI apps have in common.

An app runs in a task of the runtime, step by step. A step ends when the app suspends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

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


class HostLoop(ReactorLoop):
    """A loop that runs ASGI apps. Create it while the runtime runs."""

    ready: deque[Hosted]  # type: ignore[assignment]

    async def run(self) -> None:
        """Serve until `close`. Return when all apps have ended. Raises a fault of the reactor."""
        raise NotImplementedError

    def close(self) -> None:
        """Cancel every app, and stop serving."""
        raise NotImplementedError

    def _end_step(self, exchange: Hosted) -> None:
        """Record the end of an app's step."""
        exchange.slow = max(exchange.slow, self._step_ended())
