"""An exchange without a request, for tests of the loops."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from reactor_run.reactor.loop.hosted import FINISHED, Hosted, HostLoop

App = Callable[["Standin"], Coroutine[Any, Any, None]]


class Standin(Hosted):
    """An exchange whose app the test gives."""

    __slots__ = ("_app", "error", "fails_to_end", "written")

    def __init__(self, loop: HostLoop, app: App) -> None:
        self.reactor = loop
        self.express = 0
        self.lane = None
        self.gone = self.ended = False
        self.written = 0
        """How often the loop has sent its output."""
        self.error: BaseException | None = None
        self.fails_to_end = False
        """Whether the reactor's code fails when the exchange ends."""
        self._app = app

    @property
    def has_suspended(self) -> bool:
        """Whether the app has begun and suspended."""
        return hasattr(self, "coroutine")

    def first_step(self) -> object:
        coroutine = self._app(self)
        try:
            trap: object = coroutine.send(None)
        except StopIteration:
            return FINISHED
        self.coroutine = coroutine
        return trap

    def write_out(self) -> None:
        self.written += 1

    def over(self, error: BaseException | None) -> None:
        if self.fails_to_end:
            raise Fault
        self.ended = True
        self.error = error

    def abandon(self) -> None:
        raise Fault


class Flushes:
    """Counts the flushes of a loop."""

    def __init__(self, loop: HostLoop) -> None:
        self.count = 0
        loop.after_batch(self._add)

    def _add(self) -> None:
        self.count += 1


class Fault(Exception):
    """A fault of the reactor."""


def fail(*_: object) -> None:
    raise Fault
