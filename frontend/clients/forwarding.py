"""A client connection from a proxy whose word counts: each request may be of somebody else.

The fields of the request say of whom, and what they say goes with it to the reactor. Everything
else is as with any client. It is a class of its own so that other connections pay nothing for it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.clients.http1 import Client
from reactor_run.frontend.sockets.networks import Networks
from reactor_run.protocol.express import request_prefix
from reactor_run.protocol.forwarded import Forwarded, read_forwarded, read_x_forwarded
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.origin import origin_tlvs
from reactor_run.protocol.proxy import Endpoint

if TYPE_CHECKING:
    from reactor_run.frontend.clients.context import ClientContext

__all__ = ["Forwarding", "ProxiedClient"]

_X_FORWARDED: Final = {b"x-forwarded-for": 0, b"x-forwarded-proto": 1}
_FORWARDED: Final = {b"forwarded": 0}

_MEMO_MAX: Final = 64
"""Prefixes that a connection remembers."""
_MEMO_SIZE: Final = 256
"""Bytes of fields that are worth remembering."""

Lines = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Forwarding:
    """Whose word counts, and which fields they write."""

    def __init__(self, proxies: Networks, *, x_forwarded: bool) -> None:
        """`x_forwarded`: X-Forwarded-For and -Proto; else Forwarded."""
        self.proxies = proxies
        self._x_forwarded = x_forwarded
        self._names = _X_FORWARDED if x_forwarded else _FORWARDED

    def lines(self, fields: Fields) -> Lines:
        """The values of the fields that count, in order."""
        lines: tuple[list[bytes], list[bytes]] = ([], [])
        for name, value in fields:
            place = self._names.get(name.lower())
            if place is not None:
                lines[place].append(value)
        return tuple(lines[0]), tuple(lines[1])

    def read(self, lines: Lines) -> Forwarded:
        """What they say."""
        if self._x_forwarded:
            return read_x_forwarded(*lines, self.proxies.cover_address)
        return read_forwarded(lines[0], self.proxies.cover_address)


class ProxiedClient(Client):
    """A connection from a proxy, which serves many clients."""

    __slots__ = ("_forwarding", "_prefixes")

    def __init__(
        self,
        server: ClientContext,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        forwarding: Forwarding,
        *,
        https: bool = False,
    ) -> None:
        super().__init__(server, sock, source, destination, https=https)
        self._forwarding = forwarding
        self._prefixes: dict[Lines, tuple[bytes, bytes]] = {}
        """What goes before requests with these fields, on the express lane and on any other."""

    @property
    def express_prefix(self) -> bytes:
        """What the request that is under way begins with."""
        return self._prefix()[0]

    @express_prefix.setter
    def express_prefix(self, _: bytes) -> None:
        """Nothing: a connection like any other sets it once, this one makes it each time."""

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header before the request that is under way."""
        return self._prefix()[1]

    @lane_prefix.setter
    def lane_prefix(self, _: bytes | None) -> None:
        """Nothing, as above."""

    def _prefix(self) -> tuple[bytes, bytes]:
        assert self.exchange is not None
        lines = self._forwarding.lines(self.exchange.head.fields)
        known = self._prefixes.get(lines)
        if known is not None:
            return known
        client, scheme = self._forwarding.read(lines)
        https = self.https if scheme is None else scheme == "https"
        tlvs = origin_tlvs(https=https, client=client)
        prefixes = request_prefix(*self.peers, tlvs), self.server.encode_proxy(*self.peers, tlvs)
        if sum(map(len, lines[0] + lines[1])) <= _MEMO_SIZE:
            if len(self._prefixes) >= _MEMO_MAX:
                self._prefixes.clear()
            self._prefixes[lines] = prefixes
        return prefixes
