"""HTTP/1.1 on one connection: requests in, one answer at a time.

The states, what is awaited in each, and what sets the deadline:

    state      what is awaited                            deadline
    IDLE       the client: the next request               keep-alive (head, on a new connection)
    HEAD       the client: the rest of a head             head
    BUFFERING  the client: the rest of a body, kept here  body
    BUSY       the client: the rest of a body             body
               the client: to take some of the answer     response
               a reactor: to take the exchange            queue
               the app: it answers, or reads on           first byte, request; none by default
    FLUSHING   the client: to take the rest               response
    DRAINING   the client: the rest of a body that the    body
               app did not want
    ENDED      the connection lingers, or is closed       linger (connection.py)

Each state but ENDED has an end. Either a deadline is set, or the app alone is awaited. That is so
in BUSY if all of the body has come, or waits for the app to read on or to ask for it by 100
Continue, and the client has taken all that there is of the answer. It ends when the exchange ends:
at the latest when its reactor dies, its client resets the connection, or the kernel's keep-alive
probes fail.

One exchange is under way at a time, and the connection is its requester. Requests that come
meanwhile wait in `held`, and when they are many, in the kernel. The connection outlives the
exchange. When the client leaves, the exchange is abandoned, and occupies its reactor until its app
is done.

No event takes long. One turn reads PIECES_MAX chunks of a body, and answers _REQUESTS_MAX requests
that need no reactor. The rest is deferred to later turns, and the client is not read meanwhile.
"""

from __future__ import annotations

import re
from enum import Enum
from math import inf
from typing import Final

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.deadlines import ExchangeClock
from reactor_run.frontend.clients.forwarding import ConnectionOrigin, ForwardedOrigin
from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.own_answers import (
    BAD_GATEWAY,
    GATEWAY_TIMEOUT,
    INSUFFICIENT_STORAGE,
    OVERLOADED,
    OwnAnswer,
)
from reactor_run.frontend.clients.request_body import READ_MAX, RequestBody, is_small
from reactor_run.frontend.exchanges.exchange import OVER, RUNNING, WAITING, Exchange
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.log import limited
from reactor_run.protocol import policy
from reactor_run.protocol.body import UNTIL_CLOSE
from reactor_run.protocol.policy import Refused, Rule
from reactor_run.protocol.request import RequestHead, Rewritten, parse_request_head
from reactor_run.protocol.response import insert_connection
from reactor_run.protocol.response_head import ResponseHead

__all__ = ["Http1", "Http1State"]

_READ: Final = 65536
_HELD_MAX: Final = 65536
"""Bytes of later requests that are read while an exchange is under way."""
_REQUESTS_MAX: Final = 16
"""Requests that one turn begins; more than one only if no reactor is needed to answer them."""

_HEAD_END: Final = re.compile(rb"\r\n\r\n")

_space = memoryview(bytearray(READ_MAX))
"""What bodies are read into. What is not passed on at once is copied out of it."""


class Http1State(Enum):
    """What the connection is doing; see above."""

    IDLE = "idle"
    HEAD = "head"
    BUFFERING = "buffering"
    BUSY = "busy"
    FLUSHING = "flushing"
    DRAINING = "draining"
    ENDED = "ended"


_IDLE: Final = Http1State.IDLE
_HEAD: Final = Http1State.HEAD
_BUFFERING: Final = Http1State.BUFFERING
_BUSY: Final = Http1State.BUSY
_FLUSHING: Final = Http1State.FLUSHING
_DRAINING: Final = Http1State.DRAINING
_ENDED: Final = Http1State.ENDED


class _After(Enum):
    """What follows the answer that is under way."""

    NEXT = "the next request"
    CLOSE = "the end; if bytes of the client are unread, it lingers"
    LINGER = "a lingering end: where the next request begins is uncertain"
    CUT = "the end at once: the answer was cut"


_NEXT: Final = _After.NEXT
_CLOSE: Final = _After.CLOSE
_LINGER: Final = _After.LINGER
_CUT: Final = _After.CUT


class Http1:
    """One connection's HTTP/1.1: a `ConnectionProtocol`, and the `Requester` of its exchange."""

    __slots__ = (
        "_after",
        "_answer_until_close",
        "_clock",
        "_context",
        "_deferred",
        "_fin",
        "_forwarded",
        "_lane_prefix",
        "_loop",
        "_origin",
        "_parsing",
        "_recv",
        "_seen",
        "answer_begun",
        "body",
        "connection",
        "exchange",
        "express_prefix",
        "held",
        "state",
    )

    def __init__(
        self, context: ClientContext, connection: Connection, origin: ConnectionOrigin
    ) -> None:
        """Serve `connection`. `origin`: of whom its requests are. Raises OSError."""
        self.connection = connection
        self.state = _IDLE
        self.exchange: Exchange | None = None
        self.body: RequestBody | None = None
        """What is still to come of the request's body."""
        self.held: bytes | memoryview = b""
        """Bytes that were read and belong to requests to come. Those of many requests are a view:
        to copy the rest for each of them would take quadratic time."""
        self.answer_begun = False
        """Bytes of the final answer have been sent: there can be no other."""
        self._answer_until_close = False
        """Its end is the end of the connection."""
        self._after = _NEXT
        self._fin = False
        """The client sends nothing more."""
        self._seen = 0
        """Bytes of `held` that are known not to be a whole head."""
        self._parsing = False
        """`_parse` runs, and its caller goes on with what is held."""
        self._deferred = False
        """The loop is to call `_go_on_deferred`."""
        self._context = context
        self._loop = context.loop
        self._recv = connection.transport.recv
        self._clock = ExchangeClock(context)
        self._origin = origin
        self._forwarded = origin if isinstance(origin, ForwardedOrigin) else None
        self.express_prefix = origin.express_prefix
        self._lane_prefix: bytes | None = None
        connection.begin(self)
        connection.wait(context.head_timeout)

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header that goes before the request on a lane."""
        if self._lane_prefix is None:
            self._lane_prefix = self._origin.lane_prefix()
        return self._lane_prefix

    # Bytes in ------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Bytes, or FIN, have come."""
        if self.body is not None:
            self._read_body(self.body)
            return
        try:
            data = self._recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.connection.lose()
            return
        if not data:
            self._on_fin()
            return
        state = self.state
        if state is _IDLE or state is _HEAD:
            if self.held:
                data = b"".join((self.held, data))
                self.held = b""
            self._parse(data)
            if self.held:
                self._go_on()
        else:
            self._hold(data)

    def _read_body(self, body: RequestBody) -> None:
        try:
            size = self.connection.transport.recv_into(_space, body.read_size(self.exchange))
        except BlockingIOError:
            return
        except OSError:
            self.connection.lose()
            return
        if size:
            self._on_body(body, _space[:size])
        else:
            self._on_fin()

    def _hold(self, data: bytes) -> None:
        """Keep what belongs to later requests."""
        self.held = b"".join((self.held, data))
        if len(self.held) > _HELD_MAX:
            self.connection.read(False)

    def _listen_for_more(self) -> None:
        """Listen for the next request, and for FIN, unless enough has come already."""
        if len(self.held) > _HELD_MAX:
            self.connection.read(False)
        elif not self._fin:
            self.connection.read(True)

    def _on_fin(self) -> None:
        """The client sends nothing more. That counts behind all that it has sent."""
        self._fin = True
        self.connection.read(False)
        exchange = self.exchange
        if self.body is not None:
            self._body_cut_short()
        elif self.state is _IDLE or self.state is _HEAD:
            self._close()
        elif exchange is None or self.held:
            # It has still to take an answer, or has asked for more before.
            return
        elif exchange.state is WAITING:
            self.connection.lose()
        elif exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    # Requests ------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Serve what was read of a new connection before it spoke HTTP."""
        self._parse(data)
        self._go_on()

    def _parse(self, data: bytes) -> None:
        """Read the head at the start of `data`, and begin its exchange. `held` is what follows."""
        context = self._context
        known = context.known_heads
        head = None
        if len(data) <= known.SIZE and not self._seen:
            # One that came in pieces is not looked up: to hash it for each piece takes too long.
            head = known.get(data)
        if head is None:
            try:
                head = parse_request_head(data, context.limits, self._seen)
            except Refused as refused:
                self.reject(refused.rule, head_only=data.startswith(b"HEAD "))
                return
            except Rewritten as rewritten:
                self._seen = 0
                self._parse(rewritten.data)
                return
            if head is None:
                self._await_head(data)
                return
            known.add(data, head)
        self._seen = 0
        self._parsing = True
        self.state = _BUSY
        connection = self.connection
        connection.deadline = connection.due = self._clock.due = inf
        self._after = _NEXT if head.keep_alive and not context.draining else _CLOSE
        if self._forwarded is not None:
            self.express_prefix, self._lane_prefix = self._forwarded.prefixes(head.fields)
        end = head.size + head.body
        if end > len(data) and self.held:
            # Its body is among what was read, or the first part of it.
            missing = end - len(data)
            data = b"".join((data, self.held[:missing]))
            self.held = self.held[missing:] or b""
        if head.body < 0 or end > len(data):
            self._begin_body(head, data)
        else:
            if end < len(data):
                self._hold_back(data, end)
                data = data[:end]
            self.exchange = exchange = Exchange(self, head, data, True)
            context.dispatcher.submit(exchange)
        self._parsing = False

    def _hold_back(self, data: bytes, start: int) -> None:
        """Put `data` from `start` on before what is held."""
        behind = memoryview(data)[start:]
        self.held = b"".join((behind, self.held)) if self.held else behind

    def _await_head(self, data: bytes) -> None:
        """`data` is the beginning of a head."""
        if self.held:
            # The head did not end where it seemed to.
            data = b"".join((data, self.held))
            self.held = b""
            self._parse(data)
            return
        if self._fin:
            self._close()
            return
        self.held = data
        self._seen = len(data)
        self.connection.read(True)
        if self.state is _IDLE:
            self.state = _HEAD
            self._reckon()

    def _go_on(self) -> None:
        """Serve what was held back, one request after another."""
        requests = 0
        while self.held and self.state is _IDLE:
            if requests == _REQUESTS_MAX:
                self.connection.read(False)
                self._reckon()
                self._defer()
                return
            requests += 1
            self._parse(self._take_head())

    def _take_head(self) -> bytes:
        """Take what looks like a head from the start of `held`; all of it if none ends there."""
        held = self.held
        end = _HEAD_END.search(held)
        if end is None:
            self.held = b""
            return bytes(held)
        self.held = memoryview(held)[end.end() :] or b""
        return bytes(held[: end.end()])

    def _defer(self) -> None:
        """Go on in a later turn of the loop."""
        if not self._deferred:
            self._deferred = True
            self._loop.defer(self._go_on_deferred)

    def _go_on_deferred(self) -> None:
        """Go on with a body that was postponed, or with requests that were held back."""
        self._deferred = False
        body = self.body
        if self.state is _ENDED:
            return
        postponed = None if body is None else body.take_postponed()
        if body is not None and postponed is not None:
            self._on_body(body, postponed)
        elif self.state is _IDLE:
            self._listen_for_more()
            self._go_on()

    # Request bodies ------------------------------------------------------------------------------

    def _begin_body(self, head: RequestHead, data: bytes) -> None:
        """Begin a request with a body that is chunked, or still to come."""
        context = self._context
        if len(data) > head.size:
            self._hold_back(data, head.size)
            data = data[: head.size]
        arrived, self.held = memoryview(self.held), b""
        rate = MinimumRate(context.body_timeout, context.min_body_rate)
        self.body = body = RequestBody(
            head,
            context.limits.body_size,
            rate,
            collect=context.buffers or is_small(head),
        )
        self.exchange = exchange = Exchange(self, head, data, False)
        if body.collected:
            self.state = _BUFFERING
            if context.dispatcher.full:
                # Before its body is read, which would be for nothing.
                body.drop()
                self.body = None
                self.reject_overload()
            elif arrived:
                self._on_body(body, arrived)
            else:
                if head.expect_continue:
                    self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if self.state is _BUFFERING:
                    self._await_body(body)
            return
        if arrived:
            self._on_body(body, arrived)
        else:
            self._await_body(body)
        if self.exchange is exchange:
            context.dispatcher.submit(exchange)

    def _await_body(self, body: RequestBody) -> None:
        """Go on with what has come of the body, else read on, else it was cut short."""
        if body.postponed is not None:
            self.connection.read(False)
            self._defer()
        elif self._fin:
            self._body_cut_short()
            return
        else:
            self.connection.read(True)
        if body.rate.due == inf and (body.collected or not body.awaits_permission):
            body.rate.begin(self._loop.now)
        self._reckon()

    def _body_cut_short(self) -> None:
        """The client has sent FIN within the body of its request (RFC 9112 §8)."""
        exchange = self.exchange
        self._end_with(_CLOSE)
        if exchange is None:
            # It was answered before.
            if self.state is _DRAINING:
                self._close()
        elif self.answer_begun:
            # The app learns of it, and may end its answer.
            assert exchange.reactor is not None
            self.body = None
            exchange.reactor.client_sent_fin(exchange)
            self._reckon()
        else:
            self.reject(policy.BODY_INCOMPLETE)

    def _on_body(self, body: RequestBody, data: memoryview) -> None:
        """More of a request body; what lies beyond it is held. `data` is only lent."""
        try:
            end = body.feed(data)
        except Refused as refused:
            if self.exchange is not None:
                self.reject(refused.rule)
            else:
                self._end_unread()
            return
        except OSError as error:
            limited.error("a request body could not be buffered: %s", error)
            self._answer_here(INSUFFICIENT_STORAGE)
            return
        body.rate.moved(end, self._loop.now)
        if end < len(data):
            behind = _keep(data[end:])
            data = data[:end]
            if body.complete:
                self.held = behind
            else:
                body.postponed = behind
        if body.complete:
            self.body = None
            self._listen_for_more()
        exchange = self.exchange
        if exchange is None:
            if not body.complete:
                if self.state is _DRAINING and body.too_long_to_drain:
                    self._linger()
                else:
                    self._await_body(body)
            elif self.state is _DRAINING:
                self._next()
        elif not body.collected:
            self._pass_on(exchange, body, data)
        elif body.complete:
            body.hand_over(exchange)
            self.state = _BUSY
            self._reckon()
            self._context.dispatcher.submit(exchange)
        else:
            self._await_body(body)

    def _pass_on(self, exchange: Exchange, body: RequestBody, data: memoryview) -> None:
        """Send a part of a body after its request."""
        room = body.pass_on(exchange, data)
        if not body.complete:
            if room:
                self._await_body(body)
            else:
                self.connection.read(False)
                body.rate.rest()
                self._reckon()
            return
        if exchange.state is RUNNING and not self.answer_begun:
            self._clock.await_first_byte()
        self._reckon()

    def _end_unread(self) -> None:
        """Give up the rest of a body that was answered already: there can be no second answer."""
        self.body = None
        self._end_with(_LINGER)
        if self.state is _DRAINING:
            self._linger()

    # What the dispatcher tells -------------------------------------------------------------------

    def queued(self) -> None:
        """The exchange waits for a reactor.

        A client that sent FIN together with its request has only said that it asks for no more, and
        waits like any other. One that sends it while it waits has given up: `_on_fin`.
        """
        self._clock.queue()
        self._reckon()

    def started(self) -> None:
        """A reactor has the exchange."""
        exchange = self.exchange
        assert exchange is not None
        if self._context.times_exchanges:
            self._clock.start(again=exchange.replayed)
            if exchange.whole:
                self._clock.await_first_byte()
            self._reckon()
        elif self._clock.due != inf or not exchange.whole:
            self._clock.due = inf
            self._reckon()
        if not exchange.whole:
            self.read_on()
        if self._fin and not self.held and exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    def not_begun(self, seconds: float) -> None:
        """The reactor has not begun the exchange: so many seconds have not counted for its time."""
        exchange = self.exchange
        if exchange is not None and self._context.times_exchanges:
            self._clock.put_off(seconds)
            if exchange.whole:
                self._clock.await_first_byte()
            self._reckon()

    def read_on(self) -> None:
        """There is room for more of the request, if some of it is still to come."""
        if self.body is not None:
            self._await_body(self.body)

    def reject_overload(self) -> None:
        """No reactor has room, or none had for too long."""
        self._answer_here(OVERLOADED)

    # Answers -------------------------------------------------------------------------------------

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
        connection = self.connection
        if self._after is not _NEXT or exchange.head.minor_version == 0 or context.draining:
            try:
                answer = self._with_connection(exchange, answer)
            except ValueError:
                limited.error("an answer without a status line cannot be relayed")
                self.answer_failed()
                return
        elif not self.held and connection.at_rest:
            # By far the most frequent: the client takes all of it, and has asked for nothing more.
            try:
                sent = connection.send(answer)
            except OSError:
                sent = 0
            if sent == len(answer):
                self.exchange = None
                self.state = _IDLE
                connection.due = when = self._loop.now + context.keep_alive
                if when < connection.check_at:
                    self._loop.set_deadline_at(connection, when)
                else:
                    connection.deadline = when
                return
            answer = answer[sent:]
        connection.write(answer)
        self._answered()

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """Take the head of the final answer, and what came with it."""
        exchange = self.exchange
        assert exchange is not None
        self._answer_until_close = head.body == UNTIL_CLOSE
        body = self.body
        if self._answer_until_close or (body is not None and not body.may_be_drained(head.status)):
            self._end_with(_CLOSE)
        if self._after is not _NEXT or exchange.head.minor_version == 0 or self._context.draining:
            data = self._with_connection(exchange, data)
        self.answer_begun = True
        if self._context.first_byte_timeout:
            self._clock.answer_begins()
            self._reckon()
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
        if body is not None and body.awaits_permission and self.connection.reading:
            # Any 1xx counts as the awaited 100 Continue.
            body.rate.begin(self._loop.now)
            self._reckon()

    def _relay(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """Send a part of the answer, and pause its source while the client takes too little."""
        self.connection.write(data)
        if self.exchange is not None:
            self.connection.restrain(source)

    def answer_ends(self) -> None:
        """All of the answer has come."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.reactor is not None
        exchange.reactor.answered(exchange)
        self._answered()

    def answer_failed(self) -> None:
        """The reactor will not complete the answer."""
        self._answer_here(BAD_GATEWAY)

    def _with_connection(self, exchange: Exchange, answer: bytes) -> bytes:
        """RFC 9112 §9.3: say whether the connection goes on, where it is not understood."""
        if self._context.draining:
            self._end_with(_CLOSE)
        return insert_connection(answer, self._connection_option)

    @property
    def _connection_option(self) -> bytes:
        return b"keep-alive" if self._after is _NEXT else b"close"

    def _end_with(self, after: _After) -> None:
        """Let no request follow; what was said of the end before stands if it says more."""
        if self._after is _NEXT or after is not _CLOSE:
            self._after = after

    def _answer_here(self, own: OwnAnswer, *, head_only: bool = False) -> None:
        """Answer in the place of the app, or cut its answer, and give up the exchange."""
        if self.answer_begun:
            self._cut()
            return
        exchange = self.exchange
        old = False
        if exchange is None or not exchange.whole:
            # What comes next may be the rest of this request, or may not.
            self._end_with(_LINGER)
        if exchange is not None:
            head_only = exchange.head.method == b"HEAD"
            old = exchange.head.minor_version == 0
        self._abandon()
        if self._context.draining:
            self._end_with(_CLOSE)
        self._context.counters.answered_here(own.status)
        answer = own.encode(head_only=head_only)
        if old or self._after is not _NEXT:
            answer = insert_connection(answer, self._connection_option)
        self.connection.write(answer)
        self._answered()

    def reject(self, rule: Rule, *, head_only: bool = False) -> None:
        """What the client sent breaks a rule. `head_only`: it was a head, and it says HEAD."""
        limited.debug("rejected a request: %s (%s)", rule.name, rule.section, kind=rule.name)
        self._context.counters.refused[rule.name] += 1
        self.held = b""
        if self.body is not None:
            self.body.drop()
            self.body = None
        if self.exchange is not None:
            self.exchange.whole = False
        self._answer_here(OwnAnswer(rule.status, rule.reason.encode()), head_only=head_only)

    def _answered(self) -> None:
        """The answer has been handed over, if not yet to the client."""
        if self.state is _ENDED:
            return
        self.exchange = None
        self._clock.due = inf
        self.connection.release()
        if self.connection.unsent:
            self.state = _FLUSHING
            self._reckon()
        else:
            self._next()

    def on_drained(self) -> None:
        """The client has taken all that waited for it."""
        if self.state is _FLUSHING:
            self._next()

    def _next(self) -> None:
        """The client has taken the answer: go on, or end the connection."""
        self.answer_begun = self._answer_until_close = False
        if self._after is not _NEXT:
            unread = self.body is not None or self.held or self._after is _LINGER
            if unread and not self._fin and self._after is not _CUT:
                self._linger()
            else:
                self._close()
            return
        if self.body is not None:
            self.state = _DRAINING
            self.body.drain()
            self._await_body(self.body)
            return
        self.state = _IDLE
        if self.held:
            if not self._parsing:
                self._go_on()
            return
        if self._fin:
            self._close()
            return
        self.connection.read(True)
        self._reckon()
        if self._context.draining:
            self.shut(self._context.close_grace)

    # Ends ----------------------------------------------------------------------------------------

    def _abandon(self) -> None:
        """Give up the exchange under way."""
        exchange, self.exchange = self.exchange, None
        if self.body is not None:
            self.body.drop()
        self.connection.release()
        if exchange is None:
            return
        if exchange.state is WAITING:
            exchange.state = OVER
            self._context.dispatcher.withdraw(exchange)
        elif exchange.state is RUNNING and exchange.reactor is not None:
            exchange.reactor.abandon(exchange)
            if self._clock.due != inf:
                self._context.orphans.add(exchange, self._clock.due)
        exchange.drop_spool()

    def _cut(self) -> None:
        """End an answer that will not be completed, so that the client can see it."""
        self._abandon()
        self._end_with(_CUT)
        if self._answer_until_close:
            # The end would look like the end of the answer: only a reset tells.
            self.connection.reset_on_close()
        self._answered()

    def _linger(self) -> None:
        """Let the client read the last answer: a reset for what it still sends would destroy it."""
        self.state = _ENDED
        self.body = None
        self.held = b""
        self.connection.linger()

    def _close(self) -> None:
        self.state = _ENDED
        self.connection.close()

    def on_lost(self) -> None:
        """The client is gone, or as good as gone."""
        self.state = _ENDED
        if self.answer_begun and self._answer_until_close:
            self.connection.reset_on_close()
        self._abandon()

    # Deadlines -----------------------------------------------------------------------------------

    def _reckon(self) -> None:
        """Set the deadline that the state asks for."""
        state = self.state
        if state is _IDLE:
            self.connection.wait(self._context.keep_alive)
        elif state is _HEAD:
            self.connection.wait(self._context.head_timeout)
        elif state is not _ENDED:
            when = self._clock.due
            if self.body is not None:
                when = min(when, self.body.rate.due)
            self.connection.wait_until(when)

    def on_deadline(self) -> None:
        """The client, or its exchange, took too long."""
        now = self._loop.now
        state = self.state
        exchange, body = self.exchange, self.body
        if exchange is not None and exchange.state is RUNNING and self._clock.due <= now:
            # If the reactor has not begun it, its time has not run.
            self._context.dispatcher.unstarted.look()
        if exchange is not None and self._clock.due <= now:
            if exchange.state is WAITING:
                self.reject_overload()
            else:
                self._give_up(exchange)
        elif state is _HEAD:
            self.reject(policy.HEAD_TIMEOUT)
        elif state is _IDLE:
            # What has come in this moment is served: a proxy may not send it again.
            if not self.shed():
                self._reckon()
        elif body is not None and body.rate.due <= now:
            if exchange is not None:
                self.reject(policy.BODY_TIMEOUT)
            elif state is _DRAINING:
                self._close()
            else:
                self._end_unread()
        else:
            self._reckon()

    def _give_up(self, exchange: Exchange) -> None:
        """A reactor has taken too long with it."""
        reactor = exchange.reactor
        assert reactor is not None
        limited.warning("%s took too long in %s: it is given up", exchange.name, reactor.name)
        reactor.cancel(exchange)
        self._answer_here(GATEWAY_TIMEOUT)

    # What the service asks -----------------------------------------------------------------------

    @property
    def state_name(self) -> str:
        """What `reactor-run status` counts it as."""
        return self.state.value

    @property
    def idle_since(self) -> float:
        """When it fell idle, by the loop's clock; inf if it is not idle."""
        if self.state is not _IDLE:
            return inf
        due = self.connection.due
        # Before its first request it has the deadline of a head, and so perhaps none.
        if due in (inf, self.connection.accepted + self._context.head_timeout):
            return self.connection.accepted
        return due - self._context.keep_alive

    def shed(self) -> bool:
        """Close an idle connection, unless it has asked for something; whether it was closed."""
        if self.held or not self.connection.close_if_silent():
            return False
        self.state = _ENDED
        return True

    def shut(self, grace: float) -> None:
        """The service stops: end when what is in flight is over.

        A connection that is idle, or in the midst of a head, has `grace` seconds: a last request
        may be on its way.
        """
        if self.state is _IDLE or self.state is _HEAD:
            if self._deferred:
                # It has asked for more already.
                return
            if not grace:
                self._close()
            elif self._loop.now + grace < self.connection.due:
                self.connection.wait(grace)
        elif self.state is _DRAINING:
            self._linger()


def _keep(data: memoryview) -> memoryview:
    """Return `data` in memory that does not change: a copy of what is in `_space`."""
    return memoryview(bytes(data)) if data.obj is _space.obj else data
