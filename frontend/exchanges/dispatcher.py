"""Assigns each exchange to a reactor, and queues it while no reactor has room.

1. An exchange goes to the ready reactor with the fewest exchanges in flight. Stalled reactors are
   passed over: an exchange would wait there, however few are before it.
2. If all reactors are full or stalled, the exchange waits in one bounded queue, first come, first
   served. The first reactor that has room again takes it.
3. If the queue is full, stalled reactors that have room take the oldest exchanges of the queue. If
   none has room, the new exchange is rejected, and the queued ones keep their place.
4. Exchanges of a reactor that died and that may be retried go to the head of the queue, even if it
   is full. They have waited before.

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
"""Seconds until queued exchanges are tried again without a message from a reactor."""


class Dispatcher:
    """The reactors that may get exchanges, and the queue of exchanges that wait for them."""

    def __init__(
        self, loop: Loop, queue_size: int, retried: Container[bytes], *, set_aside: bool = True
    ) -> None:
        """`queue_size`: the most exchanges that wait. `retried`: methods of requests that may run
        twice. `set_aside`: whether slow exchanges may stand aside.
        """
        self.reactors: list[Runner[Exchange]] = []
        """Reactors that may get exchanges."""
        self.doubted: list[Runner[Exchange]] = []
        """Reactors that have not answered a ping. They get exchanges only if there is no other."""
        self.replays = 0
        """Retries of exchanges whose reactor died, since the start."""
        self.moves = 0
        """Exchanges taken from a reactor that had not begun them, since the start."""
        self._queue_size = queue_size
        self._retried = retried
        self._queue: OrderedDict[Exchange, float] = OrderedDict()
        """The queue, oldest first. The value is the seconds for which the exchange is expected to
        stall its reactor, mostly 0.0."""
        self.standby = Standby(on=set_aside)
        self.unstarted = Unstarted(loop, self, retried)
        self._loop = loop
        self._later = Timer(self.pump)

    @property
    def waiting(self) -> int:
        """The number of exchanges that wait for a reactor, those that stand aside included."""
        return len(self._queue) + len(self.standby)

    @property
    def full(self) -> bool:
        """Whether a new exchange would be rejected now."""
        return self.waiting >= self._queue_size and not self._has_room

    @property
    def _has_room(self) -> bool:
        """Whether any reactor has room for an exchange, stalled or not."""
        return any(each.takes_more for each in self.reactors)

    def submit(self, exchange: Exchange) -> None:
        """Start an exchange, queue it, or reject it; tell its requester which."""
        queue = self._queue
        reactors = self.reactors
        reactor: Runner[Exchange] | None
        slow = 0.0
        if self.standby.routes.routes and len(reactors) > 1:
            slow = self.standby.seconds_of(exchange, len(reactors), self._loop.now)
            if slow and self._set_aside(exchange, slow):
                return
        if not queue:
            if len(reactors) == 1:
                reactor = reactors[0]
            elif exchange.head.upgrade:
                reactor = self._choose_for_websocket()
            else:
                reactor = self._choose()
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
        """Let a slow exchange stand aside if standby.py says so; return whether it does."""
        reactors = len(self.reactors)
        if self.waiting >= self._queue_size or not self.standby.takes(
            exchange, seconds, self._loop.now
        ):
            return False
        exchange.requester.queued()
        self.pump()
        # The surplus goes to the end of the queue, as ordinary exchanges.
        surplus = dict(self.standby.surplus(reactors))
        if surplus:
            self._queue.update(surplus)
            self.pump()
        return True

    def withdraw(self, exchange: Exchange) -> None:
        """Remove an exchange that waits: its client left, or it waited too long."""
        self._queue.pop(exchange, None)
        self.standby.withdraw(exchange)

    def take_back(
        self, reactor: Runner[Exchange], left: list[Exchange], begun: set[Exchange]
    ) -> None:
        """Retry the exchanges that a dead reactor left, or tell their requesters that they failed.

        `left`: all of them, in order. `begun`: those whose app may have been called.
        """
        again, failed = [], []
        for exchange in left:
            if may_be_replayed(exchange, self._retried, begun=exchange in begun):
                again.append(exchange)
            else:
                failed.append(exchange)
        if left:
            log.warning(
                "%s left %d exchanges unanswered: %d are retried, %d failed",
                reactor.name,
                len(left),
                len(again),
                len(failed),
            )
        self.replays += len(again)
        self._queue_first(again)
        # After the retries are queued: the next request of these clients must not overtake them.
        for exchange in failed:
            exchange.requester.answer_failed()
        self.pump()

    def _queue_first(self, exchanges: list[Exchange]) -> None:
        """Put exchanges at the head of the queue: they have waited before."""
        for exchange in reversed(exchanges):
            exchange.wait_again()
            self._queue[exchange] = 0.0
            self._queue.move_to_end(exchange, last=False)
            exchange.requester.queued()

    def give_again(self, exchanges: list[Exchange]) -> None:
        """Queue exchanges that a reactor was given and has not begun, before all others."""
        self.moves += len(exchanges)
        self._queue_first(exchanges)
        self.pump()

    def has_free(self, but_not: Runner[Exchange]) -> bool:
        """Return whether a reactor other than `but_not` would begin an exchange at once."""
        return any(
            reactor is not but_not
            and reactor.attentive
            and reactor.takes_more
            and not reactor.unstarted
            for reactor in self.reactors
        )

    def pump(self) -> None:
        """Start exchanges that wait, as long as reactors have room.

        In one call each reactor gets at most its share of the queue. The other reactors may be
        stalled for a moment only, and need work after that.
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
        """Call `pump` in a moment. A reactor gets room without a message when one of its exchanges
        begins to wait for its client."""
        if self._later.deadline == inf:
            self._loop.set_deadline(self._later, _LOOK_AGAIN)

    def add(self, reactor: Runner[Exchange]) -> None:
        """Add a reactor that may get exchanges."""
        self.reactors.append(reactor)
        self.pump()

    def remove(self, reactor: Runner[Exchange]) -> None:
        """Remove a reactor: it gets no more exchanges."""
        self.standby.forget(reactor)
        for reactors in self.reactors, self.doubted:
            if reactor in reactors:
                reactors.remove(reactor)
        if not self.reactors:
            self.reactors, self.doubted = self.doubted, []

    def doubt(self, reactor: Runner[Exchange]) -> None:
        """Prefer other reactors to this one, if there are any."""
        if reactor in self.reactors and len(self.reactors) > 1:
            self.reactors.remove(reactor)
            self.doubted.append(reactor)

    def trust(self, reactor: Runner[Exchange]) -> None:
        """End the doubt about a reactor: give it exchanges again like all others."""
        if reactor in self.doubted:
            self.doubted.remove(reactor)
            self.add(reactor)

    def _choose(
        self, but_not: Container[Runner[Exchange]] = (), *, attentive: bool = True
    ) -> Runner[Exchange] | None:
        """Return the reactor with the fewest exchanges in flight among those with room, or None.

        By default reactors that are not attentive, that are in `but_not` or that are about to stall
        are passed over. A single reactor is never passed over: an exchange can wait there as well.
        """
        any_reactor = not attentive or len(self.reactors) == 1
        now = self._loop.now
        standby = self.standby
        best = None
        for reactor in self.reactors:
            busy = reactor.in_flight
            if (
                (best is None or busy < best.in_flight)
                and (busy < reactor.capacity or reactor.takes_more)
                and (
                    any_reactor
                    or (
                        reactor not in but_not
                        and reactor.attentive
                        and not (standby.expected and standby.expects(reactor, now))
                    )
                )
            ):
                best = reactor
        return best

    def _choose_for_websocket(self) -> Runner[Exchange] | None:
        """Return the reactor with the fewest WebSockets among those with room, or None.

        A WebSocket stays for long. When one reactor after another is idle, the first of them would
        get them all.
        """
        free = [each for each in self.reactors if each.attentive and each.takes_more]
        return min(free, key=lambda each: each.websockets + each.in_flight, default=None)

    def _start(self, reactor: Runner[Exchange], exchange: Exchange, slow: float = 0.0) -> None:
        """Give an exchange to a reactor. `slow`: seconds for which it is expected to stall it."""
        try:
            reactor.start(exchange)
        except OSError as error:
            limited.error("cannot open a lane to %s: %s", reactor.name, error)
            exchange.requester.reject_overload()
        else:
            if slow:
                self.standby.started(reactor, exchange, slow, self._loop.now)
            exchange.requester.started()
            if reactor not in self.unstarted.reactors:
                self.unstarted.given(reactor)
