"""Ends the event streams of reactors that stop or retire.

An event stream lasts until its client leaves, so a stop would wait for it. In these steps, each
app can end in its own way:

1. The client's connection is cut. `receive` returns `http.disconnect`, and `send` raises OSError.
2. An app that still runs CANCEL_AFTER seconds later is cancelled.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.reactor import DEAD, Reactor

__all__ = ["CANCEL_AFTER", "EventStreams"]

CANCEL_AFTER: Final = 0.3
"""Seconds that an app has to end after it was told that its client has left."""
_EVERY: Final = 0.1
"""Seconds between two looks. A stream may begin after the first."""


class EventStreams:
    """The event streams of all reactors that are to end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._reactors: dict[Reactor, float] = {}
        """The reactors, and from when on their streams are ended."""
        self._cut: dict[Exchange, float] = {}
        """The streams that were cut, and when their apps are cancelled."""
        self._timer = Timer(self._look)

    def end_after(self, reactor: Reactor, seconds: float) -> None:
        """End the event streams of a reactor from so many seconds from now on."""
        when = self._loop.now + seconds
        self._reactors[reactor] = min(when, self._reactors.get(reactor, when))
        self._look()

    def _look(self) -> None:
        now = self._loop.now
        for reactor, when in list(self._reactors.items()):
            if reactor.state is DEAD:
                del self._reactors[reactor]
            elif when <= now and reactor.interface == "asgi":
                self._cut_streams(reactor)
        for exchange, when in list(self._cut.items()):
            if exchange.app_done or exchange.reactor is None:
                del self._cut[exchange]
            elif when <= now:
                del self._cut[exchange]
                exchange.reactor.cancel(exchange)
        if self._reactors or self._cut:
            self._loop.set_deadline(self._timer, _EVERY)

    def _cut_streams(self, reactor: Reactor) -> None:
        for exchange in reactor.exchanges:
            if exchange.event_stream and exchange.state is RUNNING:
                self._cut[exchange] = self._loop.now + CANCEL_AFTER
                exchange.requester.end_stream()
