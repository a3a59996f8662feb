"""Counts the connections of each address, for `--max-connections-per-address`."""

from __future__ import annotations

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.sockets.networks import Networks, pack_address
from reactor_run.protocol.proxy import Endpoint

__all__ = ["PerAddress", "network"]


class PerAddress:
    """How many connections each address has.

    A unix socket has no address, and a trusted proxy is no single client: neither is counted.
    """

    __slots__ = ("_counts", "_networks", "_proxies", "limit")

    def __init__(self, limit: int, proxies: Networks) -> None:
        """`limit`: the most connections of one address; 0: no limit. `proxies`: those that name
        the clients of their requests."""
        self.limit = limit
        self._proxies = proxies
        self._counts: dict[bytes, int] = {}
        """By network: the number of its connections."""
        self._networks: dict[Connection, bytes] = {}
        """The network for which each connection counts."""

    def _counts_for(self, source: Endpoint) -> bool:
        return self.limit > 0 and source[1] is not None and not self._proxies.cover(source)

    def has_enough(self, source: Endpoint) -> bool:
        """Return whether its address has as many connections as it may have."""
        return self._counts_for(source) and self._counts.get(network(source[0]), 0) >= self.limit

    def add(self, client: Connection, source: Endpoint) -> None:
        """Count a connection."""
        if self._counts_for(source):
            key = self._networks[client] = network(source[0])
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, client: Connection) -> None:
        """Count a connection no more."""
        key = self._networks.pop(client, None)
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def network(host: str) -> bytes:
    """Return the network that counts as one address: an IPv4 address, or an IPv6 /64.

    A single customer of a provider has a whole /64 at least (RFC 6177).
    """
    packed = pack_address(host)
    return packed if len(packed) == 4 else packed[:8]
