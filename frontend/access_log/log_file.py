"""Where lines go: a file, or standard output. A write never waits.

What the kernel does not take waits in memory, up to WAITING_MAX. Beyond that lines are lost and
counted. A warning says when the kernel takes no more, and how many lines were lost.

Pipes, terminals and FIFOs are opened anew with O_NONBLOCK: to set it on the inherited descriptor
would set it for all processes that share it. What cannot be opened anew is written in pieces that a
ready pipe takes whole. A regular file takes bytes into the kernel's memory, or fails.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["STDOUT", "WAITING_MAX", "LogFile"]

STDOUT: Final = "-"
"""The path that means standard output."""
WAITING_MAX: Final = 1 << 20
"""Most bytes of lines that wait for the reader of a pipe, or for space on the disk."""

_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MODE: Final = 0o666
"""The permissions of a new file, without those that the umask takes away."""
_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes without waiting if it is ready at all (pipe(7))."""
_AGAIN: Final = 0.5
"""Seconds until a file that took no bytes is tried again."""
_QUIET: Final = 60.0
"""Fewest seconds between two warnings."""


class LogFile:
    """A file that takes lines."""

    def __init__(self, loop: Loop, path: str) -> None:
        """`path`: STDOUT, or the file to append to, which may be missing. Raises OSError."""
        self.path = path if path == STDOUT else os.path.abspath(path)
        self.lost = 0
        """Lines that were lost since the start."""
        self.deadline = self.check_at = inf
        self._loop = loop
        self._waiting: deque[tuple[bytes, int]] = deque()
        """Bytes that the kernel has not taken, with the number of lines that end in them."""
        self._size = 0
        """The bytes in `_waiting`."""
        self._reason = ""
        """Why the last write failed."""
        self._untold = 0
        """Lines that were lost since the last warning."""
        self._warned_at = -inf
        self._watched = False
        self._socket: socket.socket | None = None
        """Standard output, if it is a socket."""
        self._fd, self._send = self._open()

    # Files ---------------------------------------------------------------------------------------

    def _open(self) -> tuple[int, Callable[[bytes], int]]:
        """Return a descriptor, and what writes to it without waiting. Raises OSError."""
        if self.path != STDOUT:
            fd = os.open(self.path, _OPEN | os.O_CREAT, _MODE)
            return fd, lambda data: os.write(fd, data)
        mode = os.fstat(1).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISSOCK(mode):
            try:
                fd = os.open("/proc/self/fd/1", _OPEN)
                return fd, lambda data: os.write(fd, data)
            except OSError:
                # It may belong to another user.
                pass
        fd = os.dup(1)
        if stat.S_ISREG(mode):
            # Other processes write to it too, and share its offset.
            return fd, lambda data: os.write(fd, data)
        if stat.S_ISSOCK(mode):
            # It does not own the descriptor, so that each kind of file is closed alike.
            self._socket = socket.socket(fileno=fd)
            return fd, partial(_send_now, self._socket)
        return fd, lambda data: _write_if_ready(fd, data)

    def reopen(self) -> str | None:
        """Open the file by its name again, after a rotation; return why that failed, or None.

        After a failure the old file stays in use.
        """
        if self.path == STDOUT:
            return None
        try:
            fd, send = self._open()
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        # Lines that wait are written to the new file, unless the old one takes them now.
        self._flush()
        self._unwatch()
        os.close(self._fd)
        self._fd, self._send = fd, send
        self._flush()
        return None

    def close(self) -> None:
        """Write what the kernel takes now, and close the file."""
        self._flush()
        self._lose_waiting()
        if self._untold:
            self._warned_at = -inf
            self._warn()
        self._unwatch()
        self._loop.forget(self)
        if self._socket is not None:
            self._socket.detach()
        os.close(self._fd)

    # Lines ---------------------------------------------------------------------------------------

    def write(self, data: bytes, lines: int) -> None:
        """Write `lines` whole lines, or keep what the kernel does not take, or lose them."""
        if self._size:
            if self._size + len(data) <= WAITING_MAX:
                self._keep(data, lines)
            else:
                self._lose(lines)
            return
        sent = self._try(data)
        if sent == len(data):
            return
        if sent < 0:
            self._lose(lines)
            return
        self._keep(data[sent:], lines)
        self._flush()

    def _try(self, data: bytes) -> int:
        """Return how many bytes the kernel took; -1 if there is no reader to wait for."""
        try:
            return self._send(data)
        except BlockingIOError:
            self._reason = "its reader is slow"
        except (BrokenPipeError, ConnectionError):
            self._reason = "it has no reader"
            return -1
        except OSError as error:
            self._reason = str(error.strerror)
        return 0

    def _keep(self, data: bytes, lines: int) -> None:
        self._waiting.append((data, lines))
        self._size += len(data)

    def _flush(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        waiting = self._waiting
        while waiting:
            data, lines = waiting[0]
            sent = self._try(data)
            if sent < 0:
                self._lose_waiting()
                break
            if not sent:
                self._wait()
                return
            self._size -= sent
            if sent < len(data):
                # The next try tells why.
                waiting[0] = data[sent:], lines
            else:
                waiting.popleft()
        self._unwatch()
        self._loop.forget(self)
        if self._untold:
            self._warn()

    def _wait(self) -> None:
        """Try again when the file takes bytes, or in a while if the kernel cannot tell."""
        if self._watched:
            return
        try:
            self._loop.watch(self._fd, select.EPOLLOUT, self._on_events)
            self._watched = True
        except PermissionError:
            # epoll does not watch regular files.
            self._loop.set_deadline(self, _AGAIN)
            self._warn()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.unwatch(self._fd)

    def _on_events(self, _: int) -> None:
        self._flush()

    def on_deadline(self) -> None:
        """Try a file again that took no bytes."""
        self._flush()

    # Losses --------------------------------------------------------------------------------------

    def _lose(self, lines: int) -> None:
        self.lost += lines
        self._untold += lines
        self._warn()

    def _lose_waiting(self) -> None:
        lines = sum(lines for _, lines in self._waiting)
        self._waiting.clear()
        self._size = 0
        if lines:
            self._lose(lines)

    def _warn(self) -> None:
        """Log why lines cannot be written and how many were lost, at most every _QUIET seconds."""
        now = self._loop.now
        if now < self._warned_at + _QUIET:
            return
        self._warned_at = now
        log.warning(
            "access log: %s takes no more (%s), %d lines were lost",
            "standard output" if self.path == STDOUT else self.path,
            self._reason,
            self._untold,
        )
        self._untold = 0


def _send_now(sock: socket.socket, data: bytes) -> int:
    """Send to a socket that may be in blocking mode. Raises BlockingIOError."""
    return sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _write_if_ready(fd: int, data: bytes) -> int:
    """Write a piece to a pipe or terminal in blocking mode. Raises BlockingIOError."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(fd, data[:_PIECE])
