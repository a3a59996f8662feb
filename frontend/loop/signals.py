"""Signals as events of the loop, while it lasts."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Final

from reactor_run.frontend.loop.epoll import Loop

__all__ = ["Signals", "has_terminal"]

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


class Signals:
    """A context manager in which signals do nothing but call `on_signal` with their number."""

    def __init__(self, loop: Loop, on_signal: Callable[[int], None]) -> None:
        self._loop = loop
        self._on_signal = on_signal

    def __enter__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._before = {
            number: signal.signal(number, lambda number, frame: None) for number in _NUMBERS
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


def has_terminal() -> bool:
    """Whether this process has a terminal to be controlled from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
