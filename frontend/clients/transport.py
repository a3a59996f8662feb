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
from typing import Final

__all__ = ["Transport"]

_RESET: Final = struct.pack("ii", 1, 0)


class Transport:
    """A non-blocking stream socket. Each call raises OSError once the client is gone.

    recv, recv_into: bytes from the client; BlockingIOError: none now; none at all: FIN.
    send, sendmsg: return how many bytes the kernel took; BlockingIOError: none.
    """

    __slots__ = ("recv", "recv_into", "send", "sendmsg", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        # Bound once: each request needs them, and a method in between would cost it a call.
        self.recv = sock.recv
        self.recv_into = sock.recv_into
        self.send = sock.send
        self.sendmsg = sock.sendmsg

    def fileno(self) -> int:
        """Return the descriptor that epoll watches."""
        return self.sock.fileno()

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send at most `count` bytes of a file; return how many the kernel took."""
        return os.sendfile(self.sock.fileno(), fd, offset, count)

    @property
    def has_arrived(self) -> bool:
        """Whether unread bytes or FIN have arrived. Raises OSError after a reset."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
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

    def reset_on_close(self) -> None:
        """Make `close` drop the bytes that the client has not taken, and reset (SO_LINGER)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        """Close the descriptor."""
        self.sock.close()
