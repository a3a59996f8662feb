"""The requester of an HTTP/1.1 connection: it waits for one answer and writes it to the client.

The connection outlives the exchange. If the client leaves, the exchange is abandoned. It occupies
its reactor until its app is done.
"""

from __future__ import annotations

import select
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.deadlines import ExchangeClock
from reactor_run.frontend.clients.file_writer import FilePart
from reactor_run.frontend.clients.forwarding import ConnectionOrigin, ForwardedOrigin
from reactor_run.frontend.clients.http1_state import After, Http1State
from reactor_run.frontend.clients.own_answers import (
    BAD_GATEWAY,
    GATEWAY_TIMEOUT,
    OVERLOADED,
    OwnAnswer,
)
from reactor_run.frontend.clients.request_body import RequestBody
from reactor_run.frontend.clients.tunnel import SERVICE_RESTART, Tunnel
from reactor_run.frontend.exchanges.exchange import OVER, RUNNING, WAITING, Exchange
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.exchanges.record import Record, UnparsedHead
from reactor_run.frontend.log import limited
from reactor_run.protocol.body import UNTIL_CLOSE
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.policy import Rule
from reactor_run.protocol.proxy import Endpoint
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
    """Reads the requests of the connection, then perhaps the bytes of a WebSocket."""

    state: Http1State
    held: bytes | memoryview
    """Bytes of later requests that were read."""
    fin: bool
    """The client has sent FIN."""

    def read_on(self) -> None:
        """Read more of the request's body: there is room for it."""

    def use(self, context: ClientContext) -> None:
        """Serve requests of another app from now on."""

    def reckon(self) -> None:
        """Set the deadline of the present state."""

    def answered(self) -> None:
        """Go on after an answer, which was written or waits for the client."""


class Http1Requester:
    """A `Requester` of ports.py. It waits for one answer at a time.

    exchange: the exchange in flight, or None.
    body: the rest of the request's body, or None. It may outlast the exchange.
    answer_begun: bytes of the final answer were sent, so no other answer is possible.
    after: what the connection does after the answer.
    client: the address of the client of all requests, as text; empty: `client_of` may know it.
    clock: the deadline of the exchange.
    express_prefix: the bytes that precede the request on an express lane.
    origin: names the client of the requests.
    tls: what reactors are told of the TLS that the client speaks here; empty: none.
    http2: the client speaks HTTP/2.
    forwarded: set if a trusted proxy is at the other end, which names the clients of its requests.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_file",
        "_lane_prefix",
        "_loop",
        "_source",
        "_until_close",
        "after",
        "answer_begun",
        "body",
        "client",
        "clock",
        "exchange",
        "express_prefix",
        "forwarded",
        "http2",
        "identified",
        "origin",
        "tls",
    )

    def __init__(
        self,
        context: ClientContext,
        connection: Connection,
        origin: ConnectionOrigin,
        source: RequestSource,
    ) -> None:
        """`origin`: names the client of the requests. `source`: reads them."""
        self.exchange: Exchange | None = None
        self.body: RequestBody | None = None
        self.answer_begun = False
        self.after = _NEXT
        self.clock = ExchangeClock(context)
        self.express_prefix = origin.express_prefix
        self.identified: tuple[str, int] | None = None
        """The id of the request whose head was read, and how many bytes it has added to the head;
        None: there is no id, or the exchange has it."""
        self._file: FilePart | None = None
        """The part of a file that is sent."""
        self._until_close = False
        """The end of the answer is the end of the connection."""
        self._lane_prefix: bytes | None = None
        self._context = context
        self._loop = context.loop
        self._connection = connection
        self.origin = origin
        self.client = origin.client
        self.tls = origin.tls
        self.http2 = origin.http2
        self.forwarded = origin if isinstance(origin, ForwardedOrigin) else None
        self._source = source

    # The request ---------------------------------------------------------------------------------

    def take_origin(self, fields: Fields) -> None:
        """A trusted proxy has sent a head with these fields: they say whose request it is."""
        assert self.forwarded is not None
        self.express_prefix, self._lane_prefix, _ = self.forwarded.prefixes(fields)

    def client_of(self, fields: Fields) -> bytes:
        """Return the address of the client of a request with these fields; empty: unknown."""
        return self.origin.client_of(fields)

    @property
    def peer(self) -> Endpoint | None:
        """The other end of the connection, or whom a PROXY header names there."""
        return self.origin.peers[0]

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header that precedes the request on a lane."""
        if self._lane_prefix is None:
            self._lane_prefix = self.origin.lane_prefix()
        return self._lane_prefix

    def read_on(self) -> None:
        """Read more of the request's body: there is room for it."""
        self._source.read_on()

    def identify(self, exchange: Exchange) -> None:
        """Give an exchange the id of its request."""
        assert self.identified is not None
        exchange.request_id, added = self.identified
        exchange.bytes_in -= added
        self.identified = None

    def use(self, context: ClientContext) -> None:
        """Serve a request of the app of this context. Call it before the request is submitted.

        A reactor of another app may have a duplicate of the client's socket. Then this is the last
        request of the connection.
        """
        if context is self._context:
            return
        self._context = context
        self.clock.use(context)
        self._connection.use(context)
        self._source.use(context)
        if self._connection.is_held:
            self.end_with(_CLOSE)

    # What the dispatcher tells --------------------------------------------------------------------

    def queued(self) -> None:
        """Start the queue timeout: the exchange waits for a reactor.

        A client that sent FIN together with its request still waits for the answer. A client that
        sends FIN while it waits has given up: `Http1._on_fin` handles that.
        """
        self.clock.queue()
        self._source.reckon()

    def started(self) -> None:
        """Start the deadlines of the exchange, and send the rest of its body: a reactor has it."""
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
        """The deadline of the exchange, in seconds of the loop's clock; inf: none."""
        return self.clock.due

    def not_begun(self, seconds: float) -> None:
        """Extend the deadlines by `seconds`, in which the reactor did not begin the exchange."""
        exchange = self.exchange
        if exchange is not None and self._context.times_exchanges:
            self.clock.put_off(seconds)
            if exchange.whole:
                self.clock.await_first_byte()
            self._source.reckon()

    def overdue(self, exchange: Exchange) -> None:
        """End an exchange whose deadline has passed, in the queue or in a reactor."""
        if exchange.state is WAITING:
            self.reject_overload()
            return
        reactor = exchange.reactor
        assert reactor is not None
        limited.warning("%s took too long in %s, cancelling it", exchange.name, reactor.name)
        reactor.cancel(exchange)
        self.answer_here(GATEWAY_TIMEOUT)

    def reject_overload(self) -> None:
        """Reject the request: no reactor has room, or none had room for too long."""
        self.answer_here(OVERLOADED)

    # The answer -----------------------------------------------------------------------------------

    def answer_whole(self, answer: bytes) -> None:
        """Take the whole answer, head and body."""
        context = self._context
        exchange = self.exchange
        assert exchange is not None
        try:
            context.answers[answer[9]] += 1
        except IndexError:
            # The answer is shorter than a status line. It is not counted.
            pass
        connection = self._connection
        if self.after is not _NEXT or exchange.head.minor_version == 0 or context.changes_answers:
            try:
                answer = self._with_fields(exchange, answer)
            except ValueError:
                limited.error("an answer without a status line cannot be relayed")
                self.answer_failed()
                return
        if context.ended is not None:
            exchange.ended = self._loop.now
            exchange.status_code = answer[9:12]
            exchange.answer_head = answer
            exchange.bytes_out = len(answer)
        if not self._source.held and connection.events == _IN and self.after is _NEXT:
            # By far the most frequent case: the client takes all of it, and sent no more requests.
            try:
                sent = connection.send(answer)
            except OSError:
                sent = 0
            if sent == len(answer):
                self.exchange = None
                if context.ended is not None:
                    context.ended.append(exchange)
                self._source.state = _IDLE
                connection.due = when = self._loop.now + context.keep_alive
                if when < connection.check_at:
                    self._loop.set_deadline_at(connection, when)
                else:
                    connection.deadline = when
                return
            answer = answer[sent:]
        connection.write(answer)
        self._source.answered()

    def answer_file(self, head: bytes, part: FilePart) -> None:
        """Answer with a head and a part of a file, without the app. `part` is closed at the end."""
        context = self._context
        exchange = self.exchange
        assert exchange is not None
        context.answers[head[9]] += 1
        if self.after is not _NEXT or exchange.head.minor_version == 0 or context.changes_answers:
            head = self._with_fields(exchange, head)
        self.answer_begun = True
        self.clock.due = inf
        exchange.state = RUNNING
        exchange.answer_began = self._loop.now
        exchange.status_code = head[9:12]
        exchange.answer_head = head
        exchange.bytes_out = len(head)
        self._file = part
        self._source.reckon()
        self._connection.write_file(head, part)

    def file_sent(self) -> None:
        """End the answer if it was a file: the client has taken all of it."""
        part, self._file = self._file, None
        exchange = self.exchange
        if part is not None and exchange is not None:
            exchange.bytes_out += part.sent
            exchange.ended = self._loop.now
            exchange.state = OVER
            self._source.answered()

    def switch_protocols(self, data: bytes) -> None:
        """Take the head of a 101 answer. Bytes of a WebSocket follow in both directions.

        No deadline of the exchange holds any more: the reactor watches the WebSocket.
        """
        exchange = self.exchange
        assert exchange is not None
        assert exchange.reactor is not None
        context = self._context
        if context.answer_fields is not None:
            data = context.answer_fields.add(exchange, data, self._loop.now)
        self.answer_begun = exchange.upgraded = True
        self.end_with(_CLOSE)
        self.clock.due = inf
        exchange.answer_began = self._loop.now
        exchange.status_code = b"101"
        exchange.answer_head = data
        exchange.bytes_out = len(data)
        context.counters.websockets += 1
        exchange.reactor.upgraded(exchange)
        early = bytes(self._source.held)
        self._source = tunnel = Tunnel(self._connection, self, fin=self._source.fin)
        self._connection.write(data)
        tunnel.begin(early)

    def websocket_over(self, record: Record) -> None:
        """Hand over the record of a WebSocket, which has ended, and whose app is done."""
        if self._context.ended is not None:
            self._context.ended.append(record)

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """Take the head of the final answer, with the first bytes after it."""
        exchange = self.exchange
        assert exchange is not None
        self._until_close = head.body == UNTIL_CLOSE
        body = self.body
        if self._until_close or (body is not None and not body.may_be_drained(head.status)):
            self.end_with(_CLOSE)
        if (
            self.after is not _NEXT
            or exchange.head.minor_version == 0
            or self._context.changes_answers
        ):
            data = self._with_fields(exchange, data)
        self._note_head(exchange, data, head)
        self._relay(data, source)

    def _note_head(self, exchange: Exchange, data: bytes, head: ResponseHead) -> None:
        """Note that the final answer begins. `data`: its head, and perhaps more."""
        self.answer_begun = True
        exchange.answer_began = self._loop.now
        exchange.status_code = b"%d" % head.status
        if head.event_stream:
            exchange.event_stream = True
        if self._context.ended is not None:
            exchange.answer_head = data[: data.find(b"\r\n\r\n") + 4]
        if self._context.first_byte_timeout:
            self.clock.answer_begins()
            self._source.reckon()
        self._context.counters.answered(head.status)
        self._context.counters.in_pieces += 1

    def answer_goes_on(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """Take more of the answer. The memory of `data` is reused after the call."""
        self._relay(data, source)

    def answer_interim(self, data: bytes, source: AnswerSource) -> None:
        """Take a 1xx answer. A client of HTTP/1.0 does not get it."""
        if self.exchange is not None and self.exchange.head.minor_version == 1:
            self._relay(data, source)
        body = self.body
        early = data[9:12] == b"103"
        if body is not None and not early and body.awaits_permission and self._connection.reading:
            # Any 1xx counts as the awaited 100 Continue, but 103 comes without regard to the body.
            body.rate.begin(self._loop.now)
            self._source.reckon()

    def _relay(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """Send a part of the answer, and pause its source while too many bytes wait."""
        if self.answer_begun and self.exchange is not None:
            self.exchange.bytes_out += len(data)
        self._connection.write(data)
        if self.exchange is not None:
            self._connection.restrain(source)

    def answer_ends(self) -> None:
        """Note that the answer is complete."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.reactor is not None
        exchange.ended = self._loop.now
        exchange.reactor.answered(exchange)
        self._source.answered()

    # What a reactor writes to the client itself ---------------------------------------------------

    def offer(self) -> Connection | None:
        """Return the client's socket if a reactor may write the whole answer to it; else None.

        It may not if the front end may have to change the answer.
        """
        if self._context.changes_answers or not self._may_be_written():
            return None
        return self._connection

    def _may_be_written(self) -> bool:
        """Return whether a reactor may write an answer to the client itself.

        It may not if bytes of the front end wait for the client, for HTTP/1.0, over TLS, and on a
        connection that ends with this answer.
        """
        connection, exchange = self._connection, self.exchange
        return (
            exchange is not None
            and exchange.head.minor_version != 0
            and self.after is _NEXT
            and connection.writer is None
            and not connection.transport.encrypted
        )

    def direct_begins(self, data: bytes, head: ResponseHead) -> None:
        """Note that the reactor, which had an offer, writes the answer. `data`: its head."""
        exchange = self.exchange
        assert exchange is not None
        self._note_head(exchange, data, head)
        self._connection.grant()
        self._context.counters.grants += 1

    def direct_whole(self, size: int, data: bytes) -> None:
        """Note that the reactor, which had an offer, has written the answer, of `size` bytes.

        `data`: its head; empty: the reactor has died, and did not tell.
        """
        exchange = self.exchange
        assert exchange is not None
        context = self._context
        if data:
            context.answers[data[9]] += 1
        context.counters.grants += 1
        context.counters.in_pieces += 1
        exchange.ended = self._loop.now
        exchange.status_code = data[9:12]
        exchange.answer_head = data
        exchange.bytes_out = size
        source, connection = self._source, self._connection
        if source.held or connection.events != _IN or self.after is not _NEXT or context.draining:
            source.answered()
            return
        # By far the most frequent case: the client sent no more requests.
        self.end_exchange()
        source.state = _IDLE
        connection.wait(context.keep_alive)

    def direct_unknown(self) -> None:
        """Note that the reactor, which had an offer, may have written a part of the answer."""
        self.answer_begun = True

    def grant(self) -> Connection | None:
        """Let the reactor write the rest of the answer; None: it must be relayed."""
        connection = self._connection
        if self._context.draining or not self._may_be_written():
            return None
        connection.grant()
        self._context.counters.grants += 1
        return connection

    def grant_ends(self, written: int, *, given_back: bool = False) -> None:
        """Note that the reactor has written `written` bytes, and writes nothing more.

        `given_back`: the rest of the answer is relayed.
        """
        if given_back:
            self._context.counters.grants_given_back += 1
        if self.exchange is not None:
            self.exchange.bytes_out += written
        self._connection.grant_ends()

    def client_blocks(self, written: int) -> None:
        """Watch the minimum rate: the client takes no more now."""
        self._connection.blocks(written)

    def client_moves(self) -> None:
        """Watch no more: the client takes bytes again."""
        self._connection.moves()

    def answer_failed(self) -> None:
        """Answer 502, or cut the answer: the reactor will not complete it.

        A reactor that writes to the client directly may find before the front end that it left.
        """
        exchange = self.exchange
        if self.answer_begun and self._connection.has_left():
            self._connection.lose()
        elif exchange is not None and exchange.upgraded:
            self._end_websocket(exchange)
        else:
            self.answer_here(BAD_GATEWAY)

    def _end_websocket(self, exchange: Exchange) -> None:
        """End a WebSocket whose reactor does not go on with it.

        The client gets a close frame, unless it has a part of another frame.
        """
        exchange.error = BAD_GATEWAY.reason
        whole = exchange.lane is not None and exchange.lane.between_frames
        self.abandon()
        if whole:
            self._connection.write(SERVICE_RESTART)
        else:
            self.end_with(_CUT)
            self._connection.transport.cut()
        self._source.answered()

    def end_stream(self) -> None:
        """Cut an answer that has begun, and tell the app that its client has left."""
        self._connection.lose("the service stops")

    def _with_fields(self, exchange: Exchange, answer: bytes) -> bytes:
        """Return the answer with the fields that the front end adds. Raises ValueError if it has no
        head."""
        context = self._context
        if context.draining:
            self.end_with(_CLOSE)
        if exchange.cross_origin is not None:
            answer = exchange.cross_origin.add(exchange.head, answer)
        if context.answer_fields is not None:
            answer = context.answer_fields.add(exchange, answer, self._loop.now)
        return self._with_connection(answer, old=exchange.head.minor_version == 0)

    def _with_connection(self, answer: bytes, *, old: bool) -> bytes:
        """Return the answer with a Connection field if it needs one (RFC 9112 §9.3).

        `old`: the client speaks HTTP/1.0.
        """
        if self.after is not _NEXT:
            return insert_connection(answer, b"close")
        return insert_connection(answer, b"keep-alive") if old else answer

    def end_exchange(self) -> None:
        """End the exchange, if there is one. Its record is read at the end of this turn."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None and self._context.ended is not None and not exchange.upgraded:
            self._context.ended.append(exchange)

    # Answers of the front end's own ---------------------------------------------------------------

    def answer_here(self, own: OwnAnswer, unparsed: Record | None = None) -> None:
        """Answer instead of the app, or cut its answer, and abandon the exchange.

        `unparsed`: the record of a request that could not be parsed. It has no exchange.
        """
        exchange = self.exchange
        record: Record | None = exchange or unparsed
        if record is not None:
            record.error = own.reason
        if exchange is not None and exchange.offered and exchange.reactor is not None:
            self.answer_begun |= not exchange.reactor.take_back(exchange)
        if self.answer_begun:
            self._cut()
            return
        head_only = record is not None and record.head.method == b"HEAD"
        old = False
        if exchange is None or not exchange.whole:
            # The next bytes may be the rest of this request, or a new one.
            self.end_with(_LINGER)
        if exchange is not None:
            old = exchange.head.minor_version == 0
        self.abandon()
        if self._context.draining:
            self.end_with(_CLOSE)
        self._context.counters.answered_here(own.status)
        answer = own.encode(self._context.own_fields, head_only=head_only)
        if exchange is not None and exchange.cross_origin is not None:
            answer = exchange.cross_origin.add(exchange.head, answer)
        if record is not None and self._context.answer_fields is not None:
            answer = self._context.answer_fields.add(record, answer, self._loop.now)
        answer = self._with_connection(answer, old=old)
        if record is not None:
            # The record of the exchange is read at the end of this turn.
            record.status_code = b"%d" % own.status
            record.bytes_out = len(answer)
            record.answer_head = answer
        self._connection.write(answer)
        self._source.answered()

    def reject(
        self, rule: Rule, arrived: bytes | memoryview = b"", *, since: float | None = None
    ) -> None:
        """Reject a request that breaks a rule.

        `arrived`: the bytes of a request that was not parsed. `since`: when they began to arrive,
        in seconds of the loop's clock; None: now.
        """
        limited.debug("rejected a request: %s (%s)", rule.name, rule.section, kind=rule.name)
        self._context.counters.refused[rule.name] += 1
        self._source.held = b""
        if self.body is not None:
            self.body.drop()
            self.body = None
        unparsed = None
        if self.exchange is not None:
            self.exchange.whole = False
            self.exchange.rule = rule.name
        else:
            now = self._loop.now
            head = UnparsedHead(arrived)
            unparsed = Record(self, head, len(arrived), now if since is None else since)
            unparsed.rule = rule.name
            if self._context.request_ids is not None:
                unparsed.request_id = self._context.request_ids.make()
            unparsed.ended = now
            if self._context.ended is not None:
                self._context.ended.append(unparsed)
        self.answer_here(OwnAnswer(rule.status, rule.reason), unparsed)

    # The end --------------------------------------------------------------------------------------

    def end_with(self, after: After) -> None:
        """End the connection after this answer. CLOSE does not replace LINGER or CUT."""
        if self.after is _NEXT or after is not _CLOSE:
            self.after = after

    def abandon(self) -> None:
        """Abandon the exchange in flight, if there is one."""
        exchange = self.exchange
        if self.body is not None:
            self.body.drop()
        self._connection.release()
        if exchange is None:
            return
        exchange.ended = self._loop.now
        self.end_exchange()
        if exchange.state is WAITING:
            exchange.state = OVER
            self._context.dispatcher.withdraw(exchange)
        elif exchange.state is RUNNING and exchange.reactor is not None:
            exchange.reactor.abandon(exchange)
            if self.clock.due != inf:
                self._context.orphans.add(exchange, self.clock.due)
        exchange.drop_spool()

    def _cut(self) -> None:
        """Cut an answer that will not be completed, so that the client can see it."""
        self.abandon()
        self.end_with(_CUT)
        self._connection.transport.cut()
        if self._until_close:
            # FIN would look like the end of the answer. Only a reset shows the cut.
            self._connection.reset_on_close()
        self._source.answered()

    def over(self) -> None:
        """Get ready for the next answer: the client has taken this one."""
        self.answer_begun = self._until_close = False

    def lose(self, error: str) -> None:
        """Abandon the exchange, which fails by `error`: its client can get no answer."""
        if self.answer_begun:
            self._connection.transport.cut()
            if self._until_close:
                # FIN would look like the end of the answer. Only a reset shows the cut.
                self._connection.reset_on_close()
        if self.exchange is not None and not self.exchange.error:
            self.exchange.error = error
        if self.exchange is not None and self._file is not None:
            self.exchange.bytes_out += self._file.sent
            self._file = None
        self.abandon()
