"""The process of a reactor, as the kernel knows it: its number, its signals, its end.

It is a child of the front end. The front end's loop is told of its end by a pidfd.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from reactor_run.dump import DUMP
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["ChildProcess", "Command", "ForkedChild", "execute"]


class ForkedChild:
    """A child that a zygote has forked for us. It offers what `subprocess.Popen` does."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Block until it has ended, and return the exit status, negative for a signal.

        Raises subprocess.TimeoutExpired after `timeout` seconds, and OSError.
        """
        if self.returncode is None:
            if timeout is not None:
                self._await(timeout)
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _await(self, timeout: float) -> None:
        descriptor = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(timeout * 1000):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        """Kill it, unless `wait` has taken its status."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


class Command(NamedTuple):
    """A command line, and the variables that its process gets beside those of our environment."""

    words: Sequence[str]
    variables: Mapping[str, str]


def execute(
    command: Command, inherited: int, *, terminal: bool, directory: str | None
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a process group. Raises OSError.

    `inherited`: a descriptor that it inherits. `terminal`: it gets our standard input, otherwise
    /dev/null. `directory`: where it starts; None: the current directory.
    """
    return subprocess.Popen(
        command.words,
        pass_fds=[inherited],
        stdin=None if terminal else subprocess.DEVNULL,
        process_group=0,
        cwd=directory,
        env={**os.environ, **command.variables},
    )


class ChildProcess:
    """A process that leads a process group. The children of the app are in the group."""

    def __init__(
        self,
        loop: Loop,
        child: subprocess.Popen[bytes] | ForkedChild,
        on_exit: Callable[[int], None],
    ) -> None:
        """`child`: it was just started. `on_exit`: called with epoll events when it has ended,
        until `end` is called. Raises OSError; then the process is killed."""
        self.pid = child.pid
        self._child = child
        self._loop = loop
        with ExitStack() as undo:
            undo.callback(child.wait)
            undo.callback(child.kill)
            self._pidfd = os.pidfd_open(self.pid)
            undo.callback(os.close, self._pidfd)
            loop.watch(self._pidfd, select.EPOLLIN, on_exit)
            undo.pop_all()

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None until `wait` has taken it."""
        return self._child.returncode

    def wait(self, seconds: float | None = None) -> int:
        """Block until it has ended, and return the exit status. Raises subprocess.TimeoutExpired
        after `seconds`."""
        return self._child.wait(seconds)

    def dump(self) -> None:
        """Have it write its stacks."""
        os.kill(self.pid, DUMP)

    def kill(self) -> None:
        """Kill it alone."""
        self._child.kill()

    def signal_group(self, number: int) -> None:
        """Send a signal to it, and to the children of its app in its process group.

        No other process or group can have its number before `wait` has taken its status.
        """
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def signal_children(self, *, orderly: bool) -> None:
        """Signal the children of its app that are still in its process group. It has ended.

        A reactor that was killed or crashed did not end its daemon children, which would wait for
        it without end: they get SIGKILL. After an exit with status 0, children get SIGTERM if
        `orderly` is set.
        """
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or (ended.si_code, ended.si_status) != (os.CLD_EXITED, 0):
            self.signal_group(signal.SIGKILL)
        elif orderly:
            self.signal_group(signal.SIGTERM)

    def end(self) -> None:
        """Watch it no more."""
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)

    def abandon(self) -> None:
        """Kill it and watch it no more: another part of its start has failed."""
        self.end()
        self._child.kill()
        self._child.wait()
