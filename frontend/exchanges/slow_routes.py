"""Which requests are likely to hold up the loop of a reactor, by what reactors have told of others
with the same route."""

from __future__ import annotations

from typing import Final

from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.route import route_of

__all__ = ["SlowRoutes"]

REMEMBERED: Final = 10.0
"""Seconds for which a route counts as slow after one of its requests was."""
ROUTES_MAX: Final = 256
"""Routes that are remembered."""
WINDOW: Final = 1.0
"""Seconds in which other requests are counted."""
_FAST: Final = (0.0, 0.0)


class SlowRoutes:
    """What all reactors have told. Times are seconds of the loop's clock."""

    __slots__ = ("_counted", "_rate", "_since", "routes")

    def __init__(self) -> None:
        self.routes: dict[bytes, tuple[float, float]] = {}
        """How long a request takes, and until when that is believed."""
        self._rate = 0.0
        """Other requests in a second, in the last window that is over."""
        self._since = 0.0
        """When the one that is not over began, and"""
        self._counted = 0
        """how many have come in it."""

    def told(self, route: bytes, seconds: float, now: float) -> None:
        """Requests of a route are slow and the last one took so long, or they are not: 0."""
        routes = self.routes
        routes.pop(route, None)
        if seconds:
            if len(routes) >= ROUTES_MAX:
                del routes[next(iter(routes))]
            routes[route] = (seconds, now + REMEMBERED)

    def expect(self, head: RequestHead, now: float) -> float:
        """The seconds for which a request will hold up its reactor; 0 if that is not known.

        To be called once for each request, as long as there are `routes`.
        """
        routes = self.routes
        while routes:
            oldest = next(iter(routes))
            if routes[oldest][1] > now:
                break
            del routes[oldest]
        seconds, _ = routes.get(route_of(head.method, head.target), _FAST)
        if not seconds:
            self._turn(now)
            self._counted += 1
        return seconds

    def others(self, seconds: float, now: float) -> float:
        """How many requests of other routes come in such a time."""
        self._turn(now)
        return self._rate * seconds

    def _turn(self, now: float) -> None:
        """Begin another window when it is time."""
        if now - self._since > WINDOW:
            self._rate = self._counted / (now - self._since)
            self._since = now
            self._counted = 0
