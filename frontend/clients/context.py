"""Holds what all client connections of one front end share: loop, dispatcher, limits, timeouts.

The service makes one. It calls `serves` when a reactor is ready, and sets `draining` when the
service stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from reactor_run.frontend.clients.answer_fields import AnswerFields
from reactor_run.frontend.clients.request_ids import RequestIds
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.ended import EndedRecords, Observer
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.orphans import Orphans
from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.loop.epoll import LATE, Loop
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2

if TYPE_CHECKING:
    from reactor_run.frontend.command.settings import Settings

__all__ = ["Answerer", "ClientContext"]

Answerer = Callable[[Exchange], None]
"""Takes a request, and answers it now or later."""


class Http2Starter(Protocol):
    """Lets a connection speak HTTP/2: http2_service.py, which uses connections itself."""

    def begin(self, context: ClientContext, connection: Any, origin: Any, data: bytes) -> Any:
        """Speak HTTP/2 on a connection. `data`: what the client has sent, from the preface on."""


class ClientContext:
    """The shared objects and settings of client connections. Times in seconds, sizes in bytes."""

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        counters: Counters,
        settings: Settings,
    ) -> None:
        self.loop = loop
        self.dispatcher = dispatcher
        self._others: list[ClientContext] = []
        """The other contexts of the service."""
        self._same_app: list[ClientContext] = []
        """The contexts of the app's own listeners."""
        self.submit: Answerer = dispatcher.submit
        """Takes each request. entry.py decides who does."""
        self.find_answerer: Callable[[Exchange], Answerer | None] | None = None
        """Returns what answers a request in the place of the app, or None. It is asked before a
        body is read. None: the app answers all requests."""
        self.counters = counters
        self.answers = counters.answers
        self.orphans = Orphans(loop)
        self.ended: list[Record] | None = None
        """Where requesters put the records of exchanges that have ended; None: no one reads them.
        """
        self._ended: EndedRecords | None = None
        self.limits_of_heads = Limits(
            request_line=settings.limit_request_line,
            field_count=settings.limit_field_count,
            field_size=settings.limit_field_size,
            head_size=settings.limit_head_size,
            body_size=0,
            path_policy=settings.path_policy,
        )
        """The limits without that of bodies."""
        self.limits = self.limits_of_heads.with_bodies(settings.max_body_size)
        self.own_fields = OwnFields(
            settings.header,
            server=not settings.no_server_header,
            dated=not settings.no_date_header,
        )
        """What each answer of the front end has beside its own fields."""
        self.head_timeout = settings.head_timeout
        self.body_timeout = settings.body_timeout
        self.min_body_rate = settings.min_body_rate
        self.keep_alive = settings.keep_alive
        self.max_connection_age = settings.max_connection_age
        self.close_grace = settings.close_grace
        self.response_timeout = settings.response_timeout
        self.min_response_rate = settings.min_response_rate
        self._take_timeouts(settings)
        self.buffers = False
        """The app is WSGI: bodies are collected before dispatch, and answers are spooled."""
        self.answer_file_max = 0
        """Bytes of an answer that may wait in a temporary file for a slow client; 0: none."""
        self.request_ids = RequestIds(self.limits) if settings.request_id else None
        self.answer_fields = (
            AnswerFields(request_id=settings.request_id, timing=settings.server_timing)
            if settings.request_id or settings.server_timing
            else None
        )
        self.http2: Http2Starter | None = None
        """Lets a connection speak HTTP/2; None: none may."""
        self.draining = False
        """The service stops: every answer is the last one of its connection. See `drain`."""
        self.changes_answers = self.answer_fields is not None
        """Each answer gets a field."""
        self._lane_proxy = settings.lane_proxy
        self._answer_spool_size = settings.answer_spool_size

    def _take_timeouts(self, settings: Settings) -> None:
        # The loop checks deadlines up to LATE seconds late. This one must not pass late.
        self.queue_timeout = max(settings.queue_timeout - LATE, settings.queue_timeout / 2)
        self.first_byte_timeout = settings.first_byte_timeout
        self.request_timeout = settings.request_timeout
        self.times_exchanges = bool(settings.first_byte_timeout or settings.request_timeout)

    def for_app(self, dispatcher: Dispatcher, settings: Settings) -> ClientContext:
        """Return the context of the requests of another app, which has its own `settings`.

        Call it after the last call of `observe`. All else is shared.
        """
        other = self._copy()
        other.dispatcher = dispatcher
        other.submit = dispatcher.submit
        other._take_timeouts(settings)
        return other

    def for_own_listeners(self) -> ClientContext:
        """Return the context of connections whose requests are all for this app.

        Whose `submit` it has, the caller decides. Call it after the last call of `observe`.
        """
        other = self._copy()
        self._same_app.append(other)
        return other

    def _copy(self) -> ClientContext:
        other = ClientContext.__new__(ClientContext)
        other.__dict__.update(self.__dict__)
        other._same_app = []
        # All contexts of a service share this list.
        self._others.append(other)
        return other

    def change_answers(self) -> None:
        """Note that answers get fields."""
        for context in (self, *self._others):
            context.changes_answers = True

    def drain(self) -> None:
        """Let every answer be the last one of its connection from now on: the service stops."""
        for context in (self, *self._others):
            context.draining = context.changes_answers = True

    def observe(self, observer: Observer) -> None:
        """Hand the records of ended exchanges to `observer` too, from now on."""
        if self._ended is None:
            self._ended = EndedRecords(self.loop)
            self.ended = self._ended.records
        self._ended.add(observer)

    def hand_over(self) -> None:
        """Hand over the records of exchanges that have ended since the loop has."""
        if self._ended is not None:
            self._ended.hand_over()

    def serves(self, interface: str) -> None:
        """Serve an app of this interface: `asgi` or `wsgi`."""
        for context in (self, *self._same_app):
            context.buffers = interface == "wsgi"
            context.answer_file_max = self._answer_spool_size if context.buffers else 0

    def encode_proxy(
        self,
        source: Endpoint | None,
        destination: Endpoint | None,
        tlvs: Iterable[tuple[int, bytes]],
    ) -> bytes:
        """Return the PROXY header that precedes each request on a lane."""
        if self._lane_proxy == "v2":
            return encode_v2(source, destination, tlvs)
        if self._lane_proxy == "v1":
            return encode_v1(source, destination)
        return b""
