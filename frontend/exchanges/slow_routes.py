"""Predicts slow requests from what reactors reported about their route."""

from __future__ import annotations

from typing import Final

from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.route import route_of

__all__ = ["SlowRoutes"]

REMEMBERED: Final = 10.0
"""Seconds for which a route counts as slow after one of its requests was slow."""
ROUTES_MAX: Final = 256
"""The most slow routes that are remembered."""
WINDOW: Final = 1.0
"""Seconds over which the rate of other requests is measured."""
_FAST: Final = (0.0, 0.0)


class SlowRoutes:
    """The slow routes of all reactors. Times are seconds of the loop's clock."""

    __slots__ = ("_counted", "_rate", "_since", "routes")

    def __init__(self) -> None:
        self.routes: dict[bytes, tuple[float, float]] = {}
        """By route: the seconds that a request takes, and the time when the route is forgotten."""
        self._rate = 0.0
        """Requests per second of other routes, in the last complete window."""
        self._since = 0.0
        """When the present window began."""
        self._counted = 0
        """Requests of other routes in the present window."""

    def told(self, route: bytes, seconds: float, now: float) -> None:
        """Note that the last request of a route took `seconds`; 0: the route is not slow now."""
        routes = self.routes
        routes.pop(route, None)
        if seconds:
            if len(routes) >= ROUTES_MAX:
                del routes[next(iter(routes))]
            routes[route] = (seconds, now + REMEMBERED)

    def expect(self, head: RequestHead, now: float) -> float:
        """Return the seconds for which a request will stall its reactor; 0: not known to stall.

        Call it once for each request while `routes` is not empty: it counts the other requests.
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
        """Return how many requests of other routes arrive in `seconds`, at the measured rate."""
        self._turn(now)
        return self._rate * seconds

    def _turn(self, now: float) -> None:
        """Begin another window if the present one is over."""
        if now - self._since > WINDOW:
            self._rate = self._counted / (now - self._since)
            self._since = now
            self._counted = 0
