"""Keeps as many reactors running as were asked for: starts, replaces, stops them.

A reactor that dies is replaced at once; one that dies young, again and again, is replaced after a
pause that doubles, so that a broken app does not burn the machine.
"""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import log
from reactor_run.frontend.reactor import LEAVING, READY, STARTING, Reactor
from reactor_run.frontend.settings import Settings

if TYPE_CHECKING:
    from reactor_run.frontend.server import Server

__all__ = ["Supervisor"]

_YOUNG: Final = 10.0
"""Seconds; a reactor that dies before is replaced with a pause."""
_PAUSE_MAX: Final = 30.0
_TRY_AGAIN: Final = 1.0
"""Seconds until a reactor is started that could not be."""
_KILL_AFTER: Final = 2.0
"""Seconds that a reactor has to exit, beyond what its app was given to shut down."""


class _Pause:
    """A replacement that waits."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.deadline = self.check_at = inf
        self._supervisor = supervisor

    def on_deadline(self) -> None:
        self._supervisor.replace()


class Supervisor:
    """The reactors of one service."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.reactors: list[Reactor] = []
        self._server = server
        self._settings = settings
        self._started = 0
        self._deaths = 0
        """Young ones in a row."""
        self._ever_ready = False
        self._failure: tuple[str, str | None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Start all of them. Raises OperatorError."""
        for _ in range(self._settings.reactors):
            try:
                self._spawn()
            except OSError as error:
                raise OperatorError(f"cannot start a reactor: {error.strerror}") from error

    def replace(self) -> None:
        """Start what is missing."""
        wanted = 0 if self._stopping else self._settings.reactors
        while len(self.reactors) < wanted:
            try:
                self._spawn()
            except OSError as error:
                log.error("cannot start a reactor: %s; trying again", error.strerror)
                self._server.loop.set_deadline(_Pause(self), _TRY_AGAIN)
                return

    def _spawn(self) -> None:
        self._started += 1
        name = f"reactor {self._started}"
        reactor = Reactor(
            self._server.loop,
            self,
            name,
            lambda fd: self._command(fd, name),
            express=self._settings.lanes == "express",
        )
        self.reactors.append(reactor)
        if self._settings.start_timeout:
            reactor.on_overdue = lambda: self._start_overdue(reactor)
            self._server.loop.set_deadline(reactor, self._settings.start_timeout)
        log.debug("%s starts as process %d", name, reactor.pid)

    def _command(self, control_fd: int, name: str) -> list[str]:
        settings = self._settings
        # -P: what lies in the current directory is the app's, and no part of this server.
        command = [sys.executable, "-P", "-m", "reactor_run.reactor"]
        options = {
            "--control-fd": control_fd,
            "--name": name,
            "--interface": settings.interface,
            "--runtime": settings.runtime,
            "--threads": settings.threads,
            "--concurrency": settings.concurrency,
            "--lifespan": settings.lifespan,
            "--app-dir": settings.app_dir,
            "--root-path": settings.root_path,
            "--lane-proxy": settings.lane_proxy,
            "--log-level": settings.log_level,
        }
        command += [f"{flag}={value}" for flag, value in options.items()]
        if settings.factory:
            command.append("--factory")
        if settings.reactors > 1:
            command.append("--multiprocess")
        return [*command, "--", settings.app]

    # What the reactors say -----------------------------------------------------------------------

    def reactor_ready(self, reactor: Reactor) -> None:
        """It has loaded and started the app."""
        self._server.loop.forget(reactor)
        if self._stopping:
            reactor.stop(0)
            return
        self._server.serves(reactor.interface)
        self._server.dispatcher.add(reactor)
        self._ever_ready = True
        log.info("%s is ready: process %d, %s", reactor.name, reactor.pid, reactor.interface)

    def reactor_has_room(self, reactor: Reactor) -> None:
        """One of its exchanges is over, or its capacity changed."""
        if self._server.dispatcher.waiting:
            self._server.dispatcher.pump()

    def reactor_ended(self, reactor: Reactor) -> None:
        """It takes nothing more."""
        self._server.dispatcher.remove(reactor)

    def reactor_failed(self, reactor: Reactor, message: str, details: str | None) -> None:
        """It could not load or start the app; it exits by itself."""
        self._failure = (message, details)
        if self._ever_ready:
            log.error("%s: %s%s", reactor.name, message, f"\n{details}" if details else "")

    def _start_overdue(self, reactor: Reactor) -> None:
        seconds = self._settings.start_timeout
        self._failure = (
            f"the app was not ready after {seconds:g} seconds; see --start-timeout",
            None,
        )
        log.error("%s was not ready after %g seconds; it is killed", reactor.name, seconds)
        reactor.kill()

    def reactor_died(self, reactor: Reactor, status: int) -> None:
        """Its process has ended."""
        self.reactors.remove(reactor)
        if self._stopping:
            log.debug("%s has left", reactor.name)
            self._server.reactor_left()
            return
        if not self._ever_ready:
            message, details = self._failure or (f"the reactor {_how(status)} as it started", None)
            self._server.fail(OperatorError(message), details)
            return
        lived = self._server.loop.now - reactor.started
        log.error("%s %s after %.1f seconds", reactor.name, _how(status), lived)
        self._deaths = self._deaths + 1 if lived < _YOUNG else 0
        if self._deaths < 2:
            self.replace()
        else:
            pause = min(2.0 ** (self._deaths - 2), _PAUSE_MAX)
            log.warning("its replacement starts in %g seconds", pause)
            self._server.loop.set_deadline(_Pause(self), pause)

    # The end -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Exchanges whose app is not done."""
        return sum(reactor.in_flight for reactor in self.reactors)

    def stop(self, seconds: float) -> None:
        """Have every app shut down, within so many seconds."""
        self._stopping = True
        for reactor in self.reactors:
            if reactor.state == STARTING:
                reactor.kill()
            elif reactor.state in (READY, LEAVING):
                reactor.stop(seconds)
                reactor.on_overdue = reactor.kill
                self._server.loop.set_deadline(reactor, seconds + _KILL_AFTER)

    def kill(self) -> None:
        """End every reactor at once."""
        self._stopping = True
        for reactor in self.reactors:
            reactor.kill()


def _how(status: int) -> str:
    """How a process ended, in words."""
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
