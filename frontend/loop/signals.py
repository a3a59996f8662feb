"""Signals as events of the loop, and the terminal that sends some of them."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from math import inf
from typing import Final

from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["Signals", "Terminal", "has_terminal"]

_NUMBERS: Final = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
)
_CLOSING: Final = 5.0
"""Seconds after the end of a shell in which a SIGHUP can still come from the closing terminal."""


class Signals:
    """A context manager in which signals only call `on_signal` with their number.

    SIGHUP stays ignored if it was ignored at the start: `nohup` asks for it so. Shells also have
    their background jobs ignore SIGINT; that is handled all the same.
    """

    def __init__(self, loop: Loop, on_signal: Callable[[int], None]) -> None:
        self._loop = loop
        self._on_signal = on_signal

    def __enter__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        numbers = set(_NUMBERS)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            log.info("SIGHUP is ignored, as it was at the start: `reactor-run reload` reloads")
            numbers.remove(signal.SIGHUP)
        self._before = {
            number: signal.signal(number, lambda number, frame: None) for number in numbers
        }
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._loop.watch(self._ours.fileno(), select.EPOLLIN, self._on_events)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._loop.unwatch(self._ours.fileno())
        self._ours.close()
        self._theirs.close()

    def _on_events(self, _: int) -> None:
        for number in self._ours.recv(64):
            self._on_signal(number)


class Terminal:
    """The terminal in which this process was started, if there is one; a context manager.

    A SIGHUP that comes as the terminal is closed means stop. A later SIGHUP, to a process that its
    shell has disowned, comes from an operator.
    """

    def __init__(self, loop: Loop) -> None:
        """Make it at the start: later the terminal may be gone."""
        self._loop = loop
        self._is_ours = has_terminal()
        self._shell = -1
        """A pidfd of the leader of the session, mostly a shell; -1 after its end."""
        self._shell_ended = inf
        """When the leader ended, in seconds of the loop's clock."""

    def __enter__(self) -> Terminal:
        leader = os.getsid(0)
        if self._is_ours and leader != os.getpid():
            try:
                self._shell = os.pidfd_open(leader)
            except OSError:
                # The leader has ended, or lives in another process namespace (its number is 0
                # then).
                return self
            self._loop.watch(self._shell, select.EPOLLIN, self._on_end)
        return self

    def __exit__(self, *_: object) -> None:
        self._forget_shell()

    def _on_end(self, _: int) -> None:
        self._shell_ended = self._loop.now
        self._forget_shell()

    def _forget_shell(self) -> None:
        if self._shell != -1:
            self._loop.unwatch(self._shell)
            os.close(self._shell)
            self._shell = -1

    @property
    def closes(self) -> bool:
        """Whether a SIGHUP that comes now comes from the terminal, because it was closed."""
        if not self._is_ours or has_terminal():
            return False
        return self._loop.now - self._shell_ended < _CLOSING


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
