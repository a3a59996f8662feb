"""Which reactor gets an exchange, and who waits when none has room.

An exchange goes to the ready reactor with the fewest in flight, but not to one whose loop an app
holds up: there it would wait, however few are before it. When all are full, or held up, it waits in
one queue, first come, first served, with a bound; so the first that goes on takes it. Beyond the
bound those that are only held up get what waits, as long as they have room; then a new one is
refused at once, so that those who wait already keep their place. Exchanges that a reactor leaves
behind as it dies have waited before: those that may be tried again come first, beyond the bound
too.

One that is likely to hold up its reactor (slow_routes.py) goes on only if another reactor stays
free of such, as long as there are many requests that are not slow. Until then it stands aside, and
they pass it: each takes a moment, and would have to wait for many times as long. At most SET_ASIDE
stand so for each reactor that may have them. Beyond that the oldest, and after PATIENCE any, waits
in the queue, behind what is there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from math import inf
from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.replay import may_be_replayed
from reactor_run.frontend.exchanges.slow_routes import SlowRoutes
from reactor_run.frontend.exchanges.unstarted import Unstarted
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.reactor import Reactor

__all__ = ["Dispatcher"]

SET_ASIDE: Final = 2
"""Slow exchanges that stand aside at most, for each reactor but one."""
WORTH_IT: Final = 2.0
"""Others that come while a slow exchange runs, for it to stand aside for them."""
PATIENCE: Final = 3.0
"""How many times as long as it takes itself a slow exchange stands aside at most."""
_LOOK_AGAIN: Final = 0.1
"""Seconds until what waits is handed out although no reactor has said anything."""


class Dispatcher:
    """Hands exchanges to reactors."""

    def __init__(self, loop: Loop, queue_size: int) -> None:
        self.reactors: list[Reactor] = []
        """Those that may get exchanges."""
        self.doubted: list[Reactor] = []
        """Those that may, and shall not while there are others: they answer no ping."""
        self.replays = 0
        """Exchanges that were taken back from a reactor that died, to be tried again."""
        self._queue_size = queue_size
        self._queue: OrderedDict[Exchange, float] = OrderedDict()
        """What waits, and the seconds for which each is likely to hold up a reactor; mostly 0."""
        self._aside: OrderedDict[Exchange, tuple[float, float]] = OrderedDict()
        """What stands aside: these seconds, and the time at which it has stood so long enough."""
        self.slow = SlowRoutes()
        self.unstarted = Unstarted(loop)
        self._loop = loop
        self._later = Timer(self.pump)

    @property
    def waiting(self) -> int:
        """Exchanges that no reactor has."""
        return len(self._queue) + len(self._aside)

    @property
    def full(self) -> bool:
        """An exchange that came now would be refused."""
        return self.waiting >= self._queue_size and not self._has_room

    @property
    def _has_room(self) -> bool:
        """Some reactor would take an exchange, held up or not."""
        return any(each.in_flight < each.capacity for each in self.reactors)

    def submit(self, exchange: Exchange) -> None:
        """Start an exchange, queue it, or refuse it; its client is told which."""
        queue = self._queue
        reactors = self.reactors
        slow = 0.0
        if self.slow.routes and len(reactors) > 1:
            slow = self.slow.expect(exchange.head, self._loop.now)
            if slow and self._set_aside(exchange, slow):
                return
        if not queue:
            reactor = reactors[0] if len(reactors) == 1 else self._choose()
            if reactor is not None and reactor.in_flight < reactor.capacity:
                self._start(reactor, exchange, slow)
                return
        if self.waiting >= self._queue_size:
            reactor = self._choose(attentive=False)
            if reactor is None:
                exchange.client.refuse_overload(exchange)
                return
            if not queue:
                self._start(reactor, exchange, slow)
                return
            self._start(reactor, *queue.popitem(last=False))
        queue[exchange] = slow
        exchange.client.queued(exchange)
        self._look_again()

    def _set_aside(self, exchange: Exchange, seconds: float) -> bool:
        """Have a slow exchange leave a reactor to others, if it is worth it; whether it is."""
        now = self._loop.now
        if self.waiting >= self._queue_size or self.slow.others(seconds, now) < WORTH_IT:
            return False
        self._aside[exchange] = (seconds, now + PATIENCE * seconds)
        exchange.client.queued(exchange)
        self.pump()
        if len(self._aside) > SET_ASIDE * (len(self.reactors) - 1):
            self._call_up(next(iter(self._aside)))
            self.pump()
        return True

    def _call_up(self, exchange: Exchange) -> None:
        """Have one that has stood aside wait as any other from now on, behind those that do."""
        self._queue[exchange], _ = self._aside.pop(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """Take an exchange out of the queue: its client left, or waited too long."""
        self._queue.pop(exchange, None)
        self._aside.pop(exchange, None)

    def take_back(self, reactor: Reactor, left: list[Exchange], begun: set[Exchange]) -> None:
        """A reactor has died with these, in this order: queue them again, or answer them."""
        again, failed = [], []
        for exchange in left:
            if may_be_replayed(exchange, begun=exchange in begun):
                again.append(exchange)
            else:
                failed.append(exchange)
        if left:
            log.warning(
                "%s left %d exchanges behind: %d are tried again, %d have failed",
                reactor.name,
                len(left),
                len(again),
                len(failed),
            )
        self.replays += len(again)
        self._queue_first(again)
        # Only now: their clients may have asked for more, which comes behind those.
        for exchange in failed:
            exchange.client.answer_failed(exchange)
        self.pump()

    def _queue_first(self, exchanges: list[Exchange]) -> None:
        """Queue them before all others: they have waited before."""
        for exchange in reversed(exchanges):
            exchange.wait_again()
            self._queue[exchange] = 0.0
            self._queue.move_to_end(exchange, last=False)
            exchange.client.queued(exchange)

    def pump(self) -> None:
        """Start what waits, as far as there is room.

        No reactor gets more at once than its share of all that waits: others may only be held up,
        and will want something to do in a moment.
        """
        queue, aside = self._queue, self._aside
        now = self._loop.now
        for exchange in [each for each, (_, until) in aside.items() if until <= now]:
            self._call_up(exchange)
        share = -(-len(queue) // max(len(self.reactors), 1))
        given: dict[Reactor, int] = {}
        sated: set[Reactor] = set()
        while queue:
            reactor = self._choose(sated)
            if reactor is None:
                self._look_again()
                return
            given[reactor] = given.get(reactor, 0) + 1
            if given[reactor] == share:
                sated.add(reactor)
            self._start(reactor, *queue.popitem(last=False))
        while aside:
            reactor = self._choose() if self._may_be_slow() else None
            if reactor is None:
                self._look_again()
                return
            exchange, (seconds, _) = aside.popitem(last=False)
            self._start(reactor, exchange, seconds)

    def _may_be_slow(self) -> bool:
        """Whether a slow exchange leaves a reactor that is free of such."""
        free = sum(not reactor.has_slow for reactor in self.reactors)
        return free > 1 or len(self.reactors) == 1

    def _look_again(self) -> None:
        """See to what waits although there is room: those that have it may say nothing for long."""
        if self._later.deadline == inf and (self._aside or self._has_room):
            self._loop.set_deadline(self._later, _LOOK_AGAIN)

    def add(self, reactor: Reactor) -> None:
        """Let a reactor get exchanges."""
        self.reactors.append(reactor)
        self.pump()

    def remove(self, reactor: Reactor) -> None:
        """Let a reactor get no more."""
        for reactors in self.reactors, self.doubted:
            if reactor in reactors:
                reactors.remove(reactor)
        if not self.reactors:
            self.reactors, self.doubted = self.doubted, []

    def doubt(self, reactor: Reactor) -> None:
        """Let others be preferred, if there are any."""
        if reactor in self.reactors and len(self.reactors) > 1:
            self.reactors.remove(reactor)
            self.doubted.append(reactor)

    def trust(self, reactor: Reactor) -> None:
        """It is as good as the others."""
        if reactor in self.doubted:
            self.doubted.remove(reactor)
            self.add(reactor)

    def _choose(
        self, but_not: Container[Reactor] = (), *, attentive: bool = True
    ) -> Reactor | None:
        """The reactor with room and the fewest in flight; by default, of those that are attentive.

        A single one is never passed over for that: what it is to do can wait there as well.
        """
        anybody = not attentive or len(self.reactors) == 1
        best = None
        for reactor in self.reactors:
            busy = reactor.in_flight
            if (
                busy < reactor.capacity
                and (best is None or busy < best.in_flight)
                and (anybody or (reactor not in but_not and reactor.attentive))
            ):
                best = reactor
        return best

    def _start(self, reactor: Reactor, exchange: Exchange, slow: float = 0.0) -> None:
        """`slow`: seconds for which it is likely to hold up the reactor."""
        try:
            reactor.start(exchange)
        except OSError as error:
            log.error("no lane to %s: %s", reactor.name, error)
            exchange.client.refuse_overload(exchange)
        else:
            if slow:
                reactor.expect(exchange, slow)
            exchange.client.started(exchange)
            self.unstarted.given(reactor)
