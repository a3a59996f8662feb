"""Replaces spent reactors (recycling.py), one at a time.

A spent reactor serves until its successor is ready. If a successor does not start, the reactor goes
on, and a backoff delays the next try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from reactor_run.frontend.launch import explain
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.backoff import Backoff
from reactor_run.frontend.reactors.reactor import Reactor

__all__ = ["AFTER_FAILED_START", "Replacement", "ServingReactors"]

AFTER_FAILED_START: Final = Backoff(1.0, 30.0)
"""The backoff before the replacement of a reactor that was never ready."""


class ServingReactors(Protocol):
    """The part of the supervisor that a replacement needs."""

    generation: int
    """The number of the generation that serves."""

    def spawn(self, generation: int) -> Reactor:
        """Start a reactor. Raises OSError."""

    def serve(self, reactor: Reactor) -> None:
        """Let a reactor serve that is ready."""

    def expect(self, reactor: Reactor) -> None:
        """Count a reactor as one that serves. It may still have to become ready."""

    def retire(self, reactor: Reactor) -> None:
        """Let a reactor finish its exchanges, then stop it."""

    def trim(self) -> None:
        """Retire the surplus of reactors."""


class Replacement:
    """The spent reactors, and the successor of the first of them."""

    def __init__(
        self, loop: Loop, reactors: ServingReactors, may_start: Callable[[], bool]
    ) -> None:
        """`may_start`: whether a successor may be started now. If not, `go_on` is called later."""
        self._loop = loop
        self._reactors = reactors
        self._may_start = may_start
        self._spent: dict[Reactor, None] = {}
        self._successor: Reactor | None = None
        self._failures = 0
        """How many successors failed to start in a row."""

    def __contains__(self, reactor: Reactor) -> bool:
        """Whether a reactor is spent."""
        return reactor in self._spent

    def is_successor(self, reactor: Reactor) -> bool:
        """Whether a reactor starts in order to replace a spent one."""
        return reactor is self._successor

    def add(self, reactor: Reactor) -> None:
        """Replace a reactor that is spent."""
        self._spent[reactor] = None
        self.go_on()

    def go_on(self) -> None:
        """Start a successor for the first of the spent reactors, unless one starts."""
        if self._successor is None and self._spent and self._may_start():
            try:
                self._successor = self._reactors.spawn(self._reactors.generation)
            except OSError as error:
                self.failed(f"cannot start a reactor: {explain(error)}")

    def ready(self) -> None:
        """Let the successor serve, and retire the reactor that it replaces."""
        successor, self._successor = self._successor, None
        assert successor is not None
        self._failures = 0
        self._reactors.expect(successor)
        self._reactors.serve(successor)
        if self._spent:
            self._reactors.retire(next(iter(self._spent)))
        # The reactor that it replaces may have been retired meanwhile.
        self._reactors.trim()
        self.go_on()

    def failed(self, how: str) -> None:
        """Try again later: the successor has not started. `how`: for the log."""
        self._successor = None
        self._failures += 1
        pause = AFTER_FAILED_START.pause(self._failures)
        log.error("cannot replace a reactor: %s; next try in %g s", how, pause)
        self._loop.set_deadline(Timer(self.go_on), pause)

    def retires(self, reactor: Reactor) -> None:
        """Forget a reactor: it retires."""
        self._spent.pop(reactor, None)

    def died(self, reactor: Reactor) -> None:
        """Forget a reactor that served. If it was spent, its successor takes its place."""
        first = next(iter(self._spent), None)
        self._spent.pop(reactor, None)
        if reactor is first:
            if self._successor is not None:
                self._reactors.expect(self._successor)
                self._successor = None
            self.go_on()

    def end(self) -> Reactor | None:
        """Forget all: a new generation serves. Return the successor: it is not needed now."""
        self._spent.clear()
        self._failures = 0
        successor, self._successor = self._successor, None
        return successor
