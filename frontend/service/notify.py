"""What the service manager is told: sd_notify(3), by datagrams alone.

Owns the variables by which systemd says where to, and how often it wants a sign of life
(sd_watchdog_enabled(3)). Knows nothing of what goes on: it is told, or asks `describe`. Where no
manager listens, every call does nothing.

The watchdog is fed by the front end's loop, and so only while that turns. Reactors that hang or
die are the front end's own business, and no reason to end the service.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from math import inf
from time import monotonic_ns
from typing import Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["Notifier"]

_PERIOD: Final = 5.0
"""Seconds between two looks at the figures; shorter if the watchdog wants it."""
_LATE: Final = 1.0
"""Seconds by which the loop's deadlines are late, on the average; they may be twice as late."""
_WATCHDOG_MIN: Final = 3.0
"""Seconds; a shorter `WatchdogSec=` could be missed by that."""


class Notifier:
    """The way to the service manager."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take the manager's variables out of `environ`: no child is to use them.

        Raises OperatorError if they make no sense.
        """
        self.deadline = self.check_at = inf
        self._loop: Loop | None = None
        self._describe: Callable[[], str] = str
        self._described = ""
        self._unsent: list[str] = []
        self._deaf = False
        """Nobody was there to be told, which was logged."""
        address = environ.pop("NOTIFY_SOCKET", "")
        watchdog = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": watchdog[0]}
        """What was taken, for a process that is to become the service's main one."""
        self._address = _address(address)
        self._watchdog = _watchdog(*watchdog) if address else 0.0
        """Seconds within which the manager wants a sign of life; 0: it wants none."""
        self._sock: socket.socket | None = None
        """Open all the time: one that is needed when files run out could not be had."""
        if address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)

    def attach(self, loop: Loop, describe: Callable[[], str]) -> None:
        """From now on tell the figures that `describe` gives when they change, and feed the
        watchdog, as long as the loop turns."""
        if self._sock is not None:
            self._loop = loop
            self._describe = describe
            self.on_deadline()

    def close(self) -> None:
        """The loop has ended."""
        if self._loop is not None:
            self._loop.forget(self)
            self._loop = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def on_deadline(self) -> None:
        """Feed the watchdog, tell the figures if they have changed, send what could not be sent."""
        if self._loop is None or self._sock is None:
            return
        self._flush(self._sock)
        lines = ["WATCHDOG=1"] if self._watchdog else []
        described = self._describe()
        if described != self._described:
            self._described = described
            lines.append(f"STATUS={described}")
        if lines and not self._unsent:
            self._send("\n".join(lines))
        period = min(_PERIOD, self._watchdog / 2 - _LATE) if self._watchdog else _PERIOD
        self._loop.set_deadline(self, period)

    # What is told --------------------------------------------------------------------------------

    def ready(self) -> None:
        """The service has started, or has reloaded."""
        self._described = self._describe()
        self._send(f"READY=1\nSTATUS={self._described}")

    def reloading(self) -> None:
        """A reload begins; `ready` is its end, whether or not it went well."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """The service ends, which may take so long, however short `TimeoutStopSec=` is."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def main_pid(self, pid: int) -> None:
        """From now on another process is the service's main one."""
        self._send(f"MAINPID={pid}")

    def _send(self, text: str) -> None:
        """Send it without waiting, behind what waits already."""
        if self._sock is not None:
            self._unsent.append(text)
            self._flush(self._sock)

    def _flush(self, sock: socket.socket) -> None:
        """Send what the manager has room for; the rest waits for the next deadline."""
        try:
            while self._unsent:
                sock.sendto(self._unsent[0].encode(), self._address)
                del self._unsent[0]
        except BlockingIOError:
            pass
        except OSError as error:
            self._unsent.clear()
            if not self._deaf:
                self._deaf = True
                log.warning("cannot send to the service manager: %s", error.strerror)


def _address(text: str) -> str | bytes:
    """The socket's address: a path, or `@` and a name in the abstract namespace."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text and not text.startswith("/"):
        raise OperatorError(
            f"NOTIFY_SOCKET={text} is neither a path nor an abstract name; unset it"
        )
    return text


def _watchdog(usec: str, pid: str) -> float:
    """Seconds within which the manager wants a sign of life from this very process, else 0."""
    if not usec:
        return 0.0
    if not usec.isdecimal() or not (pid or "0").isdecimal():
        raise OperatorError(f"WATCHDOG_USEC={usec} and WATCHDOG_PID={pid} are not numbers")
    if pid and int(pid) != os.getpid():
        return 0.0
    seconds = int(usec) / 1_000_000
    if seconds < _WATCHDOG_MIN:
        raise OperatorError(
            f"WatchdogSec={seconds:g} is too short; use at least {_WATCHDOG_MIN:g} s, better 30 s"
        )
    return seconds
