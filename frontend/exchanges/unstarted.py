"""Looks after exchanges that their reactors were given and have not begun.

An app stalls its reactor, or keeps all its threads: what the reactor was given behind that waits,
and cannot help it. So the time of such an exchange does not run: of --first-byte-timeout and of
--request-timeout the wait takes at most LOOK, the time between two looks.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.frontend.exchanges.ports import Runner
from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["LOOK", "Unstarted"]

LOOK: Final = 0.125
"""Seconds between two looks, as long as there is anything to look at."""


class Unstarted:
    """Those of all reactors."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._reactors: dict[Runner[Exchange], None] = {}
        """Those that were given something since nothing of theirs was unstarted."""
        self._looked_at = 0.0
        self._timer = Timer(self.look)

    def given(self, reactor: Runner[Exchange]) -> None:
        """A reactor was given an exchange."""
        if reactor not in self._reactors:
            if not self._reactors:
                self._loop.set_deadline(self._timer, LOOK)
            self._reactors[reactor] = None

    def look(self) -> None:
        """Put off the time of all that has not begun."""
        now = self._loop.now
        for reactor in list(self._reactors):
            unstarted = reactor.unstarted
            if not unstarted:
                del self._reactors[reactor]
            for exchange in unstarted:
                if exchange.state is RUNNING:
                    exchange.requester.not_begun(now - max(self._looked_at, exchange.given_at))
        self._looked_at = now
        if self._reactors:
            self._loop.set_deadline(self._timer, LOOK)
