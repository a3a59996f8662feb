"""WebSocket clients, in step: each sends a message and waits for what comes back."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.errors import RunFailed
from bench.load.lockstep import Connection, Lockstep

__all__ = ["connected", "frames", "opened", "read_all"]

_POOL: Final = 4096
_EACH: Final = 5000
"""Sockets from one address, well below the ports that a client may use."""
_AT_ONCE: Final = 200
"""Below what the shortest backlog holds."""
_ANSWER: Final = 30.0
"""Seconds that anything may take."""


_FIELDS: Final = (
    b"Host: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frames(size: int) -> list[bytes]:
    """Return text frames of a client with `size` bytes each, no two alike."""
    rng = random.Random(size)
    found = []
    for number in range(min(_POOL, max(64, (8 << 20) // size))):
        text = f"{number:08d}{rng.getrandbits(64):016x}".encode()
        payload = (text * (size // len(text) + 1))[:size]
        mask = rng.randbytes(4)
        key = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        if size < 126:
            head = bytes((0x81, 0x80 | size))
        else:
            head = b"\x81\xfe" + size.to_bytes(2, "big")
        found.append(head + mask + masked)
    return found


class _Messages(Connection):
    """Counts whole messages of the server."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises RunFailed if it is not a frame with a message."""
        data = self._held + data
        at = 0
        while len(data) - at >= 4:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if size == 127 or data[at] not in (0x81, 0x82):
                raise RunFailed(f"this is not a message: {data[at : at + 20]!r}")
            if len(data) - start < size:
                break
            at = start + size
            self.due -= 1
        self._held = data[at:]


@contextmanager
def opened(address: tuple[str, int], path: str, count: int) -> Iterator[list[socket.socket]]:
    """Keep so many WebSockets, from 127.0.0.2 and on. Raises RunFailed."""
    socks: list[socket.socket] = []
    try:
        while len(socks) < count:
            lot = [
                _ask(address, path, f"127.0.0.{2 + (len(socks) + n) // _EACH}")
                for n in range(min(_AT_ONCE, count - len(socks)))
            ]
            socks += lot
            for sock in lot:
                _await_accept(sock)
        for sock in socks:
            sock.setblocking(False)
        yield socks
    finally:
        for sock in socks:
            sock.close()


def _ask(address: tuple[str, int], path: str, source: str) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(_ANSWER)
    try:
        sock.bind((source, 0))
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(f"GET {path} HTTP/1.1\r\n".encode() + _FIELDS)
    except OSError as error:
        sock.close()
        raise RunFailed(f"no further WebSocket: {error}") from None
    return sock


def _await_accept(sock: socket.socket) -> None:
    head = b""
    try:
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(1 if head else 4096)
            if not data:
                raise RunFailed(f"a WebSocket was not accepted: {head[:80]!r}")
            head += data
    except OSError as error:
        raise RunFailed(f"a WebSocket was not accepted: {error}") from None
    if not head.startswith(b"HTTP/1.1 101"):
        raise RunFailed(f"a WebSocket was not accepted: {head[:80]!r}")


@contextmanager
def connected(address: tuple[str, int], count: int) -> Iterator[Lockstep]:
    """So many clients of `/echo`, all in step."""
    with opened(address, "/echo", count) as socks:
        client = Lockstep(socks, _Messages)
        try:
            yield client
        finally:
            client.close()


def read_all(socks: list[socket.socket], size: int) -> None:
    """Read `size` bytes of each socket. Raises RunFailed."""
    poll = select.epoll()
    left = {sock.fileno(): (sock, size) for sock in socks}
    latest = time.monotonic() + _ANSWER
    try:
        for sock in socks:
            poll.register(sock, select.EPOLLIN)
        while left:
            events = poll.poll(1.0)
            if not events and time.monotonic() > latest:
                raise RunFailed(f"{len(left)} WebSockets got no message")
            for number, _ in events:
                sock, missing = left[number]
                data = sock.recv(65536)
                if not data:
                    raise RunFailed("a WebSocket was closed")
                left[number] = sock, missing - len(data)
                if missing <= len(data):
                    poll.unregister(number)
                    del left[number]
    finally:
        poll.close()
