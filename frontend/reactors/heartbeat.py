"""Finds out reactors that hang: pings each that serves, or still finishes what it has, a few times
within --timeout.

A ping is answered as soon as the reactor's loop turns. A reactor that leaves one unanswered gets
nothing new while there are others; after `--timeout` it is ended. What counts is beats, not time: a
front end that was stopped itself, and finds on waking that much time has passed, blames nobody.

While a WSGI reactor with one thread runs its app, its loop cannot turn. Until it has answered it
may take as long as it likes, as far as this module is concerned: whoever wants to bound that sets
--request-timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.exchange import ANSWERED
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.reactor import Reactor

__all__ = ["Heartbeat"]

_BEATS: Final = 4
"""Beats within the timeout."""


class Heartbeat:
    """One timer for all reactors."""

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        timeout: float,
    ) -> None:
        """`timeout`: seconds that a ping may go unanswered; 0: for ever."""
        self._loop = loop
        self._at_work: Callable[[], list[Reactor]] = list
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._timer = Timer(self._beat)
        self._pings: dict[Reactor, int] = {}
        """Beats since a ping was sent that is not answered yet."""

    def begin(self, at_work: Callable[[], list[Reactor]]) -> None:
        """Beat from now on, if there is a timeout. `at_work`: returns the reactors to ping."""
        self._at_work = at_work
        self._beat_again()

    def _beat_again(self) -> None:
        self._loop.set_deadline(self._timer, self._timeout / _BEATS)

    def answered(self, reactor: Reactor) -> None:
        """A reactor has answered its ping."""
        self._pings.pop(reactor, None)
        self._dispatcher.trust(reactor)

    def _beat(self) -> None:
        self._beat_again()
        dispatcher = self._dispatcher
        reactors = self._at_work()
        for gone in self._pings.keys() - set(reactors):
            del self._pings[gone]
        for reactor in reactors:
            missed = self._pings.get(reactor)
            if reactor.inline and any(each.state is not ANSWERED for each in reactor.exchanges):
                if missed is not None:
                    self._pings[reactor] = 0
            elif missed is None:
                self._pings[reactor] = 0
                reactor.ping()
            else:
                self._pings[reactor] = missed = missed + 1
                if missed == 1:
                    dispatcher.doubt(reactor)
                elif missed >= _BEATS:
                    why = f"has answered no ping for {self._timeout:g} seconds"
                    reactor.hangs(why, reactor.begun)
