"""Cancels orphaned exchanges at their deadline.

An exchange is orphaned when its client leaves before the app is done. The deadline of the
connection ends with the client, so an app that never ends needs this second one.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["Orphans"]

_EVERY: Final = 1.0
"""Seconds between two checks of the deadlines."""


class Orphans:
    """The orphaned exchanges of all reactors, with their deadlines."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ends: dict[Exchange, float] = {}
        self._timer = Timer(self._look)

    def add(self, exchange: Exchange, ends: float) -> None:
        """Cancel an exchange at `ends`, in seconds of the loop's clock, unless its app is done."""
        if not self._ends:
            self._loop.set_deadline(self._timer, _EVERY)
        self._ends[exchange] = ends

    def _look(self) -> None:
        self._loop.set_deadline(self._timer, _EVERY)
        for exchange, ends in list(self._ends.items()):
            reactor = exchange.reactor
            if exchange.app_done or reactor is None:
                del self._ends[exchange]
            elif ends <= self._loop.now and reactor.has_begun(exchange):
                del self._ends[exchange]
                reactor.cancel(exchange)
        if not self._ends:
            self._loop.forget(self._timer)
