"""The requester of an HTTP/1.1 connection: one exchange at a time, from its head to the end of its
answer.

The connection outlives the exchange. When the client leaves, the exchange is abandoned, and
occupies its reactor until its app is done.
"""

from __future__ import annotations

import select
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.deadlines import ExchangeClock
from reactor_run.frontend.clients.forwarding import ConnectionOrigin, ForwardedOrigin
from reactor_run.frontend.clients.http1_state import After, Http1State
from reactor_run.frontend.clients.own_answers import (
    BAD_GATEWAY,
    GATEWAY_TIMEOUT,
    OVERLOADED,
    OwnAnswer,
)
from reactor_run.frontend.clients.request_body import RequestBody
from reactor_run.frontend.exchanges.exchange import OVER, RUNNING, WAITING, Exchange
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.log import limited
from reactor_run.protocol.body import UNTIL_CLOSE
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.policy import Rule
from reactor_run.protocol.response import insert_connection
from reactor_run.protocol.response_head import ResponseHead

__all__ = ["Http1Requester", "RequestSource"]

_IN: Final = select.EPOLLIN
_IDLE: Final = Http1State.IDLE
_NEXT: Final = After.NEXT
_CLOSE: Final = After.CLOSE
_LINGER: Final = After.LINGER
_CUT: Final = After.CUT


class RequestSource(Protocol):
    """What reads the requests of the connection."""

    state: Http1State
    held: bytes | memoryview
    """Bytes of requests to come."""
    fin: bool
    """The client sends nothing more."""

    def read_on(self) -> None:
        """There is room for more of the request's body."""

    def reckon(self) -> None:
        """Set the deadline that the state asks for."""

    def answered(self) -> None:
        """The answer is written, or waits for the client to take it."""


class Http1Requester:
    """A `Requester` of ports.py. It waits for one answer at a time.

    exchange: the one under way, or None.
    body: what is still to come of its request's body. It may outlast the exchange.
    answer_begun: bytes of the final answer have been sent, so there can be no other.
    after: what follows the answer.
    clock: when the exchange has taken too long.
    express_prefix: what goes before the request on an express lane.
    forwarded: set if a trusted proxy is at the other end, which names the clients of its requests.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_lane_prefix",
        "_loop",
        "_origin",
        "_source",
        "_until_close",
        "after",
        "answer_begun",
        "body",
        "clock",
        "exchange",
        "express_prefix",
        "forwarded",
    )

    def __init__(
        self,
        context: ClientContext,
        connection: Connection,
        origin: ConnectionOrigin,
        source: RequestSource,
    ) -> None:
        """`origin`: of whom the requests are. `source`: what reads them."""
        self.exchange: Exchange | None = None
        self.body: RequestBody | None = None
        self.answer_begun = False
        self.after = _NEXT
        self.clock = ExchangeClock(context)
        self.express_prefix = origin.express_prefix
        self._until_close = False
        """The end of the answer is the end of the connection."""
        self._lane_prefix: bytes | None = None
        self._context = context
        self._loop = context.loop
        self._connection = connection
        self._origin = origin
        self.forwarded = origin if isinstance(origin, ForwardedOrigin) else None
        self._source = source

    # The request ---------------------------------------------------------------------------------

    def take_origin(self, fields: Fields) -> None:
        """A trusted proxy has sent a head with these fields: they say whose request it is."""
        assert self.forwarded is not None
        self.express_prefix, self._lane_prefix = self.forwarded.prefixes(fields)

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header that goes before the request on a lane."""
        if self._lane_prefix is None:
            self._lane_prefix = self._origin.lane_prefix()
        return self._lane_prefix

    def read_on(self) -> None:
        """There is room for more of the request's body."""
        self._source.read_on()

    # What the dispatcher tells --------------------------------------------------------------------

    def queued(self) -> None:
        """The exchange waits for a reactor.

        A client that sent FIN together with its request has only said that it asks for no more, and
        waits like any other. One that sends it while it waits has given up: `_on_fin`.
        """
        self.clock.queue()
        self._source.reckon()

    def started(self) -> None:
        """A reactor has the exchange."""
        exchange = self.exchange
        assert exchange is not None
        if self._context.times_exchanges:
            self.clock.start(again=exchange.replayed)
            if exchange.whole:
                self.clock.await_first_byte()
            self._source.reckon()
        elif self.clock.due != inf or not exchange.whole:
            self.clock.due = inf
            self._source.reckon()
        if not exchange.whole:
            self._source.read_on()
        if self._source.fin and not self._source.held and exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    @property
    def due(self) -> float:
        """When the exchange has taken too long, by the loop's clock; inf: never."""
        return self.clock.due

    def not_begun(self, seconds: float) -> None:
        """The reactor has not begun the exchange: so many seconds have not counted for its time."""
        exchange = self.exchange
        if exchange is not None and self._context.times_exchanges:
            self.clock.put_off(seconds)
            if exchange.whole:
                self.clock.await_first_byte()
            self._source.reckon()

    def overdue(self, exchange: Exchange) -> None:
        """The exchange has taken too long, in the queue or in a reactor."""
        if exchange.state is WAITING:
            self.reject_overload()
            return
        reactor = exchange.reactor
        assert reactor is not None
        limited.warning("%s took too long in %s: it is given up", exchange.name, reactor.name)
        reactor.cancel(exchange)
        self.answer_here(GATEWAY_TIMEOUT)

    def reject_overload(self) -> None:
        """No reactor has room, or none had for too long."""
        self.answer_here(OVERLOADED)

    # The answer -----------------------------------------------------------------------------------

    def answer_whole(self, answer: bytes) -> None:
        """Take all of the answer, head and body."""
        context = self._context
        exchange = self.exchange
        assert exchange is not None
        try:
            context.answers[answer[9]] += 1
        except IndexError:
            # It is shorter than a status line, and not counted.
            pass
        connection = self._connection
        now = exchange.ended = self._loop.now
        exchange.status_code = answer[9:12]
        size = exchange.bytes_out = len(answer)
        if self.after is not _NEXT or exchange.head.minor_version == 0 or context.draining:
            try:
                answer = self._with_connection(exchange, answer)
            except ValueError:
                limited.error("an answer without a status line cannot be relayed")
                self.answer_failed()
                return
        elif not self._source.held and connection.events == _IN:
            # By far the most frequent: the client takes all of it, and has asked for nothing more.
            try:
                sent = connection.send(answer)
            except OSError:
                sent = 0
            if sent == size:
                self.exchange = None
                self._source.state = _IDLE
                connection.due = when = now + context.keep_alive
                if when < connection.check_at:
                    self._loop.set_deadline_at(connection, when)
                else:
                    connection.deadline = when
                return
            answer = answer[sent:]
        connection.write(answer)
        self._source.answered()

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """Take the head of the final answer, and what came with it."""
        exchange = self.exchange
        assert exchange is not None
        self._until_close = head.body == UNTIL_CLOSE
        body = self.body
        if self._until_close or (body is not None and not body.may_be_drained(head.status)):
            self.end_with(_CLOSE)
        if self.after is not _NEXT or exchange.head.minor_version == 0 or self._context.draining:
            data = self._with_connection(exchange, data)
        self.answer_begun = True
        exchange.answer_began = self._loop.now
        exchange.status_code = b"%d" % head.status
        if self._context.first_byte_timeout:
            self.clock.answer_begins()
            self._source.reckon()
        self._context.counters.answered(head.status)
        self._relay(data, source)

    def answer_goes_on(self, data: memoryview, source: AnswerSource) -> None:
        """Take more of the answer; `data` is only lent."""
        self._relay(data, source)

    def answer_interim(self, data: bytes, source: AnswerSource) -> None:
        """Take a 1xx answer; HTTP/1.0 has none."""
        if self.exchange is not None and self.exchange.head.minor_version == 1:
            self._relay(data, source)
        body = self.body
        if body is not None and body.awaits_permission and self._connection.reading:
            # Any 1xx counts as the awaited 100 Continue.
            body.rate.begin(self._loop.now)
            self._source.reckon()

    def _relay(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """Send a part of the answer, and pause its source while the client takes too little."""
        if self.answer_begun and self.exchange is not None:
            self.exchange.bytes_out += len(data)
        self._connection.write(data)
        if self.exchange is not None:
            self._connection.restrain(source)

    def answer_ends(self) -> None:
        """All of the answer has come."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.reactor is not None
        exchange.ended = self._loop.now
        exchange.reactor.answered(exchange)
        self._source.answered()

    def answer_failed(self) -> None:
        """The reactor will not complete the answer."""
        self.answer_here(BAD_GATEWAY)

    def _with_connection(self, exchange: Exchange, answer: bytes) -> bytes:
        """RFC 9112 §9.3: say whether the connection goes on, where it is not understood."""
        if self._context.draining:
            self.end_with(_CLOSE)
        return insert_connection(answer, self._connection_option)

    @property
    def _connection_option(self) -> bytes:
        return b"keep-alive" if self.after is _NEXT else b"close"

    # Answers of the front end's own ---------------------------------------------------------------

    def answer_here(self, own: OwnAnswer, *, head_only: bool = False) -> None:
        """Answer in the place of the app, or cut its answer, and give up the exchange."""
        exchange = self.exchange
        if exchange is not None:
            exchange.error = own.reason
        if self.answer_begun:
            self._cut()
            return
        old = False
        if exchange is None or not exchange.whole:
            # What comes next may be the rest of this request, or may not.
            self.end_with(_LINGER)
        if exchange is not None:
            head_only = exchange.head.method == b"HEAD"
            old = exchange.head.minor_version == 0
        self.abandon()
        if self._context.draining:
            self.end_with(_CLOSE)
        self._context.counters.answered_here(own.status)
        answer = own.encode(head_only=head_only)
        if old or self.after is not _NEXT:
            answer = insert_connection(answer, self._connection_option)
        if exchange is not None:
            exchange.status_code = b"%d" % own.status
            exchange.bytes_out = len(answer)
        self._connection.write(answer)
        self._source.answered()

    def reject(self, rule: Rule, *, head_only: bool = False) -> None:
        """What the client sent breaks a rule. `head_only`: it was a head, and it says HEAD."""
        limited.debug("rejected a request: %s (%s)", rule.name, rule.section, kind=rule.name)
        self._context.counters.refused[rule.name] += 1
        self._source.held = b""
        if self.body is not None:
            self.body.drop()
            self.body = None
        if self.exchange is not None:
            self.exchange.whole = False
        self.answer_here(OwnAnswer(rule.status, rule.reason), head_only=head_only)

    # The end --------------------------------------------------------------------------------------

    def end_with(self, after: After) -> None:
        """Let no request follow; what was said of the end before stands if it says more."""
        if self.after is _NEXT or after is not _CLOSE:
            self.after = after

    def abandon(self) -> None:
        """Give up the exchange under way."""
        exchange, self.exchange = self.exchange, None
        if self.body is not None:
            self.body.drop()
        self._connection.release()
        if exchange is None:
            return
        exchange.ended = self._loop.now
        if exchange.state is WAITING:
            exchange.state = OVER
            self._context.dispatcher.withdraw(exchange)
        elif exchange.state is RUNNING and exchange.reactor is not None:
            exchange.reactor.abandon(exchange)
            if self.clock.due != inf:
                self._context.orphans.add(exchange, self.clock.due)
        exchange.drop_spool()

    def _cut(self) -> None:
        """End an answer that will not be completed, so that the client can see it."""
        self.abandon()
        self.end_with(_CUT)
        if self._until_close:
            # The end would look like the end of the answer: only a reset tells.
            self._connection.reset_on_close()
        self._source.answered()

    def over(self) -> None:
        """The client has taken the answer."""
        self.answer_begun = self._until_close = False

    def lose(self) -> None:
        """The client is gone."""
        if self.answer_begun and self._until_close:
            # The end would look like the end of the answer: only a reset tells.
            self._connection.reset_on_close()
        if self.exchange is not None and not self.exchange.error:
            self.exchange.error = "the client left"
        self.abandon()
