"""Which routes of the app are slow more often than not: those that the front end should know of.

A request is slow if a step of its app has held up the loop for longer than `pulse.SLOW`. A route of
which only some are, a cache that is cold or a query that asks for much, is none to be told of: the
others of it would be taken for slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.route import route_of

__all__ = ["COUNTED", "RouteCounts"]

COUNTED: Final = 10.0
"""Seconds after a slow step in which requests are counted. Were they not, those of a route with few
requests would seem to be all slow."""

ROUTES_MAX: Final = 256
"""Routes that are remembered."""
FIRST: Final = 0.5
"""What is taken for the share of slow requests before the first one of a route."""
WEIGHT: Final = 0.2
"""What the newest request counts in that share; all before it count the rest."""
MOSTLY: Final = 0.7
"""The share of slow requests from which on a route is told of: three in a row, from the first."""
FORGOTTEN: Final = 0.05
"""The share below which a route is not remembered any more."""


class RouteCounts:
    """Counts requests while some are slow."""

    def __init__(self, tell: Callable[[bytes, float], None]) -> None:
        """`tell`: called with a slow route and the seconds of its last request, each time;
        and with 0 when it is not mostly slow any more."""
        self._tell = tell
        self._shares: dict[bytes, float] = {}

    def forget(self) -> None:
        """Begin again: requests have ended that were not counted."""
        self._shares.clear()

    def ended(self, head: RequestHead, slow: float) -> None:
        """A request is over; its longest slow step took so many seconds, 0 if it had none."""
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
                # The one that was asked for the longest ago.
                del shares[next(iter(shares))]
        share = before + ((1.0 if slow else 0.0) - before) * WEIGHT
        if share >= FORGOTTEN:
            shares[route] = share
        if share >= MOSTLY:
            if slow:
                self._tell(route, slow)
        elif before >= MOSTLY:
            self._tell(route, 0.0)
