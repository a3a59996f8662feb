"""Exchanges that are likely to stall a reactor stand aside, so that one reactor stays free of them.

Whether one is, its route tells (slow_routes.py). It goes on only if another reactor stays free of
such exchanges, running or expected. Until then the others pass it: each of them takes a moment, and
would otherwise wait for many times as long. The dispatcher asks this file before it queues an
exchange, and when a reactor has room; nothing else knows of it. What bounds the price that slow
exchanges pay:

    few others      none stands aside if fewer than WORTH_IT others come while it runs
    much to do      none stands aside while slow exchanges ask for more than LOAD_MAX of what the
                    reactors that may have them can do: they would wait for each other for ever
    too many        at most SET_ASIDE stand aside for each reactor but one; then the oldest is
                    queued
    too long        none stands aside for more than PATIENCE times what it takes itself

`--set-aside off` switches it off. The rows (b) and (c) of the benchmark `uneven` show what fast and
slow requests get.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.ports import Runner
from reactor_run.frontend.exchanges.slow_routes import SlowRoutes
from reactor_run.pulse import SLOW

__all__ = ["Decisions", "Load", "Standby"]

SET_ASIDE: Final = 2
"""Slow exchanges that stand aside at most, for each reactor but one."""
WORTH_IT: Final = 2.0
"""Others that come while a slow exchange runs, for it to stand aside for them."""
PATIENCE: Final = 3.0
"""How many times as long as it takes itself a slow exchange stands aside at most."""
LOAD_MAX: Final = 0.9
"""Share of the time of all reactors but one that slow exchanges may ask for."""
LOAD_OF: Final = 64
"""Slow exchanges from which that share is reckoned, at most."""
LOAD_LEAST: Final = 32
"""Slow exchanges below which it is not known."""


class Load:
    """How much time slow exchanges ask for: seconds of a reactor in each second."""

    __slots__ = ("_arrivals", "_seconds")

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, float]] = deque()
        """When each came, and the seconds that it was expected to take."""
        self._seconds = 0.0
        """The sum of these."""

    def add(self, seconds: float, now: float) -> None:
        """Count a slow exchange that comes now."""
        self._arrivals.append((now, seconds))
        self._seconds += seconds
        if len(self._arrivals) > LOAD_OF:
            self._seconds -= self._arrivals.popleft()[1]

    def at(self, now: float) -> float:
        """Return the load, 0.0 while it is not known."""
        if len(self._arrivals) < LOAD_LEAST:
            return 0.0
        return self._seconds / max(now - self._arrivals[0][0], 0.001)


class Decisions:
    """How often what was decided, since the start."""

    __slots__ = ("called_up", "not_worth_it", "set_aside", "too_much")

    def __init__(self) -> None:
        self.set_aside = 0
        """Slow exchanges that stood aside, be it for no time at all."""
        self.called_up = 0
        """Those of them that were queued, since too many stood aside, or for too long."""
        self.not_worth_it = 0
        """Slow exchanges that did not stand aside because few others came."""
        self.too_much = 0
        """Slow exchanges that did not because all of them asked for too much."""


class Standby:
    """The slow exchanges that stand aside, and those that reactors were given lately.

    Times are seconds of the loop's clock.
    """

    def __init__(self, *, on: bool = True) -> None:
        """`on`: whether any exchange is ever taken for slow."""
        self.on = on
        self.routes = SlowRoutes()
        self.decisions = Decisions()
        self.expected: dict[Runner[Exchange], tuple[Exchange, float]] = {}
        """The slow exchange that a reactor was given last, and when its stall will be over."""
        self._load = Load()
        self._aside: OrderedDict[Exchange, tuple[float, float]] = OrderedDict()
        """The seconds that each takes, and the time at which it has stood aside for too long."""

    def __len__(self) -> int:
        return len(self._aside)

    def told(self, route: bytes, seconds: float, now: float) -> None:
        """Hear from a reactor how long a request of a route took; 0: it is slow no more."""
        if self.on:
            self.routes.told(route, seconds, now)

    def seconds_of(self, exchange: Exchange, reactors: int, now: float) -> float:
        """Return for how long an exchange will stall its reactor.

        0.0 if that is not known, or if slow exchanges ask for too much: then they are as any other.
        To be called once for each exchange, as long as there are `routes`.
        """
        seconds = self.routes.expect(exchange.head, now)
        if seconds:
            load = self._load.at(now)
            self._load.add(seconds, now)
            if load > LOAD_MAX * (reactors - 1):
                self.decisions.too_much += 1
                return 0.0
        return seconds

    def takes(self, exchange: Exchange, seconds: float, now: float) -> bool:
        """Decide whether a slow exchange stands aside; if so it is kept until it may go on."""
        if self.routes.others(seconds, now) < WORTH_IT:
            self.decisions.not_worth_it += 1
            return False
        self.decisions.set_aside += 1
        self._aside[exchange] = (seconds, now + PATIENCE * seconds)
        return True

    def withdraw(self, exchange: Exchange) -> None:
        """Forget an exchange: its client left, or waited too long."""
        self._aside.pop(exchange, None)

    def overdue(self, now: float) -> Iterator[tuple[Exchange, float]]:
        """Give up those that have stood aside for too long: each, and the seconds that it takes."""
        for exchange in [each for each, (_, until) in self._aside.items() if until <= now]:
            self.decisions.called_up += 1
            yield exchange, self._aside.pop(exchange)[0]

    def surplus(self, reactors: int) -> Iterator[tuple[Exchange, float]]:
        """Give up those that came first, as long as too many stand aside."""
        while len(self._aside) > SET_ASIDE * (reactors - 1):
            self.decisions.called_up += 1
            exchange, (seconds, _) = self._aside.popitem(last=False)
            yield exchange, seconds

    def next(self) -> tuple[Exchange, float]:
        """Give up the one that came first."""
        exchange, (seconds, _) = self._aside.popitem(last=False)
        return exchange, seconds

    def may_go_on(self, reactors: Sequence[Runner[Exchange]], now: float) -> bool:
        """Whether a slow exchange that goes on leaves a reactor that is free of such."""
        if len(reactors) == 1:
            return True
        free = 0
        for reactor in reactors:
            since = reactor.step_began
            stalled = since != 0.0 and now - since > SLOW
            free += not stalled and not self.expects(reactor, now)
        return free > 1

    def started(
        self, reactor: Runner[Exchange], exchange: Exchange, seconds: float, now: float
    ) -> None:
        """Expect a reactor to be stalled by a slow exchange that it was given."""
        self.expected[reactor] = (exchange, now + seconds)

    def expects(self, reactor: Runner[Exchange], now: float) -> bool:
        """Whether a reactor is about to be stalled by the slow exchange that it was given last."""
        slow = self.expected.get(reactor)
        if slow is None:
            return False
        exchange, until = slow
        if (
            exchange.app_done
            or now > until
            # It waits for something; its next step shows when it begins.
            or (reactor.has_begun(exchange) and not reactor.step_began)
        ):
            del self.expected[reactor]
            return False
        return True

    def forget(self, reactor: Runner[Exchange]) -> None:
        """Drop a reactor that gets no more."""
        self.expected.pop(reactor, None)
