"""One large body, down or up, over one connection."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Final

from bench.errors import RunFailed
from bench.load.reply import Reply

CHUNK: Final = 64 * 1024
"""Bytes of each write and read, as in `bench.apps.bodies`."""
FILE_SIZE: Final = 256 << 20
"""Bytes of the file of `bench.apps.files`."""
_STALL: Final = 10.0
"""Seconds in which nothing moves."""


@dataclass(frozen=True)
class Transfer:
    """A body of so many bytes in so many seconds."""

    size: int
    seconds: float


def down(address: tuple[str, int], size: int, path: str = "") -> Transfer:
    """Read an answer of this size. Raises RunFailed if it is cut or refused."""
    with _connect(address) as sock:
        begin = time.monotonic()
        sock.sendall(f"GET {path or f'/down/{size}'} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += _read(sock)
        fields, _, body = head.partition(b"\r\n\r\n")
        if fields[9:12] != b"200" or b"chunked" in fields.lower():
            raise RunFailed(f"answered {fields[:60]!r}")
        left = size - len(body)
        buffer = bytearray(CHUNK)
        while left > 0:
            try:
                got = sock.recv_into(buffer)
            except OSError as error:
                raise RunFailed(f"with {left} bytes to come: {error}") from None
            if not got:
                raise RunFailed(f"cut with {left} bytes to come")
            left -= got
        return Transfer(size, time.monotonic() - begin)


def files(address: tuple[str, int], size: int) -> Transfer:
    """Read the file of `bench.apps.files` until it is `size` together. Raises RunFailed."""
    parts = [down(address, FILE_SIZE, "/file") for _ in range(max(1, size // FILE_SIZE))]
    return Transfer(sum(part.size for part in parts), sum(part.seconds for part in parts))


def up(address: tuple[str, int], size: int) -> Transfer:
    """Send a body of this size; the app answers how much came. Raises RunFailed if not all."""
    piece = b"x" * CHUNK
    with _connect(address) as sock:
        begin = time.monotonic()
        head = f"POST /up HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\n\r\n"
        try:
            sock.sendall(head.encode())
            for _ in range(size // CHUNK):
                sock.sendall(piece)
            sock.sendall(piece[: size % CHUNK])
        except OSError as error:
            raise RunFailed(f"the body was not taken: {error}") from None
        reply, text = Reply(), b""
        whole = False
        while not whole:
            data = _read(sock)
            text += data
            whole = reply.feed(data)
        if reply.status != 200 or not text.endswith(str(size).encode()):
            raise RunFailed(f"answered {reply.status} {text[-40:]!r}")
        return Transfer(size, time.monotonic() - begin)


def _connect(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_connection(address, timeout=_STALL)
    except OSError as error:
        raise RunFailed(f"cannot connect: {error}") from None


def _read(sock: socket.socket) -> bytes:
    try:
        data = sock.recv(CHUNK)
    except OSError as error:
        raise RunFailed(f"no answer: {error}") from None
    if not data:
        raise RunFailed("closed without an answer")
    return data
