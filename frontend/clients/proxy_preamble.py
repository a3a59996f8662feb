"""A connection whose PROXY header is still to come (`--proxy-protocol`).

Only peers that the operator allows get here, and each must begin with a header, of either version:
whether one comes is never guessed. It arrives in any pieces, within the head timeout. What it says
takes the place of the connection's own ends, unless it says nothing (LOCAL, UNKNOWN, UNSPEC). Then
the connection speaks HTTP/1.1; what was read behind the header is its first request.
"""

from __future__ import annotations

import select
import socket
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.protocol import policy
from reactor_run.protocol.origin import over_tls
from reactor_run.protocol.policy import Rejected, Rule
from reactor_run.protocol.proxy import SIGNATURE, Endpoint, decode_either

__all__ = ["InboundProxy"]

_READ: Final = 65536


class Welcome(Protocol):
    """What makes clients of connections, and counts them."""

    def introduced(
        self,
        inbound: InboundProxy,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        *,
        https: bool,
    ) -> Http1 | None:
        """Make a client of a connection that has told whose it is; None if it is closed."""

    def admitted(self, client: Http1) -> None:
        """What came behind the header was served."""

    def left(self, connection: InboundProxy) -> None:
        """A connection has ended."""

    def complain(self, subject: str, line: str) -> None:
        """Log what the operator may want to mend."""


class InboundProxy:
    """A connection, from accept to the end of its PROXY header."""

    __slots__ = (
        "_acceptor",
        "_client",
        "_data",
        "_expected",
        "_loop",
        "_peers",
        "_sock",
        "check_at",
        "deadline",
    )

    def __init__(
        self,
        loop: Loop,
        acceptor: Welcome,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        head_timeout: float,
    ) -> None:
        """`head_timeout`: seconds for the header; 0: for ever."""
        self._loop = loop
        self._acceptor = acceptor
        self._sock = sock
        self._peers = (source, destination)
        self._client: Http1 | None = None
        """What the connection has become."""
        self._data = bytearray()
        self._expected = 0
        """Bytes without which there is no use in reading the header."""
        self.deadline = self.check_at = inf
        loop.watch(sock.fileno(), select.EPOLLIN, self._on_events)
        loop.set_deadline(self, head_timeout)

    def _on_events(self, _: int) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        self._data += data
        if len(self._data) < self._expected:
            return
        try:
            header = decode_either(self._data)
        except Rejected as rejected:
            self._refuse(rejected.rule)
            return
        if header is None:
            if self._data.startswith(SIGNATURE) and len(self._data) >= 16:
                self._expected = 16 + int.from_bytes(self._data[14:16], "big")
            return
        source, destination = header.source, header.destination
        if source is None or destination is None:
            source, destination = self._peers
        https = over_tls(header) and not header.local
        client = self._become_client(source, destination, https=https)
        if client is not None:
            if len(self._data) > header.size:
                client.take(bytes(self._data[header.size :]))
            self._acceptor.admitted(client)

    def _become_client(
        self, source: Endpoint, destination: Endpoint, *, https: bool
    ) -> Http1 | None:
        """Hand the socket over; None if the kernel refuses."""
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        client = self._acceptor.introduced(self, self._sock, source, destination, https=https)
        self._client = client
        return client

    def _refuse(self, rule: Rule) -> None:
        """What came is no PROXY header, or not in time."""
        who = self._peers[0][0] or "unix"
        self._acceptor.complain("header", f"no PROXY header from {who}: {rule.reason}")
        client = self._become_client(*self._peers, https=False)
        if client is not None:
            client.requester.reject(rule)

    def on_deadline(self) -> None:
        """The header took too long."""
        if self._data:
            self._refuse(policy.HEAD_TIMEOUT)
        else:
            self.close()

    def shut(self, grace: float) -> None:
        """The service ends: the header, and a request behind it, may be on their way."""
        if not grace:
            self.close()
        elif self._loop.now + grace < self.deadline:
            self._loop.set_deadline(self, grace)

    def on_fault(self) -> None:
        """Nobody knows what was read."""
        if self._client is not None:
            self._client.connection.on_fault()
        else:
            self.close()

    def close(self) -> None:
        """End the connection."""
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        self._loop.bury(self._sock)
        self._acceptor.left(self)
