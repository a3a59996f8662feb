"""Holds back slow exchanges, so that one reactor stays free of them.

An exchange is slow if slow_routes.py expects it to stall its reactor. A slow exchange starts only
if another reactor stays free of slow exchanges, running or expected. Until then it stands aside,
and fast exchanges overtake it: behind it they would wait many times as long as they take. Only the
dispatcher uses this file: before it queues an exchange, and when a reactor has room.

Four rules limit what slow exchanges pay:

    few others      a slow exchange does not stand aside if fewer than WORTH_IT others arrive in the
                    time that it takes
    high load       none stands aside while slow exchanges need more than LOAD_MAX of the time of
                    all reactors but one: they would wait for each other without end
    too many        at most SET_ASIDE stand aside for each reactor but one; then the oldest is
                    queued
    too long        none stands aside for more than WAIT_MAX times as long as it takes itself

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
"""The most slow exchanges that stand aside, for each reactor but one."""
WORTH_IT: Final = 2.0
"""A slow exchange stands aside if this many others arrive in the time that it takes."""
WAIT_MAX: Final = 3.0
"""The longest time that a slow exchange stands aside, as a multiple of the time that it takes."""
LOAD_MAX: Final = 0.9
"""The largest share of the time of all reactors but one that slow exchanges may need."""
LOAD_OF: Final = 64
"""The most slow exchanges from which the load is computed: the latest ones."""
LOAD_LEAST: Final = 32
"""The load is unknown before this many slow exchanges."""


class Load:
    """The load of slow exchanges: how many seconds of reactors they need in each second."""

    __slots__ = ("_arrivals", "_seconds")

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, float]] = deque()
        """When each slow exchange arrived, and the seconds that it is expected to take."""
        self._seconds = 0.0
        """The sum of the seconds in `_arrivals`."""

    def add(self, seconds: float, now: float) -> None:
        """Count a slow exchange that arrives now and is expected to take `seconds`."""
        self._arrivals.append((now, seconds))
        self._seconds += seconds
        if len(self._arrivals) > LOAD_OF:
            self._seconds -= self._arrivals.popleft()[1]

    def at(self, now: float) -> float:
        """Return the load; 0.0 while it is unknown."""
        if len(self._arrivals) < LOAD_LEAST:
            return 0.0
        return self._seconds / max(now - self._arrivals[0][0], 0.001)


class Decisions:
    """How often each decision was taken, since the start."""

    __slots__ = ("called_up", "not_worth_it", "set_aside", "too_much")

    def __init__(self) -> None:
        self.set_aside = 0
        """Slow exchanges that stood aside, even if for no time at all."""
        self.called_up = 0
        """Slow exchanges that stood aside and were queued: too many did, or one did too long."""
        self.not_worth_it = 0
        """Slow exchanges that did not stand aside because few others arrived."""
        self.too_much = 0
        """Slow exchanges that did not stand aside because of a high load."""


class Standby:
    """The slow exchanges that stand aside, and those that reactors were given last.

    Times are seconds of the loop's clock.
    """

    def __init__(self, *, on: bool = True) -> None:
        """`on`: False treats every exchange as fast."""
        self.on = on
        self.routes = SlowRoutes()
        self.decisions = Decisions()
        self.expected: dict[Runner[Exchange], tuple[Exchange, float]] = {}
        """By reactor: the slow exchange that it was given last, and when that stall should end."""
        self._load = Load()
        self._aside: OrderedDict[Exchange, tuple[float, float]] = OrderedDict()
        """The exchanges that stand aside, oldest first: the seconds that each takes, and the time
        until which it may stand aside."""

    def __len__(self) -> int:
        return len(self._aside)

    def told(self, route: bytes, seconds: float, now: float) -> None:
        """Note that a request of a route took `seconds`; 0: the route is not slow now."""
        if self.on:
            self.routes.told(route, seconds, now)

    def seconds_of(self, exchange: Exchange, reactors: int, now: float) -> float:
        """Return the seconds for which an exchange is expected to stall its reactor.

        0.0: it is not known to be slow, or the load is too high for any exchange to stand aside.
        Call it once for each exchange while `routes` is not empty.
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
        """Let a slow exchange stand aside if enough others arrive; return whether it does."""
        if self.routes.others(seconds, now) < WORTH_IT:
            self.decisions.not_worth_it += 1
            return False
        self.decisions.set_aside += 1
        self._aside[exchange] = (seconds, now + WAIT_MAX * seconds)
        return True

    def withdraw(self, exchange: Exchange) -> None:
        """Forget an exchange: its client left, or it waited too long."""
        self._aside.pop(exchange, None)

    def overdue(self, now: float) -> Iterator[tuple[Exchange, float]]:
        """Remove and yield exchanges that stood aside for too long, with the seconds they take."""
        for exchange in [each for each, (_, until) in self._aside.items() if until <= now]:
            self.decisions.called_up += 1
            yield exchange, self._aside.pop(exchange)[0]

    def surplus(self, reactors: int) -> Iterator[tuple[Exchange, float]]:
        """Remove and yield the oldest exchanges while too many stand aside, with their seconds."""
        while len(self._aside) > SET_ASIDE * (reactors - 1):
            self.decisions.called_up += 1
            exchange, (seconds, _) = self._aside.popitem(last=False)
            yield exchange, seconds

    def next(self) -> tuple[Exchange, float]:
        """Remove and return the oldest exchange, with the seconds that it takes."""
        exchange, (seconds, _) = self._aside.popitem(last=False)
        return exchange, seconds

    def may_go_on(self, reactors: Sequence[Runner[Exchange]], now: float) -> bool:
        """Return whether a slow exchange may start now. One reactor must stay free of them: neither
        stalled now nor expected to stall. A single reactor starts all."""
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
        """Note that a reactor was given a slow exchange, which will stall it for `seconds`."""
        self.expected[reactor] = (exchange, now + seconds)

    def expects(self, reactor: Runner[Exchange], now: float) -> bool:
        """Return whether the slow exchange that a reactor was given last is about to stall it."""
        slow = self.expected.get(reactor)
        if slow is None:
            return False
        exchange, until = slow
        if (
            exchange.app_done
            or now > until
            # The exchange has begun and waits for something. The pulse shows its next step.
            or (reactor.has_begun(exchange) and not reactor.step_began)
        ):
            del self.expected[reactor]
            return False
        return True

    def forget(self, reactor: Runner[Exchange]) -> None:
        """Drop a reactor that gets no more exchanges."""
        self.expected.pop(reactor, None)
