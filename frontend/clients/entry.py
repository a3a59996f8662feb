"""Where the requests of one app go first. Each of these may be there, in this order:

    router       gives each app its requests, and answers the others (router.py)
    failure      answers the app's requests with 503: it did not start
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
_FAILED: Final = OwnAnswer(
    503, "the app did not start", (b"retry-after", b"10"), text="Service Unavailable"
)


class RequestRouter(Protocol):
    """Gives each request to who answers it: router.py. It is imported only if there are routes."""

    def submit(self, exchange: Exchange) -> None:
        """Give a request to who answers it."""

    def find(self, exchange: Exchange) -> Answerer | None:
        """Return what answers a request in the place of an app; None: the app does."""


def answers_here(own: OwnAnswer) -> Answerer:
    """Return what answers each request with `own`."""

    def answer(exchange: Exchange) -> None:
        requester = exchange.requester
        assert isinstance(requester, Http1Requester)
        requester.answer_here(own)

    return answer


class Entry:
    """The way of a request to one app.

    name: of the app.
    context: of the requests of this app.
    maintenance: the text that clients get in the place of the app; None: the app answers.
    taker: takes the requests of the app.
    rejects: the taker rejects them all.
    """

    def __init__(self, context: ClientContext, name: str) -> None:
        self.name = name
        self.context = context
        self.maintenance: str | None = None
        self.taker: Answerer = context.submit
        self.rejects = False
        self._failed = False
        """The app did not start, and never has."""
        self._router: RequestRouter | None = None
        self._to_app: Answerer = context.submit

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
        self._connect()

    def fail(self, failed: bool) -> None:
        """Reject each request of the app with 503 from now on, as it did not start; or no more."""
        if failed != self._failed:
            self._failed = failed
            self._connect()

    def _connect(self) -> None:
        text = self.maintenance
        self.rejects = text is not None or self._failed
        if text is not None:
            self.taker = answers_here(
                OwnAnswer(503, "maintenance", _RETRY_AFTER, text=text or "Service Unavailable")
            )
        else:
            self.taker = answers_here(_FAILED) if self._failed else self._to_app
        taker = self.taker
        if self._router is not None:
            self.context.submit = self._router.submit
            self.context.find_answerer = self._router.find
        else:
            self.context.submit = taker
            self.context.find_answerer = (lambda _: taker) if self.rejects else None
