"""One client's connection: HTTP/1.1 as the client sees it, whoever answers.

The states, what arriving bytes are, and what ends each state:

    IDLE       the first of a request            bytes; keep-alive time over: close
    HEAD       more of a head                    head whole, refused (4xx), or too slow (408)
    BUFFERING  a body, kept for the app          body whole, refused, or too slow (408)
    BUSY       body on its way to the app,       the answer is complete; or it failed: 502, or cut
               else requests to come
    FLUSHING   requests to come                  the client has taken all of the answer
    DRAINING   the rest of a body that the       its end: IDLE
               app did not want
    LINGERING  anything, dropped                 FIN, or time over: close
    CLOSED     nothing

One exchange is under way at a time; requests that come meanwhile wait in `held`, and when they are
many, in the kernel. The connection outlives the exchange: when the client leaves, the exchange is
abandoned, and still occupies its reactor until its app is done.

Each state but CLOSED has an end. Either a deadline is set, or the app alone is awaited:

    state      what is awaited                            deadline
    IDLE       the client: the next request               keep-alive (head, on a new connection)
    HEAD       the client: the rest of a head             head
    BUFFERING  the client: the rest of a body             body
    BUSY       the client: the rest of a body             body
               the client: to take some of the answer     response
               a reactor: to take the exchange            queue
               the app: it answers, or reads on           first byte, request; none by default
    FLUSHING   the client: to take the rest               response
    DRAINING   the client: the rest of a body             body
    LINGERING  the client: FIN                            linger

`_reckon` sets it. The app alone is awaited in BUSY if all of the body has come, or waits for the
app to read on or to ask for it by 100 Continue, and the client has taken all that there is of the
answer. That ends when the exchange ends. It does so at the latest when its reactor dies, its
client resets the connection, or the kernel's keep-alive probes fail.

No event takes long. One turn reads PIECES_MAX chunks of a body, and answers REQUESTS_MAX requests
that need no reactor. The rest is deferred to later turns, and the client is not read meanwhile.
"""

from __future__ import annotations

import re
import select
import socket
from math import inf
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.clients.min_rate import Patience
from reactor_run.frontend.clients.request_body import READ_MAX, RequestBody
from reactor_run.frontend.clients.response_writer import Answer
from reactor_run.frontend.exchanges.exchange import OVER, RUNNING, WAITING, Exchange
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import ERRORS
from reactor_run.frontend.reactors.lane import Lane
from reactor_run.protocol import policy
from reactor_run.protocol.body import UNTIL_CLOSE
from reactor_run.protocol.express import request_prefix
from reactor_run.protocol.origin import origin_tlvs
from reactor_run.protocol.policy import Refused, Rule
from reactor_run.protocol.proxy import Endpoint
from reactor_run.protocol.request import RequestHead, Rewritten, parse_request_head
from reactor_run.protocol.response import insert_connection
from reactor_run.protocol.response_head import ResponseHead

if TYPE_CHECKING:
    from reactor_run.frontend.clients.context import ClientContext

__all__ = ["Client"]

STATES: Final = (
    "idle",
    "head",
    "buffering",
    "busy",
    "flushing",
    "draining",
    "lingering",
    "closed",
)
IDLE, HEAD, BUFFERING, BUSY, FLUSHING, DRAINING, LINGERING, CLOSED = range(len(STATES))

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_READ: Final = 65536
_HELD_MAX: Final = 65536
"""Bytes of later requests that are read while an exchange is under way."""
_REQUESTS_MAX: Final = 16
"""Requests that one turn begins; more than one only if no reactor is needed to answer them."""
_LINGER: Final = 5.0
"""Seconds for a client to read a last answer before it is reset."""

_HEAD_END: Final = re.compile(rb"\r\n\r\n")

_space = memoryview(bytearray(READ_MAX))
"""What bodies are read into. What is not passed on at once is copied out of it."""


class Client:
    """A connection, from accept to close."""

    __slots__ = (
        "_answer",
        "_body",
        "_broken",
        "_deferred",
        "_ends",
        "_events",
        "_expires",
        "_fin",
        "_keep",
        "_parsing",
        "_recv",
        "_seen",
        "_send",
        "_unsure",
        "accepted",
        "check_at",
        "deadline",
        "exchange",
        "express_prefix",
        "held",
        "https",
        "lane_prefix",
        "peers",
        "server",
        "sock",
        "state",
    )

    def __init__(
        self,
        server: ClientContext,
        sock: socket.socket,
        source: Endpoint | None,
        destination: Endpoint | None,
        *,
        https: bool = False,
    ) -> None:
        """Serve a connection from `source` to `destination`; `https`: it came through TLS."""
        self.server = server
        self.sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self.peers = (source, destination)
        self.https = https
        self.express_prefix = request_prefix(source, destination, origin_tlvs(https=https))
        self.lane_prefix: bytes | None = None
        """The PROXY header before each exchange of this connection on a lane, once it is needed."""
        self.state = IDLE
        self.exchange: Exchange | None = None
        self.held: bytes | memoryview = b""
        """Bytes that were read and belong to requests to come. Those of many requests are a view:
        to copy the rest for each of them would take quadratic time."""
        self._deferred = False
        """The loop is to call `_go_on_deferred`."""
        self._seen = 0
        """Bytes of `held` that are known not to be a whole head."""
        self._body: RequestBody | None = None
        """What is still to come of the request's body."""
        self._answer: Answer | None = None
        """What the client is being sent, if it does not go out whole and at once."""
        self._keep = True
        """The connection goes on after this exchange."""
        self._fin = False
        self._broken = False
        """The answer was cut."""
        self._unsure = False
        """Nobody knows where the next request begins."""
        self._parsing = False
        self._expires = inf
        """When the exchange has lasted long enough, as things stand."""
        self._ends = inf
        """When it will have lasted long enough altogether; of use while a reactor has it."""
        self.accepted = server.loop.now
        self.deadline = self.check_at = inf
        self._events = _IN
        server.loop.watch(sock.fileno(), _IN, self._on_events)
        server.loop.set_deadline(self, server.head_timeout)

    def make_lane_prefix(self) -> bytes:
        """Encode `lane_prefix`, and keep it for the next exchange."""
        tlvs = origin_tlvs(https=self.https)
        self.lane_prefix = prefix = self.server.encode_proxy(*self.peers, tlvs)
        return prefix

    # What happens on the socket ------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events & _OUT:
            self._flush()
        if events & _IN:
            if self._events & _IN:
                self._read()
        elif events & ERRORS:
            self._lost()

    def _read(self) -> None:
        if self._body is not None:
            self._read_body(self._body)
            return
        try:
            data = self._recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not data:
            self._on_fin()
            return
        state = self.state
        if state <= HEAD:
            if self.held:
                data = b"".join((self.held, data))
                self.held = b""
            self._parse(data)
            if self.held:
                self._go_on()
        elif state <= DRAINING:
            self._hold(data)

    def _read_body(self, body: RequestBody) -> None:
        try:
            size = self.sock.recv_into(_space, body.read_size(self.exchange))
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if size:
            self._on_body(_space[:size])
        else:
            self._on_fin()

    def _hold(self, data: bytes) -> None:
        """Keep what belongs to later requests."""
        self.held = b"".join((self.held, data))
        if len(self.held) > _HELD_MAX:
            self._listen(self._events & ~_IN)

    def _listen(self, events: int) -> None:
        if events != self._events and self.state != CLOSED:
            self.server.loop.modify(self.sock.fileno(), events)
            self._events = events

    def read_on(self) -> None:
        """There is room for more of the request, if some of it is still to come."""
        if self._body is not None:
            self._await_body(self._body)

    def _reckon(self) -> None:
        """Set the deadline that the state asks for."""
        server = self.server
        loop = server.loop
        state = self.state
        if state == IDLE:
            loop.set_deadline(self, server.keep_alive)
        elif state == HEAD:
            loop.set_deadline(self, server.head_timeout)
        elif state == LINGERING:
            loop.set_deadline(self, _LINGER)
        else:
            when = self._expires
            if self._answer is not None:
                when = min(when, self._answer.due)
            if self._body is not None:
                when = min(when, self._body.patience.due)
            loop.set_deadline_at(self, when)

    # Requests ------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Serve what was read of a new connection by somebody else."""
        self._parse(data)
        self._go_on()

    def _parse(self, data: bytes) -> None:
        """Read the head at the start of `data`, and begin its exchange. `held` is what follows."""
        server = self.server
        known = server.known_heads
        head = None
        if len(data) <= known.SIZE and not self._seen:
            # One that came in pieces is not looked up: to hash it for each piece takes too long.
            head = known.get(data)
        if head is None:
            try:
                head = parse_request_head(data, server.limits, self._seen)
            except Refused as refused:
                self.refuse(refused.rule, head_only=data.startswith(b"HEAD "))
                return
            except Rewritten as rewritten:
                self._seen = 0
                self._parse(rewritten.data)
                return
            if head is None:
                if self.held:
                    # It did not end where it seemed to.
                    data = b"".join((data, self.held))
                    self.held = b""
                    self._parse(data)
                else:
                    self._await_head(data)
                return
            known.add(data, head)
        self._seen = 0
        self._parsing = True
        self.state = BUSY
        self.deadline = self._expires = inf
        self._keep = head.keep_alive and not server.draining
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
            server.dispatcher.submit(exchange)
        self._parsing = False

    def _hold_back(self, data: bytes, start: int) -> None:
        """Put `data` from `start` on before what is held."""
        behind = memoryview(data)[start:]
        self.held = b"".join((behind, self.held)) if self.held else behind

    def _await_head(self, data: bytes) -> None:
        """`data` is the beginning of a head."""
        if self._fin:
            self.close()
            return
        self.held = data
        self._seen = len(data)
        self._listen(self._events | _IN)
        if self.state == IDLE:
            self.state = HEAD
            self._reckon()

    def _go_on(self) -> None:
        """Serve what was held back, one request after another."""
        requests = 0
        while self.held and self.state == IDLE:
            if requests == _REQUESTS_MAX:
                self._listen(self._events & ~_IN)
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
            self.server.loop.defer(self._go_on_deferred)

    def _go_on_deferred(self) -> None:
        """Go on with a body that was postponed, or with requests that were held back."""
        self._deferred = False
        if self.state == CLOSED:
            return
        postponed = None if self._body is None else self._body.take_postponed()
        if postponed is not None:
            self._on_body(postponed)
        elif self.state == IDLE:
            self._listen_for_more()
            self._go_on()

    # Request bodies ------------------------------------------------------------------------------

    def _begin_body(self, head: RequestHead, data: bytes) -> None:
        """Begin a request with a body that is chunked, or still to come."""
        server = self.server
        if len(data) > head.size:
            self._hold_back(data, head.size)
            data = data[: head.size]
        arrived, self.held = memoryview(self.held), b""
        patience = Patience(server.body_timeout, server.min_body_rate)
        self._body = body = RequestBody(
            head, server.limits.body_size, patience, collect=server.buffers
        )
        self.exchange = exchange = Exchange(self, head, data, False)
        if body.collected:
            self.state = BUFFERING
            if server.dispatcher.full:
                # Before its body is read, which would be for nothing.
                body.drop()
                self._body = None
                self.refuse_overload(exchange)
            elif arrived:
                self._on_body(arrived)
            else:
                if head.expect_continue:
                    self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if self.state == BUFFERING:
                    self._await_body(body)
            return
        if arrived:
            self._on_body(arrived)
        else:
            self._await_body(body)
        if self.exchange is exchange:
            server.dispatcher.submit(exchange)

    def _await_body(self, body: RequestBody) -> None:
        """Go on with what has come of the body, else read on, else it was cut short."""
        if body.postponed is not None:
            self._listen(self._events & ~_IN)
            self._defer()
        elif self._fin:
            self._body_cut_short()
            return
        else:
            self._listen(self._events | _IN)
        if body.patience.due == inf and (body.collected or not body.awaits_permission):
            body.patience.begin(self.server.loop.now)
        self._reckon()

    def _body_cut_short(self) -> None:
        """The client has sent FIN within the body of its request (RFC 9112 §8)."""
        exchange = self.exchange
        self._keep = False
        if exchange is None:
            # It was answered before.
            if self.state == DRAINING:
                self.close()
        elif self._answer is not None and self._answer.begun:
            # The app learns of it, and may end its answer.
            assert exchange.reactor is not None
            self._body = None
            exchange.reactor.client_sent_fin(exchange)
            self._reckon()
        else:
            self.refuse(policy.BODY_INCOMPLETE)

    def _on_body(self, data: memoryview) -> None:
        """More of a request body; what lies beyond it is held. `data` is only lent."""
        body = self._body
        assert body is not None
        try:
            end = body.feed(data)
        except Refused as refused:
            if self.exchange is not None:
                self.refuse(refused.rule)
            else:
                self._end_unread()
            return
        except OSError as error:
            limited.error("a request body could not be buffered: %s", error)
            self._answer_self(507, b"Insufficient Storage\n")
            return
        body.patience.moved(end, self.server.loop.now)
        if end < len(data):
            behind = _keep(data[end:])
            data = data[:end]
            if body.complete:
                self.held = behind
            else:
                body.postponed = behind
        if body.complete:
            self._body = None
            self._listen_for_more()
        exchange = self.exchange
        if exchange is None:
            if not body.complete:
                if self.state == DRAINING and body.too_long_to_drain:
                    self._linger()
                else:
                    self._await_body(body)
            elif self.state == DRAINING:
                self._next()
        elif not body.collected:
            self._pass_on(exchange, body, data)
        elif body.complete:
            body.hand_over(exchange)
            self.state = BUSY
            self._reckon()
            self.server.dispatcher.submit(exchange)
        else:
            self._await_body(body)

    def _pass_on(self, exchange: Exchange, body: RequestBody, data: memoryview) -> None:
        """Send a part of a body after its request."""
        room = body.pass_on(exchange, data)
        if not body.complete:
            if room:
                self._await_body(body)
            else:
                self._listen(self._events & ~_IN)
                body.patience.rest()
                self._reckon()
            return
        timed = self.server.first_byte_timeout and exchange.state == RUNNING
        if timed and not (self._answer and self._answer.begun):
            self._await_answer(exchange)
        else:
            self._reckon()

    def _listen_for_more(self) -> None:
        """Listen for the next request, and for FIN, unless enough has come already."""
        if len(self.held) > _HELD_MAX:
            self._listen(self._events & ~_IN)
        elif not self._fin:
            self._listen(self._events | _IN)

    def _end_unread(self) -> None:
        """Give up the rest of a body that was answered already: there can be no second answer."""
        self._body = None
        self._keep = False
        self._unsure = True
        if self.state == DRAINING:
            self._linger()

    # The dispatcher's word -----------------------------------------------------------------------

    def queued(self, exchange: Exchange) -> None:
        """The exchange waits for a reactor.

        A client that sent FIN together with its request has only said that it asks for no more, and
        waits like any other. One that sends it while it waits has given up: `_on_fin`.
        """
        if self.server.queue_timeout:
            self._expires = self.server.loop.now + self.server.queue_timeout
        self._reckon()

    def started(self, exchange: Exchange) -> None:
        """A reactor has the exchange."""
        server = self.server
        if server.times_exchanges:
            # What is replayed has no more time than others.
            if not exchange.replayed:
                self._ends = server.loop.now + (server.request_timeout or inf)
            self._await_answer(exchange)
        elif self._expires != inf or not exchange.whole:
            self._expires = inf
            self._reckon()
        if not exchange.whole:
            self.read_on()
        if self._fin and not self.held and exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    def _await_answer(self, exchange: Exchange) -> None:
        """Set how long the first byte of the answer may take, once all of the request is there."""
        self._expires = self._ends
        if exchange.whole and self.server.first_byte_timeout:
            until = self.server.loop.now + self.server.first_byte_timeout
            self._expires = min(until, self._ends)
        self._reckon()

    def not_begun(self, seconds: float) -> None:
        """The reactor has not begun the exchange: so many seconds have not counted for its time."""
        if self.exchange is not None and self.server.times_exchanges:
            self._ends += seconds
            self._await_answer(self.exchange)

    def refuse_overload(self, exchange: Exchange) -> None:
        """There is no room, or there was none for too long."""
        self._answer_self(503, b"Service Unavailable\n", ((b"retry-after", b"1"),))

    # Answers -------------------------------------------------------------------------------------

    def answer_whole(self, exchange: Exchange, answer: bytes) -> None:
        """All of an answer at once."""
        server = self.server
        try:
            server.answers[answer[9]] += 1
        except IndexError:
            # It is shorter than a status line, and not counted.
            pass
        if not self._keep or exchange.head.minor_version == 0 or server.draining:
            try:
                answer = self._with_connection(exchange, answer)
            except ValueError:
                limited.error("an answer without a status line cannot be relayed")
                self.answer_failed(exchange)
                return
        elif self._answer is None and not self.held and self._events == _IN:
            # By far the most frequent: the client takes all of it, and has asked for nothing more.
            try:
                sent = self._send(answer)
            except OSError:
                sent = 0
            if sent == len(answer):
                self.exchange = None
                self.state = IDLE
                when = server.loop.now + server.keep_alive
                if when < self.check_at:
                    server.loop.set_deadline(self, server.keep_alive)
                else:
                    self.deadline = when
                return
            answer = answer[sent:]
        self._write(answer)
        self._answered()

    def answer_begins(
        self, exchange: Exchange, data: bytes, head: ResponseHead, lane: Lane
    ) -> None:
        """The head of a final answer, and what came with it."""
        until_close = head.body == UNTIL_CLOSE
        if until_close or (self._body is not None and not self._body.may_be_drained(head.status)):
            self._keep = False
        if not self._keep or exchange.head.minor_version == 0 or self.server.draining:
            data = self._with_connection(exchange, data)
        self._open_answer().begin(until_close=until_close)
        if self.server.first_byte_timeout:
            self._expires = self._ends
            self._reckon()
        self.server.counters.answered(head.status)
        self._write(data)
        self._restrain(lane)

    def answer_goes_on(self, exchange: Exchange, data: memoryview, lane: Lane) -> None:
        """More of an answer; `data` is only lent."""
        self._write(data)
        self._restrain(lane)

    def answer_interim(self, exchange: Exchange, data: bytes, lane: Lane) -> None:
        """A 1xx answer; HTTP/1.0 has none."""
        if exchange.head.minor_version == 1:
            self._write(data)
            self._restrain(lane)
        body = self._body
        if body is not None and body.awaits_permission and self._events & _IN:
            # This is it, as far as anybody knows.
            body.patience.begin(self.server.loop.now)
            self._reckon()

    def answer_ends(self, exchange: Exchange) -> None:
        """The answer is complete."""
        assert exchange.reactor is not None
        exchange.reactor.answered(exchange)
        self._answered()

    def answer_failed(self, exchange: Exchange) -> None:
        """The reactor will not complete the answer."""
        self._answer_self(502, b"Bad Gateway\n")

    def _with_connection(self, exchange: Exchange, answer: bytes) -> bytes:
        """RFC 9112 §9.3: say whether the connection goes on, where it is not understood."""
        if self.server.draining:
            self._keep = False
        return insert_connection(answer, b"keep-alive" if self._keep else b"close")

    def _restrain(self, lane: Lane) -> None:
        """Leave the lane alone while the client has too much to take already."""
        if self._answer is not None and self.exchange is not None:
            self._answer.restrain(lane)

    def _answer_self(
        self,
        status: int,
        text: bytes,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        *,
        head_only: bool = False,
    ) -> None:
        """Answer in the place of the app, or end its answer, and give up the exchange."""
        if self._answer is not None and self._answer.begun:
            self._cut(self._answer)
            return
        exchange = self.exchange
        old = False
        if exchange is None or not exchange.whole:
            # What comes next may be the rest of this request, or may not.
            self._keep = False
            self._unsure = True
        if exchange is not None:
            head_only = exchange.head.method == b"HEAD"
            old = exchange.head.minor_version == 0
        self._abandon()
        if self.server.draining:
            self._keep = False
        answer = self.server.own_answer(status, text, fields, head_only=head_only)
        if old or not self._keep:
            answer = insert_connection(answer, b"keep-alive" if self._keep else b"close")
        self._write(answer)
        self._answered()

    def refuse(self, rule: Rule, *, head_only: bool = False) -> None:
        """What the client sent breaks a rule. `head_only`: it was a head, and it says HEAD."""
        limited.debug("refused a request: %s (%s)", rule.name, rule.section, kind=rule.name)
        self.server.counters.refused[rule.name] += 1
        self.held = b""
        if self._body is not None:
            self._body.drop()
            self._body = None
        if self.exchange is not None:
            self.exchange.whole = False
        self._answer_self(rule.status, rule.reason.encode() + b"\n", head_only=head_only)

    def _answered(self) -> None:
        """The answer has been handed over, if not yet to the client."""
        if self.state == CLOSED:
            return
        self.exchange = None
        self._expires = inf
        answer = self._answer
        if answer is not None and answer.waiting:
            answer.release()
            self.state = FLUSHING
            self._reckon()
        else:
            self._next()

    def _next(self) -> None:
        """The client has taken the answer: go on, or end the connection."""
        self._answer = None
        if not self._keep:
            if self._broken or self._fin:
                self.close()
            elif self._body is not None or self.held or self._unsure:
                self._linger()
            else:
                self.close()
            return
        if self._body is not None:
            self.state = DRAINING
            self._body.drain()
            self.read_on()
            self._reckon()
            return
        self.state = IDLE
        if self.held:
            if not self._parsing:
                self._go_on()
            return
        if self._fin:
            self.close()
            return
        if not self._events & _IN:
            self._listen(self._events | _IN)
        self._reckon()
        if self.server.draining:
            self.shut(self.server.close_grace)

    # Bytes out -----------------------------------------------------------------------------------

    def _open_answer(self) -> Answer:
        """What is sent to the client by and by."""
        if self._answer is None:
            server = self.server
            patience = Patience(server.response_timeout, server.min_response_rate)
            self._answer = Answer(self.sock, server.answer_file_max, patience)
        return self._answer

    def _write(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes, keep the rest; `data` is only lent."""
        answer = self._open_answer()
        waited = answer.waiting
        try:
            answer.write(data)
        except OSError:
            self._lost()
            return
        if answer.waiting and not waited:
            self._listen(self._events | _OUT)
            answer.begin_to_wait(self.server.loop.now)
            self._reckon()

    def _flush(self) -> None:
        """The client takes bytes again."""
        answer = self._answer
        if answer is None or not answer.waiting:
            return
        try:
            answer.flush(self.server.loop.now)
        except OSError:
            self._lost()
            return
        if not answer.waiting:
            self._listen(self._events & ~_OUT)
            if self.state == FLUSHING:
                self._next()
                return
        self._reckon()

    # Ends ----------------------------------------------------------------------------------------

    def _on_fin(self) -> None:
        """The client sends nothing more. That counts behind all that it has sent."""
        self._fin = True
        self._listen(self._events & ~_IN)
        state = self.state
        exchange = self.exchange
        if self._body is not None:
            self._body_cut_short()
        elif state in (IDLE, HEAD, LINGERING):
            self.close()
        elif exchange is None or self.held:
            # It has still to take an answer, or has asked for more before.
            return
        elif exchange.state == WAITING:
            self._lost()
        elif exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    def _abandon(self) -> None:
        """Give up the exchange under way."""
        exchange, self.exchange = self.exchange, None
        if self._body is not None:
            self._body.drop()
        if self._answer is not None:
            self._answer.release()
        if exchange is None:
            return
        if exchange.state == WAITING:
            exchange.state = OVER
            self.server.dispatcher.withdraw(exchange)
        elif exchange.state == RUNNING and exchange.reactor is not None:
            exchange.reactor.abandon(exchange)
            if self._expires != inf:
                self.server.deserted.add(exchange, self._expires)
        exchange.drop_spool()

    def _cut(self, answer: Answer) -> None:
        """End an answer that will not be completed, so that the client can see it."""
        self._abandon()
        self._keep = False
        self._broken = True
        answer.cut()
        self._answered()

    def _linger(self) -> None:
        """Let the client read the last answer: a reset for what it still sends would destroy it."""
        self.state = LINGERING
        self._body = None
        self.held = b""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._listen(_IN)
        self._reckon()

    def _lost(self) -> None:
        """The client is gone, or as good as gone."""
        if self._answer is not None:
            self._answer.cut()
        self._abandon()
        self.close()

    def on_fault(self) -> None:
        """Nobody knows what the client has got."""
        self._lost()

    def on_deadline(self) -> None:
        """The client, or its exchange, took too long."""
        now = self.server.loop.now
        state = self.state
        exchange, answer, body = self.exchange, self._answer, self._body
        if exchange is not None and exchange.state == RUNNING and self._expires <= now:
            # If the reactor has not begun it, its time has not run.
            self.server.dispatcher.unstarted.look()
        if exchange is not None and self._expires <= now:
            if exchange.state == WAITING:
                self.refuse_overload(exchange)
            else:
                self._give_up(exchange)
        elif state == HEAD:
            self.refuse(policy.HEAD_TIMEOUT)
        elif state == IDLE:
            # What has come in this moment is served: a proxy may not send it again.
            if not self.shed():
                self._reckon()
        elif state == LINGERING:
            self.close()
        elif answer is not None and answer.is_overdue(now):
            limited.info("a client took too little of its answer for too long")
            answer.reset()
            self._lost()
        elif body is not None and body.patience.due <= now:
            if exchange is not None:
                self.refuse(policy.BODY_TIMEOUT)
            elif state == DRAINING:
                self.close()
            else:
                self._end_unread()
        else:
            # It has taken some of its answer after all.
            self._reckon()

    def _give_up(self, exchange: Exchange) -> None:
        """A reactor has taken too long with it."""
        reactor = exchange.reactor
        assert reactor is not None
        limited.warning("%s took too long in %s: it is given up", exchange.name, reactor.name)
        reactor.cancel(exchange)
        self._answer_self(504, b"Gateway Timeout\n")

    @property
    def busy(self) -> bool:
        """Its exchange is not over, or not all of its answer is sent."""
        return self.state in (BUFFERING, BUSY, FLUSHING)

    @property
    def lingers(self) -> bool:
        """It has the time to read its last answer."""
        return self.state == LINGERING

    @property
    def idle_since(self) -> float:
        """When it fell idle, by the loop's clock; inf if it is not idle."""
        if self.state != IDLE:
            return inf
        # Before its first request it has the deadline of a head, and so perhaps none.
        if self.deadline in (inf, self.accepted + self.server.head_timeout):
            return self.accepted
        return self.deadline - self.server.keep_alive

    def shed(self) -> bool:
        """Close an idle connection, unless it has asked for something; whether it was closed."""
        if self.held:
            return False
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self.close()
            return True
        except OSError:
            # It was reset, as its next event tells.
            return False
        return False

    def shut(self, grace: float) -> None:
        """The service ends: close when what is under way is over.

        One that is idle, or in the midst of a head, has `grace` seconds: a last request may be on
        its way.
        """
        if self.state in (IDLE, HEAD):
            if self._deferred:
                # It has asked for more already.
                return
            if not grace:
                self.close()
            elif self.server.loop.now + grace < self.deadline:
                self.server.loop.set_deadline(self, grace)
        elif self.state == DRAINING:
            self._linger()

    def shut_if_draining(self) -> None:
        """The service may have begun to stop before this connection was known."""
        if self.server.draining:
            self.shut(self.server.close_grace)

    def close(self) -> None:
        """End the connection."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        loop = self.server.loop
        loop.unwatch(self.sock.fileno())
        loop.forget(self)
        loop.bury(self.sock)
        if self._answer is not None:
            self._answer.close()
        self.server.client_closed(self)


def _keep(data: memoryview) -> memoryview:
    """Return `data` in memory that does not change: a copy of what is in `_space`."""
    return memoryview(bytes(data)) if data.obj is _space.obj else data
