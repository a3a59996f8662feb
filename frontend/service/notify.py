"""Messages to the service manager: sd_notify(3), by datagrams alone.

This file owns the variables of systemd that name the manager's socket and the watchdog's interval
(sd_watchdog_enabled(3)). It knows no other part of the service: others call it, and `describe`
gives the figures. Without a manager every call does nothing.

The front end's loop feeds the watchdog, so the watchdog fires only if that loop stalls. The front
end itself handles reactors that stall or die: they are no reason to end the service.
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
"""Seconds between two checks of the figures. The watchdog may make them shorter."""
_LATE: Final = 1.0
"""Seconds by which a deadline of the loop may be late, on the average. Twice as many are
possible."""
_WATCHDOG_MIN: Final = 3.0
"""Fewest seconds of `WatchdogSec=`. A late deadline could miss a shorter one."""


class Notifier:
    """The connection to the service manager."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take the manager's variables out of `environ`, because no child may use them.

        Raises OperatorError if a variable is malformed.
        """
        self.deadline = self.check_at = inf
        self._loop: Loop | None = None
        self._describe: Callable[[], str] = str
        self._described = ""
        self._unsent: list[str] = []
        self._deaf = False
        """No manager received a message, and that was logged."""
        address = environ.pop("NOTIFY_SOCKET", "")
        watchdog = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": watchdog[0]}
        """The variables that were removed, for a process that becomes the service's main
        process."""
        self._address = _address(address)
        self._watchdog = _watchdog(*watchdog) if address else 0.0
        """Seconds in which the manager expects a message. 0: it expects none."""
        self._sock: socket.socket | None = None
        """Open all the time: when descriptors are short, a new socket could not be opened."""
        if address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)

    def attach(self, loop: Loop, describe: Callable[[], str]) -> None:
        """Send the figures of `describe` whenever they change, and feed the watchdog, while `loop`
        runs."""
        if self._sock is not None:
            self._loop = loop
            self._describe = describe
            self.on_deadline()

    def close(self) -> None:
        """Send nothing more. Call it when the loop has ended."""
        if self._loop is not None:
            self._loop.forget(self)
            self._loop = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def on_deadline(self) -> None:
        """Feed the watchdog, send changed figures, and send again what waits."""
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

    # Messages ------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Say that the service has started, or that a reload has ended."""
        self._described = self._describe()
        self._send(f"READY=1\nSTATUS={self._described}")

    def reloading(self) -> None:
        """Say that a reload begins. `ready` ends it, after a failure too."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """Say that the service ends within so many seconds, even if `TimeoutStopSec=` is
        shorter."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def main_pid(self, pid: int) -> None:
        """Say that another process is the service's main process from now on."""
        self._send(f"MAINPID={pid}")

    def _send(self, text: str) -> None:
        """Send a message without waiting, after the messages that wait already."""
        if self._sock is not None:
            self._unsent.append(text)
            self._flush(self._sock)

    def _flush(self, sock: socket.socket) -> None:
        """Send the messages that the manager has room for. The rest waits for the next deadline."""
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
    """Return the socket's address for `NOTIFY_SOCKET`: a path, or `@` and an abstract name."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text and not text.startswith("/"):
        raise OperatorError(
            f"NOTIFY_SOCKET={text} is neither a path nor an abstract name; unset it"
        )
    return text


def _watchdog(usec: str, pid: str) -> float:
    """Return the seconds in which the manager expects a message from this process, else 0."""
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
