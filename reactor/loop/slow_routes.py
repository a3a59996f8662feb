"""The record of which routes of the app are mostly slow.

A request is slow if a step of its app stalled the loop for more than `pulse.SLOW` seconds. The
front end is told only of routes whose requests are mostly slow. A route with a few slow requests (a
cold cache, a large query) is not reported, because the front end would treat all of its requests as
slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.route import route_of

__all__ = ["COUNTED", "RouteCounts"]

COUNTED: Final = 10.0
"""Seconds after a slow step during which all requests are counted. Fast requests must count too:
otherwise a route with few requests would seem to be always slow."""

ROUTES_MAX: Final = 256
"""Most routes that are remembered at once."""
FIRST: Final = 0.5
"""The share of slow requests that a new route starts with, from 0 to 1."""
WEIGHT: Final = 0.2
"""The weight of the newest request in a route's share. All earlier requests have the rest."""
MOSTLY: Final = 0.7
"""The share of slow requests from which a route is reported. A new route reaches it after three
slow requests in a row."""
FORGOTTEN: Final = 0.05
"""The share of slow requests below which a route is forgotten."""


class RouteCounts:
    """Keeps the share of slow requests of each route."""

    def __init__(self, tell: Callable[[bytes, float], None]) -> None:
        """`tell` is called with a route and seconds. After each slow request of a mostly slow route
        the seconds are those of its longest step. When the route is no longer mostly slow, they are
        0."""
        self._tell = tell
        self._shares: dict[bytes, float] = {}

    def forget(self) -> None:
        """Forget all routes. Call this after requests have ended without being counted."""
        self._shares.clear()

    def ended(self, head: RequestHead, slow: float) -> None:
        """Count a request that has ended.

        `slow`: seconds of its longest slow step, 0 if it had none.
        """
        shares = self._shares
        if not slow and not shares:
            return
        route = route_of(head.method, head.target)
        before = shares.pop(route, None)
        if before is None:
            if not slow:
                return
            before = FIRST
            if len(shares) >= ROUTES_MAX:
                # The first key is the route whose last request is the oldest.
                del shares[next(iter(shares))]
        share = before + ((1.0 if slow else 0.0) - before) * WEIGHT
        if share >= FORGOTTEN:
            shares[route] = share
        if share >= MOSTLY:
            if slow:
                self._tell(route, slow)
        elif before >= MOSTLY:
            self._tell(route, 0.0)
