"""Holds requests while the app is started anew (`--reload`), so that they meet the saved code.

    OPEN      requests go to the dispatcher
    STARTING  a file has changed: requests wait for the new generation, for at most START_MAX; then
              they go to the dispatcher, whose reactors may have the old code
    FAILED    the new generation did not start: requests from this machine (failure_page.is_local)
              wait for the next change, for at most FAILED_MAX, and then get the traceback; others
              go to the dispatcher

Without `--reload` there is no gate.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.entry import Entry
from reactor_run.frontend.clients.failure_page import FailurePage, is_local
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import WAITING, Exchange
from reactor_run.frontend.loop.epoll import Timer

__all__ = ["FAILED_MAX", "START_MAX", "GateState", "ReloadGate"]

START_MAX: Final = 10.0
"""Seconds that a request waits for a new generation."""
FAILED_MAX: Final = 0.5
"""Seconds that a request waits for the next change before it gets the traceback."""
_LOOK: Final = 0.05
"""Seconds between two looks at the requests that wait."""


class GateState(Enum):
    """The states of a gate; the head of this file explains each."""

    OPEN = "open"
    STARTING = "starting"
    FAILED = "failed"


class ReloadGate:
    """Takes each request before the dispatcher, while a new generation starts or has failed to."""

    def __init__(
        self, context: ClientContext, entry: Entry, app: str, *, behind_proxy: bool
    ) -> None:
        """`entry`: leads requests to the gate. `app`: as it was given. `behind_proxy`: every client
        is behind a proxy, so no one gets a traceback."""
        self.state = GateState.OPEN
        self._context = context
        self._entry = entry
        self._loop = context.loop
        self._app = app
        self._behind_proxy = behind_proxy
        self._page: FailurePage | None = None
        self._held: dict[Exchange, float] = {}
        """The requests that wait, in order, and when each goes on, by the loop's clock."""
        self._timer = Timer(self._look)

    # What the service tells ----------------------------------------------------------------------

    def starts(self) -> None:
        """Hold requests: a file has changed, and a new generation starts."""
        self.state = GateState.STARTING
        self._entry.pass_to(self._submit)
        for exchange in self._held:
            self._held[exchange] = self._loop.now + START_MAX

    def opens(self) -> None:
        """Let all requests go on: the new generation serves, or the service stops."""
        self.state = GateState.OPEN
        self._page = None
        dispatcher = self._context.dispatcher
        self._entry.pass_to(dispatcher.submit)
        held, self._held = self._held, {}
        for exchange in held:
            if exchange.state is WAITING:
                dispatcher.submit(exchange)

    def failed(self, reason: str, details: str | None) -> None:
        """Answer requests from this machine with the reason: the new generation did not start."""
        self.state = GateState.FAILED
        self._page = FailurePage(self._app, reason, details)
        self._entry.pass_to(self._submit)
        for exchange in self._held:
            shown = self._shows(exchange)
            self._held[exchange] = self._loop.now + (FAILED_MAX if shown else 0)
        self._look()

    # Requests ------------------------------------------------------------------------------------

    def _submit(self, exchange: Exchange) -> None:
        if self.state is GateState.STARTING:
            self._hold(exchange, START_MAX)
        elif self._shows(exchange):
            self._hold(exchange, FAILED_MAX)
        else:
            self._context.dispatcher.submit(exchange)

    def _hold(self, exchange: Exchange, seconds: float) -> None:
        exchange.requester.queued()
        self._held[exchange] = self._loop.now + seconds
        self._loop.set_deadline(self._timer, _LOOK)

    def _look(self) -> None:
        """Let the requests go on that have waited long enough."""
        if self._context.draining and self.state is GateState.STARTING:
            self.opens()
        now = self._loop.now
        for exchange, until in [*self._held.items()]:
            if exchange.state is not WAITING:
                # Its client has left, or --queue-timeout is over.
                del self._held[exchange]
            elif until <= now:
                del self._held[exchange]
                self._release(exchange)
        if self._held:
            self._loop.set_deadline(self._timer, _LOOK)

    def _release(self, exchange: Exchange) -> None:
        page = self._page
        if page is not None and self._shows(exchange):
            requester = exchange.requester
            assert isinstance(requester, Http1Requester)
            requester.answer_here(page.answer(exchange.head))
        else:
            self._context.dispatcher.submit(exchange)

    def _shows(self, exchange: Exchange) -> bool:
        """Whether the client of a request may see the traceback."""
        requester = exchange.requester
        return (
            self.state is GateState.FAILED
            and not self._behind_proxy
            and isinstance(requester, Http1Requester)
            and is_local(requester.peer, exchange.head)
        )
