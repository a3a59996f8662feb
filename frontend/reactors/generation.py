"""Starts the next generation of reactors for a reload, beside the one that serves.

- Starts at most half as many reactors at a time as there are CPUs. Each occupies a CPU while it
  starts, and the reactors that serve need the others.
- When all are ready, they take over. If one fails, all of them end, and the present generation
  stays.
- A request for a reload during a reload starts another one afterwards: the app may have changed. If
  its files have changed (`--reload`), the start is given up, and begins anew at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reactor_run.frontend.launch import explain
from reactor_run.frontend.log import log
from reactor_run.frontend.reactors.reactor import READY, Reactor
from reactor_run.frontend.sockets.rlimits import available_cpus

__all__ = ["Generations", "NextGeneration", "Told", "ignore_outcome"]

Told = Callable[[str | None], None]
"""Called with the outcome of a reload: the reason why it failed, or None."""


def ignore_outcome(_: str | None) -> None:
    """Do nothing with the outcome of a reload."""


class Generations(Protocol):
    """The part of the supervisor that a reload needs."""

    label: str
    """Precedes the names of reactors in the log."""
    generation: int
    """The number of the generation that serves."""
    wanted: int
    """How many reactors should serve."""

    @property
    def serving(self) -> list[Reactor]:
        """The reactors that take exchanges, or will once they are ready."""

    def spawn(self, generation: int) -> Reactor:
        """Start a reactor. Raises OSError."""

    def take_over(self, successors: list[Reactor]) -> None:
        """Replace the present generation by `successors`, which are ready."""

    def retire(self, reactor: Reactor) -> None:
        """Let a reactor finish its exchanges, then stop it."""

    def reload_begins(self) -> None:
        """Tell the operator that a reload has begun."""

    def reload_ended(self) -> None:
        """Tell the operator that a reload has ended."""

    def replace_next(self) -> None:
        """Resume the replacement of spent reactors, which waited for the reload."""


class NextGeneration:
    """The reactors that start for a reload, and the callbacks for its outcome."""

    def __init__(self, generations: Generations) -> None:
        self.failure: str | None = None
        """Why the last reload failed; None if it did not."""
        self.details: str | None = None
        """The app's traceback, if the last reload failed and there is one."""
        self.failures = 0
        """Reloads that failed since the start of the service."""
        self._generations = generations
        self._coming: list[Reactor] = []
        self._size = 0
        """How many reactors the next generation will have."""
        self._again = False
        """Another reload was requested during this one."""
        self._awaited: list[Told] = []
        """The callbacks for the outcome of this reload."""
        self._awaited_again: list[Told] = []
        """The callbacks for the outcome of the next reload."""

    def __contains__(self, reactor: Reactor) -> bool:
        return reactor in self._coming

    @property
    def starting(self) -> bool:
        """Whether a reload is in progress."""
        return bool(self._coming)

    def begin(self, then: Told, *, anew: bool = False) -> None:
        """Start the next generation. `then` is called with the outcome.

        `anew`: give up the start that is in progress, if there is one.
        """
        if self._coming and anew:
            coming, self._coming = self._coming, []
            for reactor in coming:
                self._generations.retire(reactor)
            self._awaited.append(then)
            self.go_on()
            return
        if self._coming:
            log.info("a reload is in progress, another one follows it")
            self._again = True
            self._awaited_again.append(then)
            return
        self._again = False
        self._awaited = [*self._awaited_again, then]
        self._awaited_again = []
        self.failure = self.details = None
        label, number = self._generations.label, self._generations.generation + 1
        log.info("%sreload: generation %d starts", label, number)
        self._generations.reload_begins()
        self._size = self._generations.wanted
        self.go_on()

    def go_on(self) -> None:
        """Start as many reactors as may start now, or take over if all are ready."""
        unready = sum(reactor.state is not READY for reactor in self._coming)
        missing = min(self._size, self._generations.wanted) - len(self._coming)
        if missing <= 0 and not unready:
            self._take_over()
            return
        room = max(1, available_cpus() // 2) - unready
        try:
            for _ in range(min(missing, room)):
                self._coming.append(self._generations.spawn(self._generations.generation + 1))
        except OSError as error:
            self._fail(f"cannot start a reactor: {explain(error)}")

    def died(self, reactor: Reactor, why: str, details: str | None = None) -> None:
        """Give up the reload: one of its reactors has ended. `details`: a traceback."""
        self._coming.remove(reactor)
        self._fail(why, details)

    def cancel(self, why: str) -> None:
        """Call all callbacks with the reason why there will be no reload."""
        for told in (*self._awaited, *self._awaited_again):
            told(why)
        self._awaited.clear()
        self._awaited_again.clear()

    def _take_over(self) -> None:
        successors, self._coming = self._coming, []
        self._generations.take_over(successors)
        self._end(None)

    def _fail(self, why: str, details: str | None = None) -> None:
        coming, self._coming = self._coming, []
        self.failure, self.details = why, details
        self.failures += 1
        if any(reactor.state is READY for reactor in self._generations.serving):
            generation = self._generations.generation
            outcome = f"generation {generation} still serves, with the app as it was"
        else:
            outcome = "no generation serves"
        log.error("%sRELOAD FAILED: %s; %s", self._generations.label, why, outcome)
        for reactor in coming:
            self._generations.retire(reactor)
        self._end(why)

    def _end(self, why: str | None) -> None:
        awaited, self._awaited = self._awaited, []
        again = self._again
        self._generations.reload_ended()
        for told in awaited:
            told(why)
        if again:
            self.begin(ignore_outcome)
        else:
            self._generations.replace_next()
