"""Determines the client of a request: the peer, or the client that a trusted proxy names."""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.sockets.networks import Networks
from reactor_run.protocol.express import request_prefix
from reactor_run.protocol.forwarded import Forwarded, read_forwarded, read_x_forwarded
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.origin import origin_tlvs, unpack_address
from reactor_run.protocol.proxy import Endpoint
from reactor_run.protocol.tls import Tlvs

__all__ = ["ConnectionOrigin", "ForwardedOrigin", "Forwarding", "Prefixes"]

_X_FORWARDED: Final = {b"x-forwarded-for": 0, b"x-forwarded-proto": 1}
_FORWARDED: Final = {b"forwarded": 0}

_MEMO_MAX: Final = 64
"""The most prefixes that a connection remembers."""
_MEMO_SIZE: Final = 256
"""The most bytes of fields for which a prefix is remembered."""

Prefixes = tuple[bytes, bytes, bytes]
"""The bytes that precede a request: on the express lane, and on a lane. The client's address."""
Lines = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Forwarding:
    """The trusted proxies, and the fields in which they name the client."""

    def __init__(self, proxies: Networks, *, x_forwarded: bool) -> None:
        """`x_forwarded`: read X-Forwarded-For and X-Forwarded-Proto; else Forwarded (RFC 7239)."""
        self.proxies = proxies
        self._x_forwarded = x_forwarded
        self._names = _X_FORWARDED if x_forwarded else _FORWARDED

    def lines(self, fields: Fields) -> Lines:
        """Return the values of the fields that name the client or its scheme, in order."""
        lines: tuple[list[bytes], list[bytes]] = ([], [])
        for name, value in fields:
            place = self._names.get(name.lower())
            if place is not None:
                lines[place].append(value)
        return tuple(lines[0]), tuple(lines[1])

    def read(self, lines: Lines) -> Forwarded:
        """Return the client and the scheme that these values name."""
        if self._x_forwarded:
            return read_x_forwarded(*lines, self.proxies.cover_address)
        return read_forwarded(lines[0], self.proxies.cover_address)


class ConnectionOrigin:
    """A connection whose peer is the client of every request."""

    __slots__ = ("_context", "client", "express_prefix", "http2", "https", "peers", "tls")

    def __init__(
        self,
        context: ClientContext,
        source: Endpoint | None,
        destination: Endpoint | None,
        *,
        https: bool,
        tls: Tlvs = (),
        http2: bool = False,
    ) -> None:
        """`source`, `destination`: the ends of the connection. `https`: the client uses TLS.

        `tls`: what is known of it. `http2`: it speaks HTTP/2.
        """
        self._context = context
        self.http2 = http2
        self.peers = (source, destination)
        self.https = https
        self.tls = tls
        self.client = b"" if source is None else source[0].encode()
        """The address of the client of every request, as text; empty: unknown."""
        self.express_prefix = request_prefix(source, destination, self._tlvs())

    def _tlvs(self) -> Tlvs:
        return origin_tlvs(https=self.https, tls=self.tls, http2=self.http2)

    def over_http2(self) -> ConnectionOrigin:
        """Return the same for requests of HTTP/2."""
        return ConnectionOrigin(
            self._context, *self.peers, https=self.https, tls=self.tls, http2=True
        )

    def client_of(self, fields: Fields) -> bytes:
        """Return the address of the client of a request with these fields; empty: unknown."""
        return self.client

    def lane_prefix(self) -> bytes:
        """Return the PROXY header that precedes each request on a lane."""
        return self._context.encode_proxy(*self.peers, self._tlvs())


class ForwardedOrigin(ConnectionOrigin):
    """A connection from a trusted proxy: each request may be from another client."""

    __slots__ = ("_forwarding", "_peer", "_prefixes")

    def __init__(
        self,
        context: ClientContext,
        source: Endpoint | None,
        destination: Endpoint | None,
        forwarding: Forwarding,
        *,
        https: bool,
        tls: Tlvs = (),
        http2: bool = False,
    ) -> None:
        super().__init__(context, source, destination, https=https, tls=tls, http2=http2)
        self._peer = self.client
        self.client = b""
        self._forwarding = forwarding
        self._prefixes: dict[Lines, Prefixes] = {}

    def over_http2(self) -> ForwardedOrigin:
        """Return the same for requests of HTTP/2."""
        return ForwardedOrigin(
            self._context,
            *self.peers,
            self._forwarding,
            https=self.https,
            tls=self.tls,
            http2=True,
        )

    def client_of(self, fields: Fields) -> bytes:
        """Return the address of the client of a request with these fields; empty: unknown."""
        return self.prefixes(fields)[2]

    def prefixes(self, fields: Fields) -> Prefixes:
        """Return the bytes that precede a request with these fields, and its client's address."""
        lines = self._forwarding.lines(fields)
        known = self._prefixes.get(lines)
        if known is not None:
            return known
        client, scheme = self._forwarding.read(lines)
        https = self.https if scheme is None else scheme == "https"
        # What is known of TLS concerns the proxy, and so not a client that it names.
        tls = self.tls if client is None and scheme is None else ()
        tlvs = origin_tlvs(https=https, client=client, tls=tls, http2=self.http2)
        prefixes = (
            request_prefix(*self.peers, tlvs),
            self._context.encode_proxy(*self.peers, tlvs),
            self._peer if client is None else unpack_address(client).encode(),
        )
        if sum(map(len, lines[0] + lines[1])) <= _MEMO_SIZE:
            if len(self._prefixes) >= _MEMO_MAX:
                self._prefixes.clear()
            self._prefixes[lines] = prefixes
        return prefixes
