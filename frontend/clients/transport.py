"""The byte stream to one client: a plain socket.

A connection uses only these methods of the socket, so that a TLS stream can replace it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from reactor_run.native import SocketCalls

__all__ = ["Transport"]

_RESET: Final = struct.pack("ii", 1, 0)


class Transport:
    """A non-blocking stream socket. Each call raises OSError once the client is gone.

    recv, recv_into: bytes from the client; BlockingIOError: none now; none at all: FIN.
    send, sendmsg: return how many bytes the kernel took; BlockingIOError: none.

    `share` replaces recv_into and sendmsg, so look them up after it.
    """

    encrypted = False
    """Only this process can write to the client: no other one has the keys."""
    ready = False
    """Bytes are here that no event announces. A plain socket has none."""

    __slots__ = ("_resets", "recv", "recv_into", "send", "sendmsg", "shared", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.shared = False
        """Another process has a duplicate of the socket, which keeps the connection open."""
        self._resets = False
        calls = SocketCalls(sock)
        # Bound once: each request needs them, and a method in between would cost it a call.
        self.recv: Callable[[int], bytes] = calls.recv
        self.recv_into: Callable[..., int] = sock.recv_into
        self.send: Callable[[bytes | memoryview], int] = calls.send
        self.sendmsg: Callable[[Iterable[bytes | memoryview]], int] = sock.sendmsg

    def fileno(self) -> int:
        """Return the descriptor that epoll watches."""
        return self.sock.fileno()

    def share(self) -> None:
        """Get ready for a duplicate of the socket in another process.

        A duplicate shares O_NONBLOCK, and a child of the app may clear it. So each call asks the
        kernel not to wait. `recv` and `send` always do.
        """
        self.shared = True
        sock, flag = self.sock, socket.MSG_DONTWAIT
        self.recv_into = lambda space, size=0: sock.recv_into(space, size, flag)
        self.sendmsg = lambda pieces: sock.sendmsg(pieces, (), flag)

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send at most `count` bytes of a file; return how many the kernel took."""
        if self.shared and os.get_blocking(self.sock.fileno()):
            os.set_blocking(self.sock.fileno(), False)
        return os.sendfile(self.sock.fileno(), fd, offset, count)

    @property
    def has_arrived(self) -> bool:
        """Whether unread bytes or FIN have arrived. Raises OSError after a reset."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    @property
    def unacknowledged(self) -> int:
        """The bytes that the kernel holds for the client: SIOCOUTQ of tcp(7), unix(7)."""
        return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def shutdown(self) -> None:
        """Send FIN after the bytes that were sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Show the client at the close that bytes are missing, if the stream has a way to.

        FIN of a plain socket says nothing, so the framing has to show it.
        """

    def reset_on_close(self) -> None:
        """Make `close` drop the bytes that the client has not taken, and reset."""
        self._resets = True

    def close(self) -> None:
        """End the connection, and close the descriptor."""
        if self._resets and not self.shared:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif self._resets:
            self._disconnect()
        elif self.shared:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _disconnect(self) -> None:
        """Reset a connection whose socket has a duplicate: connect(2) with AF_UNSPEC.

        SO_LINGER would take effect only when the last duplicate is closed. After a shutdown it
        would be too late for a reset. A unix socket has no reset.
        """
        # Few connections need this module, and it takes memory.
        import ctypes

        no_peer = struct.pack("=H14x", socket.AF_UNSPEC)
        if ctypes.CDLL(None).connect(self.sock.fileno(), no_peer, len(no_peer)):
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
