"""Which reactor gets an exchange, and who waits when none has room.

An exchange goes to the ready reactor with the fewest in flight, but not to one whose loop an app
holds up: there it would wait, however few are before it. When all are full, or held up, it waits in
one queue, first come, first served, with a bound; so the first that goes on takes it. Beyond the
bound those that are only held up get what waits, as long as they have room; then a new one is
refused at once, so that those who wait already keep their place. Exchanges that a reactor leaves
behind as it dies have waited before: those that may be tried again come first, beyond the bound
too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from math import inf
from typing import Final

from reactor_run.frontend.exchange import Exchange
from reactor_run.frontend.log import log
from reactor_run.frontend.loop import Loop, Timer
from reactor_run.frontend.reactor import Reactor
from reactor_run.frontend.replay import may_be_replayed

__all__ = ["Dispatcher"]

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
        self._queue: OrderedDict[Exchange, None] = OrderedDict()
        self._loop = loop
        self._later = Timer(self.pump)

    @property
    def waiting(self) -> int:
        """Exchanges in the queue."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """An exchange that came now would be refused."""
        return len(self._queue) >= self._queue_size and not self._has_room

    @property
    def _has_room(self) -> bool:
        """Some reactor would take an exchange, held up or not."""
        return any(each.in_flight < each.capacity for each in self.reactors)

    def submit(self, exchange: Exchange) -> None:
        """Start an exchange, queue it, or refuse it; its client is told which."""
        queue = self._queue
        if not queue:
            reactors = self.reactors
            reactor = reactors[0] if len(reactors) == 1 else self._choose()
            if reactor is not None and reactor.in_flight < reactor.capacity:
                self._start(reactor, exchange)
                return
        if len(queue) >= self._queue_size:
            reactor = self._choose(attentive=False)
            if reactor is None:
                exchange.client.refuse_overload(exchange)
                return
            if not queue:
                self._start(reactor, exchange)
                return
            self._start(reactor, queue.popitem(last=False)[0])
        queue[exchange] = None
        exchange.client.queued(exchange)
        self._look_again()

    def withdraw(self, exchange: Exchange) -> None:
        """Take an exchange out of the queue: its client left, or waited too long."""
        self._queue.pop(exchange, None)

    def take_back(self, reactor: Reactor, left: list[Exchange], never_begun: set[Exchange]) -> None:
        """A reactor has died with these, in this order: queue them again, or answer them."""
        again, failed = [], []
        for exchange in left:
            if exchange in never_begun or may_be_replayed(exchange):
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
        for exchange in reversed(again):
            exchange.wait_again()
            self._queue[exchange] = None
            self._queue.move_to_end(exchange, last=False)
            exchange.client.queued(exchange)
        # Only now: their clients may have asked for more, which comes behind those.
        for exchange in failed:
            exchange.client.answer_failed(exchange)
        self.pump()

    def pump(self) -> None:
        """Start what waits, as far as there is room.

        No reactor gets more at once than its share of all that waits: others may only be held up,
        and will want something to do in a moment.
        """
        queue = self._queue
        share = -(-len(queue) // max(len(self.reactors), 1))
        given: dict[Reactor, int] = {}
        sated: set[Reactor] = set()
        while queue:
            reactor = self._choose(sated)
            if reactor is None:
                self._look_again()
                return
            exchange, _ = queue.popitem(last=False)
            given[reactor] = given.get(reactor, 0) + 1
            if given[reactor] == share:
                sated.add(reactor)
            self._start(reactor, exchange)

    def _look_again(self) -> None:
        """See to what waits although there is room: those that have it may say nothing for long."""
        if self._later.deadline == inf and self._has_room:
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

    @staticmethod
    def _start(reactor: Reactor, exchange: Exchange) -> None:
        try:
            reactor.start(exchange)
        except OSError as error:
            log.error("no lane to %s: %s", reactor.name, error)
            exchange.client.refuse_overload(exchange)
        else:
            exchange.client.started(exchange)
