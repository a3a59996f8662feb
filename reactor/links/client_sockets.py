"""Duplicates of clients' sockets, to which this reactor may write answers when it has a grant.

The front end sends a duplicate the first time that a client's connection needs one in this reactor,
and tells when the connection has ended. The number of a duplicate is never used again. The
descriptors share their flags with those of the front end, and a child of the app may change the
flags. So each call asks for MSG_DONTWAIT instead of relying on O_NONBLOCK.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterable

from reactor_run.reactor import fork

__all__ = ["ClientDuplicate", "ClientSockets"]

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class ClientDuplicate:
    """A duplicate of one client's socket. It is only written to.

    Each method raises BlockingIOError if the kernel takes no byte now, and other OSErrors once the
    connection has ended.
    """

    __slots__ = ("_sock", "unwatch")

    def __init__(self, descriptor: int) -> None:
        """Raises OSError if `descriptor` is no socket. Then it is closed."""
        try:
            self._sock = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            raise
        # An app may have set a default timeout. Each call would wait for so long in the loop.
        self._sock.setblocking(False)
        self.unwatch: Callable[[], None] | None = None
        """Stops the watching of the descriptor; None: it is not watched."""

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._sock.fileno()

    def send(self, data: bytes | memoryview, /) -> int:
        """Send one piece; return how many bytes the kernel took."""
        return self._sock.send(data, _FLAGS)

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send several pieces; return how many bytes the kernel took."""
        return self._sock.sendmsg(buffers, (), _FLAGS)

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send bytes of a file by sendfile(2); return how many the kernel took."""
        # sendfile has no MSG_DONTWAIT.
        flags = fcntl.fcntl(self._sock, fcntl.F_GETFL)
        if not flags & os.O_NONBLOCK:
            fcntl.fcntl(self._sock, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        return os.sendfile(self._sock.fileno(), fd, offset, count)

    def close(self) -> None:
        """Close this duplicate. The connection goes on."""
        # A descriptor must leave the epoll set before it is closed. The front end's descriptor of
        # the same socket, or one in a child of the app, would keep the registration alive.
        if self.unwatch is not None:
            self.unwatch()
        self._sock.close()


class ClientSockets:
    """The duplicates that this reactor holds, by number."""

    def __init__(self, read_control: Callable[[], None]) -> None:
        """`read_control`: handles the control messages that have arrived."""
        self._sockets: dict[int, ClientDuplicate] = {}
        self._read_control = read_control
        fork.in_child(self._in_child)

    def _in_child(self) -> None:
        """In a child that an app forked: close the duplicates, which belong to its parent."""
        fork.disconnect(client.fileno() for client in self._sockets.values())

    def adopt(self, number: int, descriptor: int) -> None:
        """Keep a duplicate of a client's socket."""
        try:
            self._sockets[number] = ClientDuplicate(descriptor)
        except OSError:
            # Without a socket, answers to this client go over the link.
            return

    def find(self, number: int) -> ClientDuplicate | None:
        """Return a duplicate by its number. None: there was no free descriptor for it."""
        client = self._sockets.get(number)
        if client is None:
            # Two sockets keep no order between them: the duplicate was sent before the grant.
            self._read_control()
            client = self._sockets.get(number)
        return client

    def close(self, numbers: Iterable[int]) -> None:
        """Close these duplicates: the connections have ended, or need none now."""
        for number in numbers:
            client = self._sockets.pop(number, None)
            if client is not None:
                client.close()

    def __len__(self) -> int:
        return len(self._sockets)
