"""Connections that have had an answer and then do nothing."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.errors import RunFailed
from bench.load.client import request
from bench.load.reply import Reply

_EACH: Final = 5000
"""Connections from one address, well below the ports that a client may use."""
_AT_ONCE: Final = 200
"""Below what the shortest backlog holds."""
_ANSWER: Final = 20.0
"""Seconds for the answers to one lot."""


@contextmanager
def idle(address: tuple[str, int], count: int, *, first: int = 0) -> Iterator[list[socket.socket]]:
    """Keep so many connections, from 127.0.0.2 and on; each has been answered once.

    `first`: how many there are already, whose addresses are spared. Raises RunFailed if the server
    does not take and answer all of them.
    """
    socks: list[socket.socket] = []
    try:
        while len(socks) < count:
            lot = [
                _open(address, f"127.0.0.{2 + (first + len(socks) + n) // _EACH}")
                for n in range(min(_AT_ONCE, count - len(socks)))
            ]
            socks += lot
            _await_answers(lot, len(socks))
        yield socks
    finally:
        for sock in socks:
            sock.close()


def _open(address: tuple[str, int], source: str) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(5)
    try:
        sock.bind((source, 0))
        sock.connect(address)
        sock.sendall(request("/"))
    except OSError as error:
        sock.close()
        raise RunFailed(f"no further connection: {error}") from None
    return sock


def _await_answers(lot: list[socket.socket], number: int) -> None:
    replies = {sock.fileno(): (sock, Reply()) for sock in lot}
    poll = select.poll()
    for sock in lot:
        poll.register(sock, select.POLLIN)
    deadline = time.monotonic() + _ANSWER
    while replies:
        ready = poll.poll(1000)
        if not ready and time.monotonic() > deadline:
            raise RunFailed(f"of {number} connections, {len(replies)} got no answer")
        for descriptor, _ in ready:
            sock, reply = replies[descriptor]
            try:
                data = sock.recv(65536)
            except OSError as error:
                raise RunFailed(f"connection {number}: {error}") from None
            if not data or (reply.feed(data) and reply.closes):
                raise RunFailed(f"of {number} connections, one was closed")
            if not reply.is_whole:
                continue
            poll.unregister(descriptor)
            del replies[descriptor]


def still_open(socks: list[socket.socket]) -> int:
    """How many the server has not closed meanwhile."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN | select.POLLRDHUP)
    return len(socks) - len(poll.poll(0))
