"""Moves exchanges away from reactors that do not begin them.

An app stalls its reactor, or occupies all its threads. Exchanges that the reactor was given after
that wait in it. So:

1. The wait does not count: it takes at most LOOK seconds of --first-byte-timeout and of
   --request-timeout.
2. An exchange that waited for MOVE_AFTER moves to a reactor that would begin it at once, if its
   request is still kept. The first reactor may begin it in the same instant. So:
   - A request whose method allows that it runs twice (replay.py) moves now, and the first reactor
     is told to drop it.
   - Any other request moves when the first reactor confirms that it never begins it. A stalled
     reactor confirms only after its stall.
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
"""Seconds between two checks, while any exchange may be unstarted."""
MOVE_AFTER: Final = 0.05
"""Seconds that an exchange waits in its reactor before it moves, at least."""


class Placement(Protocol):
    """The part of the dispatcher that moves exchanges."""

    def has_free(self, but_not: Runner[Exchange]) -> bool:
        """Return whether a reactor other than `but_not` would begin an exchange at once."""

    def give_again(self, exchanges: list[Exchange]) -> None:
        """Queue exchanges before all others."""


class Unstarted:
    """The unstarted exchanges of all reactors."""

    def __init__(self, loop: Loop, dispatcher: Placement, retried: Container[bytes]) -> None:
        """`retried`: methods of requests that may be run twice."""
        self._loop = loop
        self._dispatcher = dispatcher
        self._retried = retried
        self._orphans = Orphans(loop)
        self.reactors: dict[Runner[Exchange], None] = {}
        """The reactors that may have unstarted exchanges. It serves as an ordered set."""
        self._looked_at = 0.0
        self._timer = Timer(self._on_time)

    def given(self, reactor: Runner[Exchange]) -> None:
        """Note that a reactor was given an exchange. Call it only if `reactors` lacks the reactor:
        those in it are looked at already."""
        if not self.reactors:
            self._loop.set_deadline(self._timer, LOOK)
        self.reactors[reactor] = None

    def look(self) -> None:
        """Extend the deadlines of all unstarted exchanges by the time since the last check."""
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
        """Move late exchanges to other reactors, if one of these would begin them at once."""
        if not self._dispatcher.has_free(reactor):
            return
        again = []
        for exchange in late:
            if exchange.state is not RUNNING or exchange.withdrawing or not exchange.request:
                continue
            if not reactor.take_back(exchange):
                # It has begun after all, and its client has a part of the answer.
                continue
            if exchange.head.method in self._retried:
                rest = reactor.hand_off(exchange)
                if exchange.requester.due != inf:
                    # If the first reactor has just begun it, its deadline stays as it was.
                    self._orphans.add(rest, exchange.requester.due)
                again.append(exchange)
            else:
                reactor.withdraw(exchange)
        self._dispatcher.give_again(again)
