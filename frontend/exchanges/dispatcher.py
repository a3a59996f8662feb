"""Which reactor gets an exchange, and who waits when none has room.

An exchange goes to the ready reactor with the fewest in flight, but not to one whose loop an app
holds up: there it would wait, however few are before it. When all are full, or held up, it waits in
one queue, first come, first served, with a bound; so the first that goes on takes it. Beyond the
bound those that are only held up get what waits, as long as they have room; then a new one is
refused at once, so that those who wait already keep their place. Exchanges that a reactor leaves
behind as it dies have waited before: those that may be tried again come first, beyond the bound
too.

Exchanges that are likely to stall a reactor may stand aside for the others: standby.py decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from math import inf
from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.ports import Runner
from reactor_run.frontend.exchanges.replay import may_be_replayed
from reactor_run.frontend.exchanges.standby import Standby
from reactor_run.frontend.exchanges.unstarted import Unstarted
from reactor_run.frontend.log import limited, log
from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["Dispatcher"]

_LOOK_AGAIN: Final = 0.1
"""Seconds until what waits is handed out although no reactor has said anything."""


class Dispatcher:
    """Hands exchanges to reactors."""

    def __init__(
        self, loop: Loop, queue_size: int, retried: Container[bytes], *, set_aside: bool = True
    ) -> None:
        """`queue_size`: exchanges that wait at most. `retried`: methods that may run twice.

        `set_aside`: whether slow exchanges ever stand aside.
        """
        self.reactors: list[Runner[Exchange]] = []
        """Those that may get exchanges."""
        self.doubted: list[Runner[Exchange]] = []
        """Those that may, and shall not while there are others: they answer no ping."""
        self.replays = 0
        """Exchanges that were taken back from a reactor that died, to be tried again."""
        self.moves = 0
        """Exchanges that one reactor had not begun for long, and another one was given."""
        self._queue_size = queue_size
        self._retried = retried
        self._queue: OrderedDict[Exchange, float] = OrderedDict()
        """What waits, and the seconds for which each is likely to stall a reactor; mostly 0."""
        self.standby = Standby(on=set_aside)
        self.unstarted = Unstarted(loop, self, retried)
        self._loop = loop
        self._later = Timer(self.pump)

    @property
    def waiting(self) -> int:
        """Exchanges that no reactor has."""
        return len(self._queue) + len(self.standby)

    @property
    def full(self) -> bool:
        """An exchange that came now would be refused."""
        return self.waiting >= self._queue_size and not self._has_room

    @property
    def _has_room(self) -> bool:
        """Some reactor would take an exchange, held up or not."""
        return any(each.takes_more for each in self.reactors)

    def submit(self, exchange: Exchange) -> None:
        """Start an exchange, queue it, or refuse it; its client is told which."""
        queue = self._queue
        reactors = self.reactors
        slow = 0.0
        if self.standby.routes.routes and len(reactors) > 1:
            slow = self.standby.seconds_of(exchange, len(reactors), self._loop.now)
            if slow and self._set_aside(exchange, slow):
                return
        if not queue:
            reactor = reactors[0] if len(reactors) == 1 else self._choose()
            if reactor is not None and (reactor.in_flight < reactor.capacity or reactor.takes_more):
                self._start(reactor, exchange, slow)
                return
        if self.waiting >= self._queue_size:
            reactor = self._choose(attentive=False)
            if reactor is None:
                exchange.requester.reject_overload()
                return
            if not queue:
                self._start(reactor, exchange, slow)
                return
            self._start(reactor, *queue.popitem(last=False))
        queue[exchange] = slow
        exchange.requester.queued()
        self._look_again()

    def _set_aside(self, exchange: Exchange, seconds: float) -> bool:
        """Have a slow exchange leave a reactor to others, if it is worth it; whether it is."""
        reactors = len(self.reactors)
        if self.waiting >= self._queue_size or not self.standby.takes(
            exchange, seconds, self._loop.now
        ):
            return False
        exchange.requester.queued()
        self.pump()
        # From now on they wait as any other, behind those that do.
        surplus = dict(self.standby.surplus(reactors))
        if surplus:
            self._queue.update(surplus)
            self.pump()
        return True

    def withdraw(self, exchange: Exchange) -> None:
        """Take an exchange out of the queue: its client left, or waited too long."""
        self._queue.pop(exchange, None)
        self.standby.withdraw(exchange)

    def take_back(
        self, reactor: Runner[Exchange], left: list[Exchange], begun: set[Exchange]
    ) -> None:
        """A reactor has died with these, in this order: queue them again, or answer them."""
        again, failed = [], []
        for exchange in left:
            if may_be_replayed(exchange, self._retried, begun=exchange in begun):
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
            exchange.requester.answer_failed()
        self.pump()

    def _queue_first(self, exchanges: list[Exchange]) -> None:
        """Queue them before all others: they have waited before."""
        for exchange in reversed(exchanges):
            exchange.wait_again()
            self._queue[exchange] = 0.0
            self._queue.move_to_end(exchange, last=False)
            exchange.requester.queued()

    def give_again(self, exchanges: list[Exchange]) -> None:
        """Have others begin what a reactor has not begun."""
        self.moves += len(exchanges)
        self._queue_first(exchanges)
        self.pump()

    def has_free(self, but_not: Runner[Exchange]) -> bool:
        """Whether another reactor would begin an exchange at once."""
        return any(
            reactor is not but_not
            and reactor.attentive
            and reactor.takes_more
            and not reactor.unstarted
            for reactor in self.reactors
        )

    def pump(self) -> None:
        """Start what waits, as far as there is room.

        No reactor gets more at once than its share of all that waits: others may only be held up,
        and will want something to do in a moment.
        """
        queue, standby = self._queue, self.standby
        now = self._loop.now
        if standby:
            queue.update(standby.overdue(now))
        share = -(-len(queue) // max(len(self.reactors), 1))
        given: dict[Runner[Exchange], int] = {}
        sated: set[Runner[Exchange]] = set()
        while queue:
            reactor = self._choose(sated)
            if reactor is None:
                self._look_again()
                return
            given[reactor] = given.get(reactor, 0) + 1
            if given[reactor] == share:
                sated.add(reactor)
            self._start(reactor, *queue.popitem(last=False))
        while standby:
            reactor = self._choose() if standby.may_go_on(self.reactors, now) else None
            if reactor is None:
                self._look_again()
                return
            self._start(reactor, *standby.next())

    def _look_again(self) -> None:
        """See to what waits although no reactor says anything: one may have room, or get some, as
        exchanges begin to wait for their clients."""
        if self._later.deadline == inf:
            self._loop.set_deadline(self._later, _LOOK_AGAIN)

    def add(self, reactor: Runner[Exchange]) -> None:
        """Let a reactor get exchanges."""
        self.reactors.append(reactor)
        self.pump()

    def remove(self, reactor: Runner[Exchange]) -> None:
        """Let a reactor get no more."""
        self.standby.forget(reactor)
        for reactors in self.reactors, self.doubted:
            if reactor in reactors:
                reactors.remove(reactor)
        if not self.reactors:
            self.reactors, self.doubted = self.doubted, []

    def doubt(self, reactor: Runner[Exchange]) -> None:
        """Let others be preferred, if there are any."""
        if reactor in self.reactors and len(self.reactors) > 1:
            self.reactors.remove(reactor)
            self.doubted.append(reactor)

    def trust(self, reactor: Runner[Exchange]) -> None:
        """It is as good as the others."""
        if reactor in self.doubted:
            self.doubted.remove(reactor)
            self.add(reactor)

    def _choose(
        self, but_not: Container[Runner[Exchange]] = (), *, attentive: bool = True
    ) -> Runner[Exchange] | None:
        """The reactor with room and the fewest in flight; by default, of those that are attentive.

        A single one is never passed over for that: what it is to do can wait there as well.
        """
        anybody = not attentive or len(self.reactors) == 1
        now = self._loop.now
        standby = self.standby
        best = None
        for reactor in self.reactors:
            busy = reactor.in_flight
            if (
                (best is None or busy < best.in_flight)
                and (busy < reactor.capacity or reactor.takes_more)
                and (
                    anybody
                    or (
                        reactor not in but_not
                        and reactor.attentive
                        and not (standby.expected and standby.expects(reactor, now))
                    )
                )
            ):
                best = reactor
        return best

    def _start(self, reactor: Runner[Exchange], exchange: Exchange, slow: float = 0.0) -> None:
        """`slow`: seconds for which it is likely to stall the reactor."""
        try:
            reactor.start(exchange)
        except OSError as error:
            limited.error("no lane to %s: %s", reactor.name, error)
            exchange.requester.reject_overload()
        else:
            if slow:
                self.standby.started(reactor, exchange, slow, self._loop.now)
            exchange.requester.started()
            if reactor not in self.unstarted.reactors:
                self.unstarted.given(reactor)
