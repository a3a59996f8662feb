"""The lock-step client: one request on each connection, then it waits for all answers.

It runs on the server's core. So the server gets its requests in batches of the same size each time,
whatever else the machine does, and CPU time per request hardly varies from run to run. The client's
own CPU time is that of this process, which belongs to no server.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.errors import RunFailed
from bench.load.tls import SecretSocket

__all__ = ["Connection", "Lockstep", "connected", "on_core"]

_READ: Final = 256 * 1024
_BATCH_MAX: Final = 20.0
"""Seconds that the answers to one batch may take."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.I)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.I)
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Connection:
    """One connection, with what its answers still lack."""

    __slots__ = ("_chunked", "_head", "_left", "_tail", "due", "is_blocked", "out", "sock")

    def __init__(self, sock: socket.socket | SecretSocket) -> None:
        self.sock = sock
        self.out = memoryview(b"")
        """What is not sent yet."""
        self.is_blocked = False
        """Whether the kernel took less than all of it."""
        self.due = 0
        """Answers that have not ended."""
        self._head = b""
        self._left = 0
        self._chunked = False
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises RunFailed if it is not an answer with status 200."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                self.due -= not self._left
            elif self._chunked:
                # Nothing follows: these requests are not pipelined.
                self._tail = (self._tail + data[max(at, len(data) - 5) :])[-5:]
                if self._tail == _LAST_CHUNK:
                    self._chunked = False
                    self.due -= 1
                return
            else:
                head = self._head + data[at:]
                end = head.find(b"\r\n\r\n")
                if end < 0:
                    self._head = head
                    return
                at = len(data) - (len(head) - end - 4)
                self._begin(head[: end + 2])

    def _begin(self, head: bytes) -> None:
        self._head = self._tail = b""
        length = _LENGTH.search(head)
        self._chunked = not length and _CHUNKED.search(head) is not None
        if head[9:12] != b"200" or not (length or self._chunked) or not self.due:
            raise RunFailed(f"this is not the answer that was asked for: {head[:80]!r}")
        self._left = int(length[1]) if length else 0
        if length and not self._left:
            self.due -= 1


class Lockstep:
    """Connections, all in step."""

    def __init__(
        self, socks: Sequence[socket.socket | SecretSocket], kind: type[Connection] = Connection
    ) -> None:
        """`kind`: how answers are read."""
        self._poll = select.epoll()
        self._connections = {sock.fileno(): kind(sock) for sock in socks}
        for number in self._connections:
            self._poll.register(number, select.EPOLLIN)

    def run(self, entries: Iterator[bytes], answers: int, batches: int) -> int:
        """Send so many batches. Return the number of requests.

        `answers`: to each entry; more than one if its requests are pipelined. Raises RunFailed if
        an answer is wrong, cut, or late.
        """
        for _ in range(batches):
            self._batch(entries, answers)
        return batches * answers * len(self._connections)

    def _batch(self, entries: Iterator[bytes], answers: int) -> None:
        latest = time.monotonic() + _BATCH_MAX
        waiting = len(self._connections)
        for connection in self._connections.values():
            connection.out = memoryview(next(entries))
            connection.due = answers
            self._send(connection)
        while waiting:
            events = self._poll.poll(1.0)
            if not events and time.monotonic() > latest:
                raise RunFailed(f"{waiting} answers of a batch did not come")
            for number, event in events:
                connection = self._connections[number]
                if event & select.EPOLLOUT:
                    self._send(connection)
                if event & ~select.EPOLLOUT and self._read(connection):
                    waiting -= 1

    def _send(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise RunFailed(f"a request was not taken: {error}") from None
        connection.out = connection.out[sent:]
        if bool(connection.out) != connection.is_blocked:
            connection.is_blocked = bool(connection.out)
            wanted = select.EPOLLIN | (select.EPOLLOUT if connection.out else 0)
            self._poll.modify(connection.sock, wanted)

    def _read(self, connection: Connection) -> bool:
        """Read; whether that was the end of its last answer."""
        try:
            data = connection.sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError as error:
            raise RunFailed(f"no answer: {error}") from None
        if not data:
            raise RunFailed("closed before the answer was whole")
        connection.feed(data)
        if connection.out and not connection.due:
            raise RunFailed("answered before the request was whole")
        return not connection.due

    def close(self) -> None:
        self._poll.close()
        for connection in self._connections.values():
            connection.sock.close()


@contextmanager
def connected(
    address: tuple[str, int], connections: int, *, secret: bool = False
) -> Iterator[Lockstep]:
    """A client with so many connections. Raises RunFailed if the server takes fewer.

    `secret`: they speak TLS.
    """
    socks: list[socket.socket | SecretSocket] = []
    try:
        for _ in range(connections):
            sock = socket.create_connection(address, timeout=5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socks.append(SecretSocket(sock) if secret else sock)
            socks[-1].setblocking(False)
        client = Lockstep(socks)
    except OSError as error:
        for each in socks:
            each.close()
        raise RunFailed(f"cannot connect: {error}") from None
    try:
        yield client
    finally:
        client.close()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have this thread run on another core during the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
