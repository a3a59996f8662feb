"""How a reactor gets its process: by its command at once, or later from a zygote.

Until a zygote has forked it, there is no process, and maybe there never will be one. The reactor
can be killed all the same. This file does not know what the process does.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Protocol

from reactor_run.frontend.launch import explain
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.process import ChildProcess, Command, ForkedChild, execute
from reactor_run.frontend.reactors.zygote import Zygote

__all__ = ["Birth", "Born"]


class Born(Protocol):
    """A reactor, as its birth knows it."""

    name: str

    def born(self) -> None:
        """Note that it has a process, which a zygote had to fork first."""

    def never_born(self, status: int, message: str, details: str | None) -> None:
        """Note that there will be no process.

        `status`: as if there had been one. `message`, `details`: why; empty: it was not wanted.
        """

    def exited(self, process: ChildProcess) -> None:
        """Note that its process has ended. This is called again until the process is let go."""


class Birth:
    """The process of one reactor, from the wish for it on."""

    def __init__(
        self,
        loop: Loop,
        reactor: Born,
        command: Callable[[int], Command],
        *,
        directory: str | None,
        on_terminal: bool,
        zygote: Zygote | None,
    ) -> None:
        """`command`: makes its command line from the descriptor of its control channel.
        `directory`: where it starts; None: the current directory. `on_terminal`: it gets our
        standard input. `zygote`: forks it; None: its command is executed.
        """
        self.name = reactor.name
        self.process: ChildProcess | None = None
        """None: there is none yet."""
        self._loop = loop
        self._reactor = reactor
        self._command = command
        self._directory = directory
        self._on_terminal = on_terminal
        self._zygote = zygote
        self._unwanted = False
        """It is to be killed as soon as it is forked."""

    @property
    def pid(self) -> int:
        """The number of the process; 0: there is none yet."""
        return 0 if self.process is None else self.process.pid

    def start(self, control: socket.socket) -> ChildProcess:
        """Execute its command. `control`: its end of the control channel. Raises OSError."""
        descriptor = control.fileno()
        child = execute(
            self._command(descriptor),
            descriptor,
            terminal=self._on_terminal,
            directory=self._directory,
        )
        self.process = ChildProcess(self._loop, child, self._on_exit)
        return self.process

    def ask_zygote(self, control: socket.socket, *, multiprocess: bool) -> None:
        """Have it forked. `multiprocess`: other reactors run the app too. Raises OSError."""
        assert self._zygote is not None
        self._zygote.fork(self, control, multiprocess=multiprocess)

    def kill(self) -> None:
        """Kill it, with the children of its app in its process group, or do not let it begin."""
        if self.process is not None:
            self.process.signal_group(signal.SIGKILL)
        elif self._zygote is not None and self._zygote.withdraw(self.name):
            # The caller may not expect the end within this call.
            self._loop.defer(lambda: self.never_born(-signal.SIGKILL))
        else:
            self._unwanted = True

    def dump(self) -> None:
        """Have it write its stacks, if there is a process."""
        if self.process is not None:
            self.process.dump()

    def see_dead(self, seconds: float) -> None:
        """Block until it has ended, for at most `seconds`."""
        try:
            if self.process is not None:
                self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.error("%s (pid %d): SIGKILL was sent, but it still exists", self.name, self.pid)

    def _on_exit(self, _: int) -> None:
        assert self.process is not None
        self._reactor.exited(self.process)

    # What its zygote says ------------------------------------------------------------------------

    def forked(self, child: ForkedChild) -> None:
        """Take the process that the zygote has forked."""
        try:
            self.process = ChildProcess(self._loop, child, self._on_exit)
        except OSError as error:
            self.never_born(-signal.SIGKILL, f"it cannot be watched: {error.strerror}")
            return
        self._reactor.born()
        if self._unwanted:
            self.kill()

    def execute(self, control: socket.socket) -> None:
        """Start the process by its command: the app cannot be preloaded."""
        self._zygote = None
        try:
            self.start(control)
        except OSError as error:
            self.never_born(1, f"it cannot be started: {explain(error)}")
        else:
            self._reactor.born()

    def never_born(self, status: int, message: str = "", details: str | None = None) -> None:
        """Note that there will be no process.

        `status`: as if there had been one. `message`, `details`: why, if that is known.
        """
        self._reactor.never_born(status, "" if self._unwanted else message, details)
