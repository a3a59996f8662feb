"""A zygote as the front end sees it: a process that imports the app once and forks reactors.

    IMPORTING   it imports the app; reactors that are wanted wait
    READY       it forks a reactor for each that is wanted
    REFUSED     a fork would break what the import has left: reactors import the app themselves
    ENDED       its process has ended, or is about to: it forks no more reactors

`reactor/zygote.py` is its program. It forks one reactor at a time.
"""

from __future__ import annotations

import select
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import Enum
from time import monotonic
from typing import Final, Protocol

from reactor_run.channel import ControlChannel
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.process import ChildProcess, Command, ForkedChild, execute
from reactor_run.protocol.control import ControlError
from reactor_run.protocol.preload_messages import (
    AppFailed,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    NotForkable,
    Preloaded,
    read_from_zygote,
)

__all__ = ["Wanted", "Zygote", "ZygoteState"]

_APP_FAILED: Final = 3
"""The exit status of a reactor whose app could not be loaded."""
_EXIT_MAX: Final = 2.0
"""Seconds that a process has to exit after it closed its channel."""


class Wanted(Protocol):
    """A process that is to be forked."""

    name: str

    def forked(self, child: ForkedChild) -> None:
        """Take its process."""

    def execute(self, control: socket.socket) -> None:
        """Start its process as without a zygote. `control`: its end of the control channel."""

    def never_born(self, status: int, message: str = "", details: str | None = None) -> None:
        """Note that there will be no process.

        `status`: as if there had been one. `message`, `details`: why, if that is known.
        """


class ZygoteState(Enum):
    """The state of a zygote; the head of this file explains each."""

    IMPORTING = "importing"
    READY = "ready"
    REFUSED = "refused"
    ENDED = "ended"


class _Request:
    """A wanted reactor, and what its process gets."""

    def __init__(self, wanted: Wanted, control: socket.socket, *, multiprocess: bool) -> None:
        self.wanted = wanted
        self.control = control
        self.multiprocess = multiprocess
        self.asked = False
        """The zygote was asked to fork it."""


class Zygote:
    """One zygote, from its start to its end.

    started: when, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        loop: Loop,
        command: Callable[[int], Command],
        directory: str | None,
        on_end: Callable[[Zygote], None],
    ) -> None:
        """Start the process. `command`: makes its command line from the descriptor of its channel.
        `directory`: where it starts; None: the current directory. `on_end`: called when the process
        has ended. Raises OSError."""
        self.state = ZygoteState.IMPORTING
        self._on_end = on_end
        self._loop = loop
        self._why: str | None = None
        """Why it ends, for the reactors that wait; empty: they know. None: it ends by itself."""
        self._requests: dict[str, _Request] = {}
        """The reactors that are wanted and have no process yet, by name, oldest first."""
        self.started = monotonic()
        with ExitStack() as undo:
            self._sock, theirs = socket.socketpair()
            undo.callback(self._sock.close)
            self._channel = ControlChannel[FromZygote](self._sock, read_from_zygote)
            with theirs:
                child = execute(
                    command(theirs.fileno()), theirs.fileno(), terminal=False, directory=directory
                )
            self._process = ChildProcess(loop, child, self._on_exit)
            undo.callback(self._process.abandon)
            loop.watch(self._sock.fileno(), select.EPOLLIN, self._on_events)
            undo.pop_all()
        self.pid = self._process.pid
        log.debug("zygote (pid %d) starts", self.pid)

    @property
    def usable(self) -> bool:
        """Whether it forks reactors, now or when it has imported the app."""
        return self.state in (ZygoteState.IMPORTING, ZygoteState.READY)

    @property
    def forking(self) -> bool:
        """Whether a reactor may exist whose number is unknown to the front end."""
        return any(request.asked for request in self._requests.values())

    def __contains__(self, name: str) -> bool:
        """Whether a reactor waits for its process."""
        return name in self._requests

    def fork(self, wanted: Wanted, control: socket.socket, *, multiprocess: bool) -> None:
        """Have a reactor forked, as soon as the app is imported.

        `control`: its end of the control channel; it is duplicated. `multiprocess`: other reactors
        run the app too. Raises OSError.
        """
        request = _Request(wanted, control.dup(), multiprocess=multiprocess)
        self._requests[wanted.name] = request
        if self.state is ZygoteState.READY:
            try:
                self._ask(request)
            except OSError:
                # No descriptor is free. The caller gives this reactor up.
                self._take(wanted.name)
                raise

    def _ask_later(self, request: _Request) -> None:
        """Have it forked, now that the app is imported; if that fails, it is never born."""
        try:
            self._ask(request)
        except OSError as error:
            wanted = self._take(request.wanted.name)
            if wanted is not None:
                wanted.never_born(_APP_FAILED, f"it cannot be forked: {error.strerror}")

    def withdraw(self, name: str) -> bool:
        """Fork no reactor of this name; return False if it is too late for that."""
        request = self._requests.get(name)
        if request is None or request.asked:
            return False
        self._take(name)
        return True

    def _take(self, name: str) -> Wanted | None:
        request = self._requests.pop(name, None)
        if request is None:
            return None
        request.control.close()
        return request.wanted

    def _ask(self, request: _Request) -> None:
        """Have it forked now. Raises OSError."""
        descriptor = request.control.fileno()
        self._channel.send(Fork(request.wanted.name, request.multiprocess, descriptor), descriptor)
        request.asked = True
        self._watch()

    def _watch(self) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if self._channel.waiting else 0)
        self._loop.modify(self._sock.fileno(), events)

    # What it says --------------------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._channel.flush()
            self._watch()
        if self._read() is None:
            # It ends. The pidfd reports its end, maybe only after a reactor is wanted.
            self._loop.unwatch(self._sock.fileno())
            if self.usable:
                self.state = ZygoteState.ENDED
            self._loop.set_deadline(Timer(self.kill), _EXIT_MAX)

    def _read(self) -> int | None:
        """Read once; return the number of messages, None at the end of the channel."""
        try:
            messages = self._channel.receive()
        except ControlError as error:
            log.error("zygote (pid %d): invalid message (%s), killing it", self.pid, error)
            self.kill()
            return None
        if messages is None:
            return None
        for message in messages:
            self._hear(message)
        return len(messages)

    def _hear(self, message: FromZygote) -> None:
        match message:
            case Preloaded():
                if self.state is ZygoteState.IMPORTING:
                    seconds = monotonic() - self.started
                    log.info("zygote (pid %d) has imported the app in %.1f s", self.pid, seconds)
                    self.state = ZygoteState.READY
                    for request in list(self._requests.values()):
                        self._ask_later(request)
            case NotForkable(reasons):
                self.state = ZygoteState.REFUSED
                self._why = ""
                log.warning(
                    "the app cannot be preloaded, so each reactor imports it: the import leaves "
                    "%s; see docs/preload.md",
                    ", ".join(reasons),
                )
                for request in list(self._requests.values()):
                    with request.control:
                        del self._requests[request.wanted.name]
                        request.wanted.execute(request.control)
            case AppFailed(line, details):
                self.state = ZygoteState.ENDED
                self._why = ""
                self._fail_all(_APP_FAILED, line, details)
            case Forked(name, pid):
                wanted = self._take(name)
                if wanted is not None:
                    wanted.forked(ForkedChild(pid))
            case ForkFailed(name, line, details):
                wanted = self._take(name)
                if wanted is not None:
                    wanted.never_born(_APP_FAILED, line, details)

    def _fail_all(self, status: int, message: str = "", details: str | None = None) -> None:
        for name in list(self._requests):
            wanted = self._take(name)
            if wanted is not None:
                wanted.never_born(status, message, details)

    # The end -------------------------------------------------------------------------------------

    def on_fault(self) -> None:
        """Kill it after an internal error: some of its messages may be lost."""
        self.kill()

    def kill(self) -> None:
        """Kill it. Reactors that have no process yet are never born."""
        self._process.kill()

    def end(self, why: str = "") -> None:
        """Kill it, and fork no more reactors. `why`: the reason, for the reactors that wait; empty:
        its generation needs no more of them."""
        if self.state is not ZygoteState.REFUSED:
            self.state = ZygoteState.ENDED
        self._why = why
        self.kill()

    def give_up(self, why: str) -> None:
        """Kill it: it hangs, or takes too long. `why`: for the log."""
        log.error("zygote (pid %d): %s, killing it", self.pid, why)
        self.end("the zygote took too long")

    def _on_exit(self, _: int) -> None:
        while self._read():
            pass
        status = self._process.wait()
        if self._why is None:
            killed = status < 0
            how = f"was killed by signal {-status}" if killed else f"exited with status {status}"
            log.error("zygote (pid %d) %s", self.pid, how)
            self._why = f"the zygote {how}"
        if self.state is not ZygoteState.REFUSED:
            self.state = ZygoteState.ENDED
        self._process.end()
        self._loop.unwatch(self._sock.fileno())
        self._channel.give_up()
        self._loop.bury(self._sock)
        self._on_end(self)
        self._fail_all(status, self._why)

    def see_dead(self, seconds: float) -> None:
        """Kill it, with the children that the app's import has left. Block until it has ended, for
        at most `seconds`. The loop runs no more."""
        self._process.signal_group(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.end()
        self._loop.unwatch(self._sock.fileno())
        self._channel.give_up()
        self._sock.close()
        for name in list(self._requests):
            self._take(name)
