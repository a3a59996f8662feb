"""Reads the PROXY header at the start of a connection (`--proxy-protocol`).

Each such connection must begin with a header, of version 1 or 2, within --head-timeout. The
acceptor has checked that its peer is allowed. The addresses in the header replace those of the
connection, unless it has none (LOCAL, UNKNOWN, UNSPEC). Then the connection speaks HTTP/1.1, or
begins a TLS handshake. Bytes that were read after the header belong to that.
"""

from __future__ import annotations

import select
import socket
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.reception import Reception
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.sockets.listener import Speech
from reactor_run.protocol import policy
from reactor_run.protocol.origin import over_tls
from reactor_run.protocol.policy import Rejected, Rule
from reactor_run.protocol.proxy import SIGNATURE, Endpoint, decode_either

__all__ = ["InboundProxy"]

_READ: Final = 65536


class Introduced(Protocol):
    """Serves a connection after its PROXY header: HTTP/1.1, or a TLS handshake."""

    @property
    def connection(self) -> Connection:
        """The connection."""

    def take(self, data: bytes) -> None:
        """Serve the bytes that were read after the header."""

    def shut(self, grace: float) -> None:
        """End after the exchange in flight, or in `grace` seconds: the service stops."""


class Welcome(Protocol):
    """Serves and counts connections: the acceptor."""

    def introduced(
        self,
        inbound: InboundProxy,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        reception: Reception,
        *,
        https: bool,
    ) -> Introduced | None:
        """Serve a connection after its PROXY header; return None if it was closed instead.

        `https`: the header says that the client uses TLS.
        """

    def admitted(self, client: Introduced) -> None:
        """Note that the bytes after the header were served."""

    def left(self, connection: InboundProxy) -> None:
        """Note that a connection has ended."""

    def complain(self, subject: str, line: str) -> None:
        """Log a warning for the operator, unless one on this subject was logged lately."""


class InboundProxy:
    """A connection, from accept to the end of its PROXY header."""

    __slots__ = (
        "_acceptor",
        "_client",
        "_data",
        "_expected",
        "_loop",
        "_peers",
        "_reception",
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
        reception: Reception,
    ) -> None:
        """`head_timeout`: seconds for the header; 0: no limit. `reception`: what follows it."""
        self._loop = loop
        self._acceptor = acceptor
        self._sock = sock
        self._peers = (source, destination)
        self._reception = reception
        self._client: Introduced | None = None
        """What serves the connection after the header."""
        self._data = bytearray()
        """The bytes of the header that have arrived, and bytes after it."""
        self._expected = 0
        """The size of a header of version 2, once it is known: it is not parsed before."""
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
        client = self._become_client(source, destination, self._reception, https=https)
        if client is not None:
            if len(self._data) > header.size:
                client.take(bytes(self._data[header.size :]))
            self._acceptor.admitted(client)

    def _become_client(
        self, source: Endpoint, destination: Endpoint, reception: Reception, *, https: bool
    ) -> Introduced | None:
        """Hand the socket over to its client; return None if the acceptor closed it instead."""
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        client = self._acceptor.introduced(
            self, self._sock, source, destination, reception, https=https
        )
        self._client = client
        return client

    def _refuse(self, rule: Rule) -> None:
        """Reject a connection whose header is invalid or late."""
        who = self._peers[0][0] or "unix"
        self._acceptor.complain("header", f"no PROXY header from {who}: {rule.reason}")
        plain = self._reception._replace(speech=Speech.HTTP)
        client = self._become_client(*self._peers, plain, https=False)
        if isinstance(client, Http1):
            client.requester.reject(rule, bytes(self._data))

    def on_deadline(self) -> None:
        """Reject a connection whose header is late. If no byte has arrived, close it."""
        if self._data:
            self._refuse(policy.HEAD_TIMEOUT)
        else:
            self.close()

    def shut(self, grace: float) -> None:
        """Wait at most `grace` seconds for the header and a first request: the service stops."""
        if not grace:
            self.close()
        elif self._loop.now + grace < self.deadline:
            self._loop.set_deadline(self, grace)

    def on_fault(self) -> None:
        """Close after an internal error."""
        if self._client is not None:
            self._client.connection.on_fault()
        else:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        self._loop.bury(self._sock)
        self._acceptor.left(self)
