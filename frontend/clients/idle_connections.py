"""Finds the connections that have been idle for longest, to make room for new ones."""

from __future__ import annotations

import heapq
from collections.abc import Set
from typing import Final

from reactor_run.frontend.clients.connection import Connection

__all__ = ["IdleConnections"]

_IDLE_MIN: Final = 1.0
"""Seconds that a connection must be idle before it may be closed to make room."""
_LOOKS_MAX: Final = 256
"""The most connections that one turn of the loop checks for idle ones."""


class IdleConnections:
    """Closes idle connections, the longest idle first.

    Connections do not report when they become idle: that would cost each request time. Instead
    each is checked at most once a second, and is put back with the time since when it is idle. A
    busy one is put back with the present time, since it can become idle only later.
    """

    __slots__ = ("_clients", "_looks")

    def __init__(self, clients: Set[Connection]) -> None:
        """`clients`: all connections that are open."""
        self._clients = clients
        self._looks: list[tuple[float, int, Connection]] | None = None
        """A heap of all connections; None if no room was needed yet. The first item is a time
        before which the connection was not idle. Closed connections are removed late."""

    def add(self, client: Connection) -> None:
        """Note a new connection. It is one of `clients` already."""
        if self._looks is None:
            return
        if len(self._looks) > 2 * len(self._clients):
            # Most of them have ended. The next search begins anew.
            self._looks = None
        else:
            heapq.heappush(self._looks, (client.accepted, id(client), client))

    def close(self, count: int, now: float) -> int:
        """Close up to `count` of them; return how many. `now`: seconds of the loop's clock."""
        if self._looks is None:
            self._looks = [(client.accepted, id(client), client) for client in self._clients]
            heapq.heapify(self._looks)
        looks = self._looks
        closed = 0
        for _ in range(_LOOKS_MAX):
            if closed == count or not looks or looks[0][0] > now - _IDLE_MIN:
                break
            before, _, client = looks[0]
            if client not in self._clients:
                heapq.heappop(looks)
                continue
            since = min(client.protocol.idle_since, now)
            if since <= before and client.protocol.shed():
                closed += 1
                heapq.heappop(looks)
            else:
                # A connection that could not be closed has sent a request.
                put_back = since if since > before else now
                heapq.heapreplace(looks, (put_back, id(client), client))
        return closed
