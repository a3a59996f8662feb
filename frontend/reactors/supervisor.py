"""Keeps as many reactors serving as were asked for: starts, replaces, reloads, retires them.

Every reactor has a part here:

    serving    it belongs to the present generation: it takes exchanges, or will when it has started
    coming     it belongs to the next generation, which takes over when all of it is ready
    successor  it starts in the place of a serving one that is spent
    leaving    it takes no more exchanges, finishes what it has, and is then dismissed

Nothing is taken away before its replacement is ready: a generation that does not start, or a
successor that does not, leaves those who serve alone. Of the next generation only a few start at
once, because each takes a processor for itself meanwhile, and others serve. A reactor that dies is
replaced at once; one that dies young, again and again, after a pause that doubles, so that a broken
app does not burn the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.launch import StartDirectory, explain
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.backoff import Backoff
from reactor_run.frontend.reactors.command_line import CommandLine
from reactor_run.frontend.reactors.events import Operation
from reactor_run.frontend.reactors.generation import NextGeneration, Told, ignore_outcome
from reactor_run.frontend.reactors.heartbeat import Heartbeat
from reactor_run.frontend.reactors.reactor import DEAD, READY, STARTING, Reactor
from reactor_run.frontend.sockets.rlimits import available_cpus

__all__ = ["Supervisor"]

_YOUNG: Final = 10.0
"""Seconds; a reactor that dies before is replaced with a pause."""
_AFTER_DEATH: Final = Backoff(0.1, 2.0)
"""Before a reactor starts in the place of one that was ready and died young."""
_AFTER_FAILED_START: Final = Backoff(1.0, 30.0)
"""Before a reactor starts in the place of one that was never ready."""
_TRY_AGAIN: Final = 1.0
"""Seconds until a reactor is started that could not be."""
_KILL_AFTER: Final = 2.0
"""Seconds that a reactor has to exit, beyond what its app was given to shut down."""
_GONE_WITHIN: Final = 2.0
"""Seconds that are waited for processes that were killed: to free much memory takes a while."""
_SHUTDOWN_MIN: Final = 1.0
"""Seconds that an app has to shut down, however long its last exchanges took."""


class Supervisor:
    """The reactors of one service."""

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        counters: Counters,
        heartbeat: Heartbeat,
        settings: Settings,
        place: StartDirectory,
        operation: Operation,
    ) -> None:
        """`place`: where the front end was started: reactors are, too."""
        self.reactors: list[Reactor] = []
        """Every process that lives."""
        self.wanted = settings.reactors or available_cpus()
        """How many are to serve."""
        self.generation = 1
        """The one that serves; a reload begins the next."""
        self._loop = loop
        self._dispatcher = dispatcher
        self._counters = counters
        self._heartbeat = heartbeat
        self._operation = operation
        self._settings = settings
        self._place = place
        self._command = CommandLine(settings, place)
        self._serving: list[Reactor] = []
        self._next = NextGeneration(self)
        self._spent: dict[Reactor, str] = {}
        """Those to be replaced one after another, and why."""
        self._successor: Reactor | None = None
        """Starts in the place of the first of the spent."""
        self._leaving: dict[Reactor, float] = {}
        """Those that finish what they have, until when."""
        self.started = 0
        """Processes, ever."""
        self._deaths = 0
        """Young ones in a row."""
        self._failures = 0
        """Successors that did not start, in a row."""
        self._ever_ready = False
        self._last_words: dict[Reactor, tuple[str, str | None]] = {}
        """Why those that are about to end could not start."""
        self._stopping = False
        loop.after_batch(self._dismiss_idle)

    # What the operator asks for ------------------------------------------------------------------

    def start(self) -> None:
        """Start all of them. Raises OperatorError."""
        for _ in range(self.wanted):
            try:
                self._serving.append(self.spawn(self.generation))
            except OSError as error:
                raise OperatorError(f"cannot start a reactor: {explain(error)}") from error

    @property
    def serving(self) -> list[Reactor]:
        """Those that take exchanges, or will when they have started."""
        return list(self._serving)

    def at_work(self) -> list[Reactor]:
        """Those that run exchanges, or might: ready ones, and those that finish what they have."""
        ready = [reactor for reactor in self.reactors if reactor.state is READY]
        return [*ready, *self._leaving]

    @property
    def reloading(self) -> bool:
        """The next generation is starting."""
        return self._next.starting

    @property
    def reload_failure(self) -> str | None:
        """Why the last reload failed; None if it did not."""
        return self._next.failure

    def reload(self, then: Told = ignore_outcome) -> None:
        """Start the next generation beside the one that serves.

        `then` is called once it serves, or with the reason why it does not.
        """
        if self._stopping:
            then("the service is stopping")
            return
        self._next.begin(then)

    def scale(self, wanted: int) -> None:
        """Have so many reactors serve, at least one."""
        wanted = max(1, wanted)
        if self._stopping or wanted == self.wanted:
            return
        log.info("%d reactors instead of %d", wanted, self.wanted)
        self.wanted = wanted
        self._trim()
        self.fill()

    def fill(self) -> None:
        """Start what is missing of those that are to serve."""
        while not self._stopping and len(self._serving) < self.wanted:
            try:
                self._serving.append(self.spawn(self.generation))
            except OSError as error:
                log.error("cannot start a reactor: %s; trying again", explain(error))
                self._later(_TRY_AGAIN, self.fill)
                return

    def _trim(self) -> None:
        """Let those leave that are too many, first those that have not even started."""
        surplus = len(self._serving) - self.wanted
        if surplus > 0:
            by_state = sorted(self._serving, key=lambda reactor: reactor.state is READY)
            for reactor in by_state[:surplus]:
                self.retire(reactor)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._loop.set_deadline(Timer(action), seconds)

    # Starting one --------------------------------------------------------------------------------

    def spawn(self, generation: int) -> Reactor:
        """Start a reactor of this generation. Raises OSError."""
        self.started += 1
        name = f"reactor {self.started}"
        reactor = Reactor(
            self._loop,
            self,
            name,
            lambda fd: self._command.make(fd, name, multiprocess=self.wanted > 1),
            directory=self._place.enter(),
            generation=generation,
            express=self._settings.lanes == "express",
        )
        self.reactors.append(reactor)
        if self._settings.start_timeout:
            reactor.on_overdue = lambda: self._start_overdue(reactor)
            self._loop.set_deadline(reactor, self._settings.start_timeout)
        log.debug("%s starts as process %d", name, reactor.pid)
        return reactor

    def _start_overdue(self, reactor: Reactor) -> None:
        seconds = self._settings.start_timeout
        message = f"the app was not ready after {seconds:g} seconds; see --start-timeout"
        self._last_words[reactor] = (message, None)
        log.error("%s was not ready after %g seconds; it is killed", reactor.name, seconds)
        reactor.kill()

    # What the reactors say -----------------------------------------------------------------------

    def reactor_ready(self, reactor: Reactor) -> None:
        """It has loaded and started the app."""
        self._loop.forget(reactor)
        if self._stopping:
            self._dismiss(reactor, 0)
            return
        log.info("%s is ready: process %d, %s", reactor.name, reactor.pid, reactor.interface)
        if not self._ever_ready:
            self._ever_ready = True
            if len(self._serving) < self.wanted:
                self._later(_TRY_AGAIN, self.fill)
        if reactor in self._next:
            self._next.go_on()
        elif reactor is self._successor:
            self._succeed(reactor)
        elif reactor in self._serving:
            self._operation.serves(reactor.interface)
            self._dispatcher.add(reactor)
        else:
            # It became ready in the moment in which it was given up.
            self._dismiss(reactor, 0)

    def reactor_has_room(self, reactor: Reactor) -> None:
        """One of its exchanges is over, its capacity changed, or it is not held up any more."""
        if self._dispatcher.waiting:
            self._dispatcher.pump()

    def reactor_found_slow(self, route: bytes, seconds: float) -> None:
        """Requests of a route hold it up, the last one for so long; or do not any more: 0."""
        self._dispatcher.standby.told(route, seconds, self._loop.now)

    def reactor_spent(self, reactor: Reactor, why: str) -> None:
        """It should serve no longer; it does until another has started in its place."""
        if reactor in self._serving and reactor not in self._spent and not self._stopping:
            log.info("%s is replaced: %s", reactor.name, why)
            self._spent[reactor] = why
            self.replace_next()

    def reactor_ended(self, reactor: Reactor) -> None:
        """It takes nothing more."""
        self._dispatcher.remove(reactor)

    def reactor_answered(self, reactor: Reactor) -> None:
        """It has answered a ping."""
        self._heartbeat.answered(reactor)

    def reactor_left(
        self, reactor: Reactor, exchanges: list[Exchange], begun: set[Exchange]
    ) -> None:
        """It has died, and left these exchanges without an answer."""
        if self._stopping:
            # What waits may still go to those that have not ended, and to no others.
            self._dispatcher.remove(reactor)
            for exchange in exchanges:
                exchange.requester.answer_failed()
        else:
            self._dispatcher.take_back(reactor, exchanges, begun)

    def reactor_gave_back(self, reactor: Reactor, exchanges: list[Exchange]) -> None:
        """It has not begun these, and never will: it was asked not to."""
        self._dispatcher.give_again(exchanges)

    def reactor_failed(self, reactor: Reactor, message: str, details: str | None) -> None:
        """It could not load or start the app; it exits by itself."""
        self._last_words[reactor] = (message, details)
        if self._ever_ready:
            log.error("%s: %s%s", reactor.name, message, f"\n{details}" if details else "")

    def reactor_died(self, reactor: Reactor, status: int) -> None:
        """Its process has ended."""
        self.reactors.remove(reactor)
        words = self._last_words.pop(reactor, None)
        was_leaving = self._leaving.pop(reactor, None) is not None
        self._counters.served_by_the_dead += reactor.served
        if self._stopping:
            log.debug("%s has left", reactor.name)
            self._operation.reactor_ended()
            return
        lived = self._loop.now - reactor.started
        how = f"{reactor.name} {_how(status)} after {lived:.1f} seconds"
        if reactor in self._serving:
            self._serving.remove(reactor)
            self._forget_spent(reactor)
            if self._ever_ready:
                log.error("%s", how)
                self._counters.reactor_deaths += 1
                self._replace_dead(reactor, lived)
            elif not self._serving:
                message, details = words or (f"the reactor {_how(status)} as it started", None)
                self._operation.fail(OperatorError(message), details)
        elif reactor in self._next:
            self._next.died(reactor, words[0] if words else how)
        elif reactor is self._successor:
            self._successor_failed(how)
        elif was_leaving:
            log.error("%s, while it finished what it had", how)
        else:
            log.debug("%s has left", reactor.name)

    def _replace_dead(self, reactor: Reactor, lived: float) -> None:
        """A new one for one that served; not at once if they die young again and again.

        Those that had started well are missed sooner than those that cannot even start.
        """
        self._deaths = self._deaths + 1 if lived < _YOUNG else 0
        if self._deaths < 2:
            self.fill()
        else:
            backoff = _AFTER_DEATH if reactor.interface else _AFTER_FAILED_START
            pause = backoff.pause(self._deaths - 1)
            log.warning("its replacement starts in %g seconds", pause)
            self._later(pause, self.fill)

    # Reloads -------------------------------------------------------------------------------------

    def take_over(self, successors: list[Reactor]) -> None:
        """Have the next generation, which is ready, serve; the present one retires."""
        old, self._serving = self._serving, successors
        self.generation += 1
        self._deaths = self._failures = 0
        self._spent.clear()
        if self._successor is not None:
            old.append(self._successor)
            self._successor = None
        log.info("generation %d serves; generation %d leaves", self.generation, self.generation - 1)
        for reactor in self._serving:
            self._operation.serves(reactor.interface)
            self._dispatcher.add(reactor)
        for reactor in old:
            self.retire(reactor)
        self._trim()
        self.fill()

    def reload_begins(self) -> None:
        """Tell the operator that a reload has begun."""
        self._operation.reload_begins()

    def reload_ended(self) -> None:
        """Tell the operator that it has ended."""
        self._operation.reload_ended()

    # Replacing the spent -------------------------------------------------------------------------

    def replace_next(self) -> None:
        """Start a successor for the first of the spent reactors, one at a time."""
        if (
            self._successor is None
            and self._spent
            and not self._next.starting
            and not self._stopping
        ):
            try:
                self._successor = self.spawn(self.generation)
            except OSError as error:
                self._successor_failed(f"it cannot be started: {explain(error)}")

    def _succeed(self, successor: Reactor) -> None:
        self._successor = None
        self._failures = 0
        self._serving.append(successor)
        self._operation.serves(successor.interface)
        self._dispatcher.add(successor)
        if self._spent:
            self.retire(next(iter(self._spent)))
        # The one that it was started for may have been taken away meanwhile.
        self._trim()
        self.replace_next()

    def _successor_failed(self, how: str) -> None:
        self._successor = None
        self._failures += 1
        pause = _AFTER_FAILED_START.pause(self._failures)
        log.error("no successor: %s; the next is tried in %g seconds", how, pause)
        self._later(pause, self.replace_next)

    def _forget_spent(self, reactor: Reactor) -> None:
        """One that serves is gone; the successor that started for it takes its place."""
        first = next(iter(self._spent), None)
        if self._spent.pop(reactor, None) is not None and reactor is first:
            if self._successor is not None:
                self._serving.append(self._successor)
                self._successor = None
            self.replace_next()

    # Leaving -------------------------------------------------------------------------------------

    def retire(self, reactor: Reactor) -> None:
        """Let it finish what it has, then dismiss it."""
        if reactor in self._serving:
            self._serving.remove(reactor)
        self._spent.pop(reactor, None)
        self._dispatcher.remove(reactor)
        if reactor.state is STARTING:
            reactor.kill()
        elif reactor.state is READY:
            reactor.leave()
            patience = self._settings.graceful_timeout
            self._leaving[reactor] = self._loop.now + patience
            reactor.on_overdue = lambda: self._overdue(reactor)
            self._loop.set_deadline(reactor, patience)

    def _dismiss_idle(self) -> None:
        if self._leaving:
            for reactor, until in list(self._leaving.items()):
                if reactor.idle:
                    self._dismiss(reactor, until - self._loop.now)

    def _overdue(self, reactor: Reactor) -> None:
        log.warning(
            "%s has not finished %d exchanges within the graceful timeout",
            reactor.name,
            reactor.in_flight,
        )
        self._dismiss(reactor, 0)

    def _dismiss(self, reactor: Reactor, seconds: float) -> None:
        """Have its app shut down, within so many seconds, and its process exit."""
        self._leaving.pop(reactor, None)
        if reactor.state not in (STARTING, DEAD):
            seconds = max(seconds, _SHUTDOWN_MIN)
            reactor.stop(seconds)
            reactor.on_overdue = reactor.kill
            self._loop.set_deadline(reactor, seconds + _KILL_AFTER)

    # The end -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Exchanges whose app is not done."""
        return sum(reactor.in_flight for reactor in self.reactors)

    def stop(self, seconds: float, *, end_children: bool = True) -> None:
        """Have every app shut down, within so many seconds.

        `end_children`: what apps leave running in their reactors' process groups ends too.
        """
        self._stopping = True
        self._next.cancel("the service is stopping")
        for reactor in self.reactors:
            reactor.ends_children = end_children
            if reactor.state is STARTING:
                reactor.kill()
            else:
                self._dismiss(reactor, seconds)

    def kill(self) -> None:
        """End every reactor at once."""
        self._stopping = True
        for reactor in self.reactors:
            reactor.kill()

    def bury(self) -> None:
        """End every reactor, and return when the kernel is done with them: who waits for this
        process may start another on the same files and ports."""
        self.kill()
        until = monotonic() + _GONE_WITHIN
        for reactor in self.reactors:
            reactor.see_dead(max(0.0, until - monotonic()))


def _how(status: int) -> str:
    """How a process ended, in words."""
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
