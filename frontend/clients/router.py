"""Takes the requests of all clients if there are routes, and gives each to who answers it.

An app gets its requests by its entry. All others are answered by the front end: with a file, a
redirect or a text. They never reach a dispatcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reactor_run.clock import date_field
from reactor_run.frontend.clients.context import Answerer, ClientContext
from reactor_run.frontend.clients.entry import Entry, answers_here
from reactor_run.frontend.clients.own_answers import OwnAnswer
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import OVER, Exchange
from reactor_run.frontend.routes.redirect import redirect_location
from reactor_run.frontend.routes.route import AnswerTarget, AppTarget, RedirectTarget, Route
from reactor_run.frontend.routes.table import AmbiguousPath, RouteTable
from reactor_run.protocol.response import encode_response_head, simple_response

__all__ = ["Router"]

_AMBIGUOUS: Final = OwnAnswer(400, "the path is ambiguous: it may be read as that of another route")
_NOT_FOUND: Final = OwnAnswer(404, "Not Found")


class Router:
    """Takes the requests of all clients before the dispatchers do."""

    def __init__(
        self,
        context: ClientContext,
        table: RouteTable,
        files: Mapping[Route, Answerer],
        apps: Mapping[str, Entry],
        *,
        several: bool,
    ) -> None:
        """`context`: of the connections. `files`: what answers the requests of each route with a
        directory. `apps`: to which the routes lead, by name. `several`: the service has several."""
        self._context = context
        self._table = table
        self._several = several
        self._switches = len(apps) > 1
        """Connections get the context of the app that a request is for."""
        self._answerers: dict[Route, Answerer] = {**files}
        self._apps: dict[Route, Entry] = {}
        for route in table.routes:
            match route.target:
                case AppTarget(app):
                    self._apps[route] = apps[app]
                case RedirectTarget():
                    self._answerers[route] = self._redirects(route, route.target)
                case AnswerTarget():
                    self._answerers[route] = self._answers(route.target)
        if any(route.cross_origin is not None for route in table.routes):
            context.change_answers()

    def submit(self, exchange: Exchange) -> None:
        """Give a request to who answers it."""
        found = self._find(exchange)
        if isinstance(found, Entry):
            found.taker(exchange)
        else:
            found(exchange)

    def find(self, exchange: Exchange) -> Answerer | None:
        """Return what answers a request in the place of an app; None: the app does."""
        found = self._find(exchange)
        if isinstance(found, Entry):
            return found.taker if found.rejects else None
        return found

    def _find(self, exchange: Exchange) -> Entry | Answerer:
        head = exchange.head
        try:
            route = self._table.find(head)
        except AmbiguousPath:
            return answers_here(_AMBIGUOUS)
        if route is None:
            return answers_here(_NOT_FOUND)
        cross_origin = route.cross_origin
        if cross_origin is not None:
            if cross_origin.is_preflight(head):
                exchange.route = route.name
                return self._preflight(cross_origin.lines(head, preflight=True))
            exchange.cross_origin = cross_origin
        entry = self._apps.get(route)
        if entry is None:
            exchange.route = route.name
            return self._answerers[route]
        if self._several:
            exchange.app = entry.name
        if self._switches:
            requester = exchange.requester
            assert isinstance(requester, Http1Requester)
            requester.use(entry.context)
        return entry

    # What answers --------------------------------------------------------------------------------

    def _redirects(self, route: Route, target: RedirectTarget) -> Answerer:
        def answer(exchange: Exchange) -> None:
            location = redirect_location(target, route.prefix, exchange.head)
            fields = ((b"location", location),)
            self._answer(exchange, target.status, b"redirected\n", fields)

        return answer

    def _answers(self, target: AnswerTarget) -> Answerer:
        text = target.text.encode()
        content_type = target.content_type.encode("latin-1")
        fields = tuple(
            (name.encode(), value.encode(errors="surrogateescape")) for name, value in target.fields
        )

        def answer(exchange: Exchange) -> None:
            self._answer(exchange, target.status, text, fields, content_type)

        return answer

    def _answer(
        self,
        exchange: Exchange,
        status: int,
        body: bytes,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        content_type: bytes = b"text/plain; charset=utf-8",
    ) -> None:
        exchange.state = OVER
        exchange.requester.answer_whole(
            simple_response(
                status,
                body,
                fields=fields,
                date_field=date_field(),
                own_fields=self._context.own_fields,
                close=False,
                head_only=exchange.head.method == b"HEAD",
                content_type=content_type,
            )
        )

    def _preflight(self, lines: bytes) -> Answerer:
        def answer(exchange: Exchange) -> None:
            head, _ = encode_response_head(
                204,
                (),
                method=b"OPTIONS",
                minor_version=1,
                length=0,
                date_field=date_field(),
                own_fields=self._context.own_fields,
            )
            exchange.state = OVER
            exchange.requester.answer_whole(head[:-2] + lines + b"\r\n")

        return answer
