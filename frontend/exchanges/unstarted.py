"""Looks after exchanges that their reactors were given and have not begun.

An app stalls its reactor, or keeps all its threads: what the reactor was given behind that waits,
and cannot help it. So:

1. Its time does not run: of --first-byte-timeout and of --request-timeout the wait takes at most
   LOOK, the time between two looks.
2. What has waited for MOVE_AFTER goes to another reactor that would begin it at once, if the
   request is still here. The first reactor may begin it in the same instant. If the request may
   be run twice by its method (replay.py), that does no harm: the other reactor gets it now, and
   the first one is told to drop it. Any other request is asked back, and moves when the reactor
   says that it never begins it. A reactor whose loop is stalled says so only afterwards.
"""

from __future__ import annotations

from collections.abc import Container
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.frontend.exchanges.orphans import Orphans
from reactor_run.frontend.exchanges.ports import Runner
from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["LOOK", "MOVE_AFTER", "Unstarted"]

LOOK: Final = 0.125
"""Seconds between two looks, as long as there is anything to look at."""
MOVE_AFTER: Final = 0.05
"""Seconds that an exchange waits in its reactor at least, before another one is given it."""


class Placement(Protocol):
    """The dispatcher, as far as exchanges are moved."""

    def has_free(self, but_not: Runner[Exchange]) -> bool:
        """Whether another reactor would begin an exchange at once."""

    def give_again(self, exchanges: list[Exchange]) -> None:
        """Queue exchanges before all others."""


class Unstarted:
    """Those of all reactors."""

    def __init__(self, loop: Loop, dispatcher: Placement, retried: Container[bytes]) -> None:
        """`retried`: methods of requests that may be run twice."""
        self._loop = loop
        self._dispatcher = dispatcher
        self._retried = retried
        self._orphans = Orphans(loop)
        self.reactors: dict[Runner[Exchange], None] = {}
        """Those that were given something since nothing of theirs was unstarted."""
        self._looked_at = 0.0
        self._timer = Timer(self._on_time)

    def given(self, reactor: Runner[Exchange]) -> None:
        """A reactor that is not among `reactors` was given an exchange."""
        if not self.reactors:
            self._loop.set_deadline(self._timer, LOOK)
        self.reactors[reactor] = None

    def look(self) -> None:
        """Put off the time of all that has not begun."""
        now = self._loop.now
        for reactor in self.reactors:
            for exchange in reactor.unstarted:
                if exchange.state is RUNNING:
                    exchange.requester.not_begun(now - max(self._looked_at, exchange.dispatched))
        self._looked_at = now

    def _on_time(self) -> None:
        self.look()
        before = self._loop.now - MOVE_AFTER
        for reactor in list(self.reactors):
            unstarted = reactor.unstarted
            late = [exchange for exchange in unstarted if exchange.dispatched <= before]
            if late:
                reactor.falls_behind(late[0])
                self._move(reactor, late)
            elif not unstarted:
                del self.reactors[reactor]
        if self.reactors:
            self._loop.set_deadline(self._timer, LOOK)

    def _move(self, reactor: Runner[Exchange], late: list[Exchange]) -> None:
        """Have others begin what this one has not, if any would do so at once."""
        if not self._dispatcher.has_free(reactor):
            return
        again = []
        for exchange in late:
            if exchange.state is not RUNNING or exchange.withdrawing or not exchange.request:
                continue
            if exchange.head.method in self._retried:
                rest = reactor.hand_off(exchange)
                if exchange.requester.due != inf:
                    # If it has begun in this moment, it has no more time than it had.
                    self._orphans.add(rest, exchange.requester.due)
                again.append(exchange)
            else:
                reactor.withdraw(exchange)
        self._dispatcher.give_again(again)
