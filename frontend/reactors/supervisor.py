"""Keeps the wanted number of reactors serving: starts, replaces, reloads and retires them.

Every reactor has one role:

    serving    it belongs to the present generation: it takes exchanges, or will once it is ready
    coming     it belongs to the next generation, which takes over when all of it is ready
    successor  it starts in order to replace a reactor that is spent (replacement.py)
    retiring   it takes no more exchanges, and finishes those that it has (retirement.py)

A reactor is retired only when its replacement is ready. If a new generation or a successor does not
start, the reactors that serve go on.

A reactor that dies is replaced at once. If reactors die young again and again, a backoff delays the
replacement, so that a broken app does not occupy the machine. The backoff is short if a zygote
forks the replacement, and SIGKILL has ended the reactor: an app does not do that to itself.
"""

from __future__ import annotations

import signal
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
from reactor_run.frontend.reactors.preload import Preload, adopt_forked_reactors
from reactor_run.frontend.reactors.reactor import READY, STARTING, Reactor
from reactor_run.frontend.reactors.replacement import AFTER_FAILED_START, Replacement
from reactor_run.frontend.reactors.retirement import Retirement
from reactor_run.frontend.reactors.terminal_loan import TerminalLoan
from reactor_run.frontend.reactors.zygote import Zygote
from reactor_run.frontend.sockets.rlimits import available_cpus

__all__ = ["Supervisor"]

_YOUNG: Final = 10.0
"""A reactor that dies within this many seconds of its start dies young."""
_AFTER_DEATH: Final = Backoff(0.1, 2.0)
"""The backoff before the replacement of a reactor that was ready and died young."""
_AFTER_KILL: Final = Backoff(0.05, 0.1)
"""The backoff before the replacement of a reactor that SIGKILL has ended, if it is only a fork. It
bounds what replacements cost to about a fifth of a CPU for each reactor."""
_TRY_AGAIN: Final = 1.0
"""Seconds before another try to start a reactor, after the kernel refused."""
_GONE_WITHIN: Final = 2.0
"""The most seconds to wait for killed processes. To free much memory takes the kernel a while."""


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
        operation: Operation[Reactor],
        *,
        label: str = "",
        mount_path: str = "",
    ) -> None:
        """`place`: the directory where the front end was started. Reactors start there too.
        `label`: precedes the names of reactors. `mount_path`: the prefix of the app's routes."""
        self.reactors: list[Reactor] = []
        """All reactors whose process has not ended."""
        self.wanted = settings.reactors or available_cpus()
        """How many reactors should serve."""
        self.generation = 1
        """The number of the generation that serves."""
        self._loop = loop
        self._dispatcher = dispatcher
        self._counters = counters
        self._heartbeat = heartbeat
        self._operation = operation
        self._settings = settings
        self._place = place
        self._command = CommandLine(settings, place, mount_path)
        self.label = label
        """Precedes the names of its reactors; empty: the service has one app."""
        self._terminal = TerminalLoan()
        self._preload: Preload | None = None
        if settings.preload == "on":
            adopt_forked_reactors()
            self._preload = Preload(
                loop,
                lambda fd: self._command.make(fd, "zygote", multiprocess=False, zygote=True),
                place.enter,
            )
        self._serving: list[Reactor] = []
        self._next = NextGeneration(self)
        self._replacement = Replacement(
            loop, self, lambda: not self._next.starting and not self._stopping
        )
        self._retirement = Retirement(
            loop,
            graceful_timeout=settings.graceful_timeout,
            event_stream_grace=settings.event_stream_grace,
            websocket_drain=settings.ws_drain,
        )
        self.started = 0
        """How many processes were started, ever."""
        self.deaths = 0
        """How many serving reactors have died, ever."""
        self._deaths = 0
        """How many reactors died young in a row."""
        self._failed_starts = 0
        """How many of them were never ready, since one was."""
        self._ever_ready = False
        """A reactor has been ready since the start of the service."""
        self._runtime_reason = ""
        """The reason for the runtime that was last logged."""
        self._start_errors: dict[Reactor, tuple[str, str | None]] = {}
        """Why reactors that are about to exit could not start: a line, and a traceback if any."""
        self._stopping = False

    # What the operator asks for ------------------------------------------------------------------

    def start(self) -> None:
        """Start the first generation. Raises OperatorError if the kernel refuses."""
        for _ in range(self.wanted):
            try:
                self._serving.append(self.spawn(self.generation))
            except OSError as error:
                raise OperatorError(f"cannot start a reactor: {explain(error)}") from error

    @property
    def serving(self) -> list[Reactor]:
        """The reactors that take exchanges, or will once they are ready."""
        return list(self._serving)

    def at_work(self) -> list[Reactor]:
        """Return the reactors that may run exchanges: those that are ready or retiring."""
        ready = [reactor for reactor in self.reactors if reactor.state is READY]
        return [*ready, *self._retirement.reactors]

    @property
    def reloading(self) -> bool:
        """Whether a reload is in progress."""
        return self._next.starting

    @property
    def reload_failure(self) -> str | None:
        """Why the last reload failed; None if it did not."""
        return self._next.failure

    @property
    def reload_failures(self) -> int:
        """How many reloads have failed since the start of the service."""
        return self._next.failures

    @property
    def reload_details(self) -> str | None:
        """The app's traceback, if the last reload failed and there is one."""
        return self._next.details

    def reload(self, then: Told = ignore_outcome, *, anew: bool = False) -> None:
        """Start the next generation beside the one that serves.

        `then`: called with None once it serves, or with the reason why it does not. `anew`: give up
        a reload that is in progress.
        """
        if self._stopping:
            then("the service is stopping")
            return
        if anew:
            self._give_up_import()
        self._next.begin(then, anew=anew)

    def scale(self, wanted: int) -> None:
        """Change the number of reactors that should serve to `wanted`, at least one."""
        wanted = max(1, wanted)
        if self._stopping or wanted == self.wanted:
            return
        log.info("%sscaling from %d to %d reactors", self.label, self.wanted, wanted)
        self.wanted = wanted
        self.trim()
        self.fill()

    def fill(self) -> None:
        """Start as many reactors as are missing."""
        while not self._stopping and len(self._serving) < self.wanted:
            try:
                self._serving.append(self.spawn(self.generation))
            except OSError as error:
                log.error(
                    "cannot start a reactor: %s; next try in %g s", explain(error), _TRY_AGAIN
                )
                self._later(_TRY_AGAIN, self.fill)
                return

    def trim(self) -> None:
        """Retire the surplus of reactors, first those that are not ready yet."""
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
        name = f"{self.label}reactor {self.started}"
        # Several reactors cannot share the terminal.
        zygote = terminal = None
        if self._preload is not None:
            zygote = self._preload.zygote(serving=generation == self.generation)
        elif self._terminal.exists and self.wanted == 1 and not self.label:
            terminal = self._terminal
        multiprocess = self.wanted > 1
        reactor = Reactor(
            self._loop,
            self,
            name,
            lambda fd: self._command.make(
                fd, name, multiprocess=multiprocess, terminal=terminal is not None
            ),
            directory=self._place.enter(),
            generation=generation,
            express=self._settings.lanes == "express",
            direct=self._settings.answers == "direct",
            terminal=terminal,
            zygote=zygote,
            multiprocess=multiprocess,
        )
        self.reactors.append(reactor)
        if self._settings.start_timeout:
            reactor.on_overdue = lambda: self._start_overdue(reactor)
            self._loop.set_deadline(reactor, self._settings.start_timeout)
        if reactor.pid:
            self.reactor_started(reactor)
        return reactor

    def reactor_started(self, reactor: Reactor) -> None:
        """Note that a reactor has a process."""
        log.debug("%s (pid %d) starts", reactor.name, reactor.pid)
        self._operation.reactor_started(reactor)

    def _start_overdue(self, reactor: Reactor) -> None:
        seconds = self._settings.start_timeout
        if reactor.at_terminal:
            self._loop.set_deadline(reactor, seconds)
            return
        message = f"the app was not ready after {seconds:g} s; see --start-timeout"
        self._start_errors[reactor] = (message, None)
        log.error("%s: not ready after %g s, killing it", _name(reactor), seconds)
        if self._preload is not None and not reactor.pid:
            self._preload.give_up_on(reactor.name, seconds)
        reactor.kill()

    # What the reactors say -----------------------------------------------------------------------

    def reactor_ready(self, reactor: Reactor) -> None:
        """Let a reactor serve: it has loaded and started the app."""
        self._loop.forget(reactor)
        self._failed_starts = 0
        if self._stopping:
            self._retirement.stop(reactor, 0)
            return
        self._log_ready(reactor)
        if not self._ever_ready:
            self._ever_ready = True
            if len(self._serving) < self.wanted:
                self._later(_TRY_AGAIN, self.fill)
        if reactor in self._next:
            self._next.go_on()
        elif self._replacement.is_successor(reactor):
            self._replacement.ready()
        elif reactor in self._serving:
            self.serve(reactor)
        else:
            # It became ready at the moment when it was given up.
            self._retirement.stop(reactor, 0)

    def _log_ready(self, reactor: Reactor) -> None:
        """Log that a reactor is ready, with its runtime, and the reason for it if that is new."""
        line = f"{reactor.name} (pid {reactor.pid}) is ready: {reactor.interface}"
        if reactor.runtime:
            line += f" on {reactor.runtime}"
        if reactor.runtime_reason != self._runtime_reason:
            self._runtime_reason = reactor.runtime_reason
            line += f", because {reactor.runtime_reason}" if reactor.runtime_reason else ""
        log.info("%s", line)

    def reactor_has_room(self, reactor: Reactor) -> None:
        """Start exchanges that wait: one is over, a capacity changed, or a stall has ended."""
        if self._dispatcher.waiting:
            self._dispatcher.pump()

    def reactor_found_slow(self, route: bytes, seconds: float) -> None:
        """Note that the last request of a route took `seconds`; 0: the route is not slow now."""
        self._dispatcher.standby.told(route, seconds, self._loop.now)

    def reactor_spent(self, reactor: Reactor, why: str) -> None:
        """Replace a reactor. It serves until its successor is ready."""
        if reactor in self._serving and reactor not in self._replacement and not self._stopping:
            log.info("%s (pid %d): %s, replacing it", reactor.name, reactor.pid, why)
            self._replacement.add(reactor)

    def reactor_ended(self, reactor: Reactor) -> None:
        """Give a reactor no more exchanges: its process is about to end."""
        self._dispatcher.remove(reactor)

    def reactor_answered(self, reactor: Reactor) -> None:
        """Note that a reactor has answered a ping."""
        self._heartbeat.answered(reactor)

    def reactor_left(
        self, reactor: Reactor, exchanges: list[Exchange], begun: set[Exchange]
    ) -> None:
        """Retry or fail the exchanges that a dead reactor left. On shutdown all of them fail."""
        if self._stopping:
            # Queued exchanges may still go to the reactors that have not ended.
            self._dispatcher.remove(reactor)
            for exchange in exchanges:
                exchange.requester.answer_failed()
        else:
            self._dispatcher.take_back(reactor, exchanges, begun)

    def reactor_gave_back(self, reactor: Reactor, exchanges: list[Exchange]) -> None:
        """Give exchanges that a reactor gave back to other reactors."""
        self._dispatcher.give_again(exchanges)

    def reactor_failed(self, reactor: Reactor, message: str, details: str | None) -> None:
        """Keep the reason why a reactor could not load or start the app. It exits next."""
        self._start_errors[reactor] = (message, details)
        if self._ever_ready or reactor in self._next:
            log.error("%s: %s%s", reactor.name, message, f"\n{details}" if details else "")

    def reactor_died(self, reactor: Reactor, status: int) -> None:
        """Replace a reactor whose process has ended, as its role demands."""
        self.reactors.remove(reactor)
        start_error = self._start_errors.pop(reactor, None)
        was_retiring = self._retirement.died(reactor)
        self._counters.served_by_the_dead += reactor.served
        if reactor.pid:
            self._operation.reactor_exited(reactor, status)
        if self._stopping:
            log.debug("%s (pid %d) %s", reactor.name, reactor.pid, _how(status))
            self._operation.reactor_ended()
            return
        lived = self._loop.now - reactor.started
        ended = _how(status) if reactor.pid else "was given up before it had a process,"
        how = f"{_name(reactor)} {ended} after {lived:.1f} s"
        if reactor in self._serving:
            self._serving.remove(reactor)
            self._replacement.died(reactor)
            if self._ever_ready:
                log.error("%s", how)
                self.deaths += 1
                self._replace_dead(reactor, lived, status, gave_up=start_error is not None)
            elif not self._serving and not self._next.starting:
                message, details = start_error or (f"the reactor {_how(status)} at its start", None)
                self._operation.fail(OperatorError(message), details)
        elif reactor in self._next:
            self._next.died(reactor, *(start_error or (how, None)))
        elif self._replacement.is_successor(reactor):
            self._replacement.failed(how)
        elif was_retiring:
            log.error("%s, before it had finished its exchanges", how)
        else:
            log.debug("%s", how)

    def _replace_dead(self, reactor: Reactor, lived: float, status: int, *, gave_up: bool) -> None:
        """Start a reactor for a dead one, after a backoff if reactors keep dying young.

        The backoff is shorter for a reactor that had been ready than for one that never was. It is
        shortest where the replacement is only forked, and nothing speaks against the app.
        `gave_up`: the app failed to start, or took too long.
        """
        self._deaths = self._deaths + 1 if lived < _YOUNG else 0
        if self._deaths < 2:
            self.fill()
            return
        if status == -signal.SIGKILL and self._forks and not gave_up:
            pause = _AFTER_KILL.pause(self._deaths - 1)
        elif reactor.interface:
            pause = _AFTER_DEATH.pause(self._deaths - 1)
        else:
            self._failed_starts += 1
            pause = AFTER_FAILED_START.pause(self._failed_starts)
        log.warning("%s: its replacement starts in %g s", reactor.name, pause)
        self._later(pause, self.fill)

    @property
    def _forks(self) -> bool:
        """Whether a zygote is ready to fork the next reactor."""
        return self._preload is not None and self._preload.ready

    # Reloads -------------------------------------------------------------------------------------

    def take_over(self, successors: list[Reactor]) -> None:
        """Let the next generation, which is ready, serve, and retire the present one."""
        old, self._serving = self._serving, successors
        self.generation += 1
        if self._preload is not None:
            self._preload.take_over()
        self._deaths = 0
        if (successor := self._replacement.end()) is not None:
            old.append(successor)
        log.info(
            "%sgeneration %d serves; generation %d retires",
            self.label,
            self.generation,
            self.generation - 1,
        )
        for reactor in self._serving:
            self.serve(reactor)
        for reactor in old:
            self.retire(reactor)
        self.trim()
        self.fill()

    def reload_begins(self) -> None:
        """Tell the operator that a reload has begun."""
        self._operation.reload_begins()

    def reload_ended(self) -> None:
        """Tell the operator that a reload has ended."""
        self._give_up_import()
        self._operation.reload_ended()

    def _give_up_import(self) -> None:
        """End the zygote of the next generation, if there is one."""
        if self._preload is not None:
            self._preload.give_up_next()

    def replace_next(self) -> None:
        """Resume the replacement of spent reactors, which waited for the reload."""
        self._replacement.go_on()

    # What the parts need -------------------------------------------------------------------------

    def expect(self, reactor: Reactor) -> None:
        """Count a reactor as one that serves. It may still have to become ready."""
        self._serving.append(reactor)

    def serve(self, reactor: Reactor) -> None:
        """Give exchanges to a reactor that is ready."""
        self._operation.serves(reactor.interface)
        self._dispatcher.add(reactor)

    def retire(self, reactor: Reactor) -> None:
        """Let a reactor finish its exchanges within --graceful-timeout, then stop it."""
        if reactor in self._serving:
            self._serving.remove(reactor)
        self._replacement.retires(reactor)
        self._dispatcher.remove(reactor)
        if reactor.state is STARTING:
            reactor.kill()
        elif reactor.state is READY:
            self._retirement.begin(reactor)

    # The end -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """The number of exchanges whose app is not done."""
        return sum(reactor.in_flight for reactor in self.reactors)

    @property
    def websockets(self) -> int:
        """The number of WebSockets whose app is not done."""
        return sum(reactor.websockets for reactor in self.reactors)

    def close_websockets(self, code: int, seconds: float) -> None:
        """Close the WebSockets of all reactors with `code`, spread over so many seconds."""
        for reactor in self.reactors:
            reactor.open_websockets.close(code, seconds)

    def end_event_streams(self, seconds: float) -> None:
        """End the event streams of all reactors from so many seconds from now on."""
        for reactor in self.reactors:
            self._retirement.streams.end_after(reactor, seconds)

    def stop(self, seconds: float, *, end_children: bool = True) -> None:
        """Stop every reactor. Each app has `seconds` to shut down.

        `end_children`: children of apps that are left in the process groups of reactors end too.
        """
        self._stopping = True
        self._retirement.service_stops()
        self._next.cancel("the service is stopping")
        for reactor in self.reactors:
            reactor.ends_children = end_children
            if reactor.state is STARTING:
                reactor.kill()
            else:
                self._retirement.stop(reactor, seconds)
        if self._preload is not None:
            self._preload.end()

    def kill(self) -> None:
        """Kill every reactor."""
        self._stopping = True
        for reactor in self.reactors:
            reactor.kill()
        if self._preload is not None:
            self._preload.end()

    def bury(self) -> None:
        """Kill every reactor, and return when the processes have ended, or after _GONE_WITHIN.

        A parent that waits for this process may then start another service on the same files and
        ports.
        """
        self.kill()
        until = monotonic() + _GONE_WITHIN
        for reactor in self.reactors:
            reactor.see_dead(max(0.0, until - monotonic()))
            status = reactor.exit_status
            if status is not None:
                self._operation.reactor_exited(reactor, status)
            self._terminal.reclaim(reactor.pid)
        if self._preload is not None:
            self._preload.see_dead(max(0.0, until - monotonic()))

    @property
    def zygotes(self) -> list[Zygote]:
        """The zygotes whose process has not ended."""
        return [] if self._preload is None else self._preload.alive

    @property
    def forking(self) -> bool:
        """Whether a child may be a reactor whose number is unknown yet."""
        return self._preload is not None and self._preload.forking


def _name(reactor: Reactor) -> str:
    """Return the name of a reactor and its process number, if it has one, for the log."""
    return f"{reactor.name} (pid {reactor.pid})" if reactor.pid else reactor.name


def _how(status: int) -> str:
    """Return how a process ended, for the log."""
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
