"""Slow clients: they send a head or a body, or read an answer, a few bytes at a time.

They run in a thread beside the load that is measured. One that the server gives up is
replaced.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["head", "body", "read"]

TICK: Final = 0.5
"""Seconds between two pieces."""
_PIECE: Final = 3
"""Bytes of each."""
_LARGE: Final = 1 << 20
"""Bytes of the answer that is read slowly."""


@dataclass
class Drip:
    """The clients, and how many of them the server has given up."""

    address: tuple[str, int]
    kind: Kind
    socks: list[socket.socket] = field(default_factory=list)
    given_up: int = 0

    def open(self, clients: int) -> None:
        """Connect, and begin each request."""
        self.socks = [self._begin() for _ in range(clients)]

    def turn(self) -> None:
        """Have each client move a few bytes."""
        for number, sock in enumerate(self.socks):
            try:
                if self.kind == "read":
                    alive = bool(sock.recv(_PIECE))
                else:
                    alive = sock.send(b"x" * _PIECE) > 0
            except BlockingIOError:
                continue
            except OSError:
                alive = False
            if not alive:
                self.given_up += 1
                sock.close()
                self.socks[number] = self._begin()

    def _begin(self) -> socket.socket:
        sock = socket.socket()
        if self.kind == "read":
            # The smallest that there is, so that the kernel does not read in the client's place.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(5)
        try:
            sock.connect(self.address)
            sock.sendall(
                {
                    "head": b"GET / HTTP/1.1\r\nHost: bench\r\nX-Slow: ",
                    "body": b"POST /up HTTP/1.1\r\nHost: bench\r\nContent-Length: 100000\r\n\r\n",
                    "read": b"GET /%d HTTP/1.1\r\nHost: bench\r\n\r\n" % _LARGE,
                }[self.kind]
            )
        except OSError:
            # It is closed at its next turn, and another takes its place.
            pass
        sock.setblocking(False)
        return sock


@contextmanager
def dripping(address: tuple[str, int], kind: Kind, clients: int) -> Iterator[Drip]:
    """Have so many slow clients at work during the block."""
    drip = Drip(address, kind)
    drip.open(clients)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(TICK):
            drip.turn()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield drip
    finally:
        stop.set()
        thread.join(TICK * 20)
        for sock in drip.socks:
            sock.close()


def settle() -> None:
    """Wait until every client has had a turn."""
    time.sleep(2 * TICK)
