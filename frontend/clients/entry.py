"""Where the requests of all clients go first. Each of these may be there, in this order:

    router       gives the app its requests, and answers the others (router.py)
    maintenance  answers the app's requests with 503
    gate         holds the app's requests while it is started anew (reload_gate.py)
    dispatcher   gives them to reactors

What is not there costs a request nothing.
"""

from __future__ import annotations

from typing import Final, Protocol

from reactor_run.frontend.clients.context import Answerer, ClientContext
from reactor_run.frontend.clients.own_answers import OwnAnswer
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import Exchange

__all__ = ["Entry", "RequestRouter", "answers_here"]

_RETRY_AFTER: Final = (b"retry-after", b"60")


class RequestRouter(Protocol):
    """Gives each request to who answers it: router.py. It is imported only if there are routes."""

    to_app: Answerer
    """Takes the requests of the app."""
    rejects: bool
    """`to_app` rejects them all."""

    def submit(self, exchange: Exchange) -> None:
        """Give a request to who answers it."""

    def find(self, exchange: Exchange) -> Answerer | None:
        """Return what answers a request in the place of the app; None: the app does."""


def answers_here(own: OwnAnswer) -> Answerer:
    """Return what answers each request with `own`."""

    def answer(exchange: Exchange) -> None:
        requester = exchange.requester
        assert isinstance(requester, Http1Requester)
        requester.answer_here(own)

    return answer


class Entry:
    """The way of a request to the app of the command line.

    maintenance: the text that clients get in the place of the app; None: the app answers.
    """

    def __init__(self, context: ClientContext) -> None:
        self.maintenance: str | None = None
        self._context = context
        self._router: RequestRouter | None = None
        self._to_app: Answerer = context.submit
        self._rejects: Answerer = context.submit

    def route(self, router: RequestRouter) -> None:
        """Let `router` take each request from now on."""
        self._router = router
        self._connect()

    def pass_to(self, to_app: Answerer) -> None:
        """Let `to_app` take each request of the app from now on: the dispatcher, or a gate."""
        self._to_app = to_app
        self._connect()

    def maintain(self, text: str | None) -> None:
        """Reject each request of the app with 503 and this text from now on; None: no more."""
        self.maintenance = text
        if text is not None:
            own = OwnAnswer(503, "maintenance", _RETRY_AFTER, text=text or "Service Unavailable")
            self._rejects = answers_here(own)
        self._connect()

    def _connect(self) -> None:
        rejects = self.maintenance is not None
        to_app = self._rejects if rejects else self._to_app
        if self._router is not None:
            self._router.to_app = to_app
            self._router.rejects = rejects
            self._context.submit = self._router.submit
            self._context.find_answerer = self._router.find
        else:
            self._context.submit = to_app
            self._context.find_answerer = (lambda _: to_app) if rejects else None
