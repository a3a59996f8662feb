"""Finds out reactors that hang: pings each that serves, a few times within --timeout.

A ping is answered as soon as the reactor's loop turns. A reactor that leaves one unanswered gets
nothing new while there are others; after `--timeout` it is ended. What counts is beats, not time: a
front end that was stopped itself, and finds on waking that much time has passed, blames nobody.

While a WSGI reactor with one thread runs its app, its loop cannot turn. It may take as long as it
likes, as far as this module is concerned: whoever wants to bound that sets --request-timeout.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.dispatcher import Dispatcher
from reactor_run.frontend.loop import Loop, Timer

__all__ = ["Heartbeat"]

_BEATS: Final = 4
"""Beats within the timeout."""


class Heartbeat:
    """One timer for all reactors."""

    def __init__(self, loop: Loop, dispatcher: Dispatcher, timeout: float) -> None:
        """`timeout`: seconds that a ping may go unanswered; 0: for ever."""
        self._loop = loop
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._timer = Timer(self._beat)

    def begin(self) -> None:
        """Beat from now on, if there is a timeout."""
        self._loop.set_deadline(self._timer, self._timeout / _BEATS)

    def _beat(self) -> None:
        self.begin()
        dispatcher = self._dispatcher
        for reactor in [*dispatcher.reactors, *dispatcher.doubted]:
            if reactor.inline and reactor.in_flight:
                reactor.missed = 0
            elif not reactor.pinged:
                reactor.ping()
            else:
                reactor.missed += 1
                if reactor.missed == 1:
                    dispatcher.doubt(reactor)
                elif reactor.missed >= _BEATS:
                    reactor.hangs(f"has answered no ping for {self._timeout:g} seconds")
