"""Reads the requests of one HTTP/1.1 connection, one after another.

One exchange is in flight at a time: that of the requester (requester.py). Later requests wait in
`held`, and beyond _HELD_MAX bytes in the kernel. http1_state.py has the states.

No event takes long. One turn of the loop reads at most PIECES_MAX chunks of a body, and begins at
most _REQUESTS_MAX requests that need no reactor. The rest is deferred to later turns. The client is
not read meanwhile.
"""

from __future__ import annotations

import re
from math import inf
from typing import Final

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin
from reactor_run.frontend.clients.http1_state import After, Http1State
from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.own_answers import INSUFFICIENT_STORAGE
from reactor_run.frontend.clients.request_body import READ_MAX, RequestBody, is_small
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import RUNNING, WAITING, Exchange
from reactor_run.frontend.log import limited
from reactor_run.protocol import policy
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import RequestHead, Rewritten, parse_request_head

__all__ = ["Http1"]

_READ: Final = 65536
_HELD_MAX: Final = 65536
"""The bytes of later requests beyond which the client is not read while an exchange is in flight.
"""
_REQUESTS_MAX: Final = 16
"""The most requests that one turn begins. It begins a second one only if the first is answered."""

_IDLE: Final = Http1State.IDLE
_HEAD: Final = Http1State.HEAD
_BUFFERING: Final = Http1State.BUFFERING
_BUSY: Final = Http1State.BUSY
_FLUSHING: Final = Http1State.FLUSHING
_DRAINING: Final = Http1State.DRAINING
_ENDED: Final = Http1State.ENDED
_NEXT: Final = After.NEXT
_CLOSE: Final = After.CLOSE
_LINGER: Final = After.LINGER
_CUT: Final = After.CUT

_HTTP2: Final = b"PRI * HTTP/2.0\r\n"
_HEAD_END: Final = re.compile(rb"\r\n\r\n")

_space = memoryview(bytearray(READ_MAX))
"""The memory that all bodies are read into. Bytes that are not sent at once are copied out of it.
"""


class Http1:
    """Reads the requests of one connection: a `ConnectionProtocol` and a `RequestSource`.

    connection: the connection that speaks HTTP/1.1.
    requester: waits for the answer to the request in flight.
    state: see http1_state.py.
    held: bytes of later requests that were read. They may be a view: a copy of the rest for each
    of many requests would take quadratic time.
    fin: the client has sent FIN.
    """

    __slots__ = (
        "_begun",
        "_context",
        "_deferred",
        "_loop",
        "_parsing",
        "_seen",
        "connection",
        "fin",
        "held",
        "requester",
        "state",
    )

    def __init__(
        self, context: ClientContext, connection: Connection, origin: ConnectionOrigin
    ) -> None:
        """Serve `connection`. `origin`: names the client of its requests. Raises OSError."""
        self.connection = connection
        self.requester = Http1Requester(context, connection, origin, self)
        self.state = _IDLE
        self.held: bytes | memoryview = b""
        self.fin = False
        self._seen = 0
        """The number of first bytes of `held` that do not contain the end of a head."""
        self._begun = False
        """A request was read."""
        self._parsing = False
        """`_parse` runs, and its caller will read the next request from `held`."""
        self._deferred = False
        """The loop will call `_go_on_deferred`."""
        self._context = context
        self._loop = context.loop
        connection.begin(self)
        connection.wait(context.head_timeout)

    # Bytes in ------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Read the bytes or the FIN that have arrived."""
        if self.requester.body is not None:
            self._read_body(self.requester.body)
            return
        try:
            data = self.connection.recv(_READ)
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
        wanted = body.read_size(self.requester.exchange)
        if not wanted:
            self._rest(body)
            return
        space = body.space(self.requester.exchange, wanted)
        if space is None:
            space = _space
        try:
            size = self.connection.transport.recv_into(space, wanted)
        except BlockingIOError:
            return
        except OSError:
            self.connection.lose()
            return
        if size:
            self._on_body(body, space[:size])
        else:
            self._on_fin()

    def _hold(self, data: bytes) -> None:
        """Keep bytes of later requests."""
        self.held = b"".join((self.held, data))
        if len(self.held) > _HELD_MAX:
            self.connection.read(False)

    def _listen_for_more(self) -> None:
        """Read the next request and FIN, unless enough bytes are held already."""
        if len(self.held) > _HELD_MAX:
            self.connection.read(False)
        elif not self.fin:
            self.connection.read(True)

    def _on_fin(self) -> None:
        """Handle FIN. It counts after all bytes that the client has sent."""
        self.fin = True
        self.connection.read(False)
        exchange = self.requester.exchange
        if self.requester.body is not None:
            self._body_cut_short()
        elif self.state is _IDLE or self.state is _HEAD:
            self._close()
        elif exchange is None or self.held:
            # The client has still to take an answer, or sent more requests before FIN.
            return
        elif exchange.state is WAITING:
            # A file that a thread opens is not worth giving up.
            if not exchange.route:
                self.connection.lose()
        elif exchange.reactor is not None:
            exchange.reactor.client_sent_fin(exchange)

    # Requests ------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Serve bytes that were read before this object existed, after a PROXY header."""
        self._parse(data)
        if self.held:
            self._go_on()

    def _parse(self, data: bytes) -> None:
        """Read the head at the start of `data`, and begin its exchange. `held` follows `data`."""
        context = self._context
        try:
            head = parse_request_head(data, context.limits, self._seen)
            if head is not None and context.request_ids is not None:
                trusted = self.requester.forwarded is not None
                arrived = len(data)
                request_id, data, head = context.request_ids.identify(data, head, trusted=trusted)
                self.requester.identified = request_id, len(data) - arrived
        except Rejected as rejected:
            if rejected.rule is policy.BODY_TOO_LARGE and context.find_answerer is not None:
                self._reject_large(data)
            elif not self._speak_http2(data):
                self.requester.reject(rejected.rule, data)
            return
        except Rewritten as rewritten:
            self._seen = 0
            self._parse(rewritten.data)
            return
        if head is None:
            self._await_head(data)
            return
        self._seen = 0
        self._begun = self._parsing = True
        self.state = _BUSY
        connection = self.connection
        connection.deadline = connection.due = inf
        requester = self.requester
        requester.clock.due = inf
        requester.after = _NEXT if head.keep_alive and not context.draining else _CLOSE
        if context.max_connection_age and self.connection.age > context.max_connection_age:
            requester.after = _CLOSE
        if requester.forwarded is not None:
            requester.take_origin(head.fields)
        request = data if head.size + head.body == len(data) else self._cut(head, data)
        if request is None:
            self._begin_body(head, data)
        else:
            requester.exchange = exchange = Exchange(requester, head, request, True, self._loop.now)
            if requester.identified is not None:
                requester.identify(exchange)
            context.submit(exchange)
        self._parsing = False

    def _cut(self, head: RequestHead, data: bytes) -> bytes | None:
        """Return the request that begins with `data` and does not end with it.

        What follows it is held. None: its body is chunked, or has not arrived whole.
        """
        end = head.size + head.body
        missing = end - len(data)
        if head.body < 0 or missing > len(self.held):
            return None
        if missing > 0:
            # `held` begins with the rest of the body.
            data = b"".join((data, self.held[:missing]))
            self.held = self.held[missing:] or b""
            return data
        self._hold_back(data, end)
        return data[:end]

    def _reject_large(self, data: bytes) -> None:
        """Reject a request by the size of its body. Its route says whose pages may read that."""
        context, requester = self._context, self.requester
        self._seen = 0
        try:
            head = parse_request_head(data, context.limits_of_heads)
        except Rewritten as rewritten:
            self._parse(rewritten.data)
            return
        except Rejected as rejected:
            requester.reject(rejected.rule, data)
            return
        assert head is not None
        assert context.find_answerer is not None
        self.state = _BUSY
        data = data[: head.size]
        requester.exchange = exchange = Exchange(requester, head, data, False, self._loop.now)
        if context.request_ids is not None:
            exchange.request_id = context.request_ids.make()
        context.find_answerer(exchange)
        requester.reject(policy.BODY_TOO_LARGE)

    def _speak_http2(self, data: bytes) -> bool:
        """Speak HTTP/2 from now on if a new connection begins with its preface (RFC 9113 §3.3).

        Return whether it does, or may do so when more has arrived. The beginning of a preface reads
        like that of a head. With TLS only the handshake chooses HTTP/2.
        """
        http2 = self._context.http2
        if http2 is None or self._begun or self.connection.transport.encrypted:
            return False
        if data.startswith(_HTTP2):
            self.state = _ENDED
            http2.begin(self._context, self.connection, self.requester.origin, data)
        elif _HTTP2.startswith(data):
            self._await_head(data)
        else:
            return False
        return True

    def _hold_back(self, data: bytes, start: int) -> None:
        """Put the bytes of `data` from `start` on before the held bytes."""
        behind = memoryview(data)[start:]
        self.held = b"".join((behind, self.held)) if self.held else behind

    def _await_head(self, data: bytes) -> None:
        """Wait for the rest of a head that begins with `data`."""
        if self.held:
            # The head did not end where `_take_head` found its end.
            data = b"".join((data, self.held))
            self.held = b""
            self._parse(data)
            return
        if self.fin:
            self._close()
            return
        self.held = data
        self._seen = len(data)
        self.connection.read(True)
        if self.state is _IDLE:
            self.state = _HEAD
            self.reckon()

    def _go_on(self) -> None:
        """Serve the held requests, one after another."""
        requests = 0
        while self.held and self.state is _IDLE:
            if requests == _REQUESTS_MAX:
                self.connection.read(False)
                self.reckon()
                self._defer()
                return
            requests += 1
            self._parse(self._take_head())

    def _take_head(self) -> bytes:
        """Take the first head from `held`, up to its empty line; all of `held` if there is none."""
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
        """Go on with the postponed bytes of a body, or with the held requests."""
        self._deferred = False
        body = self.requester.body
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
        """Begin a request whose body is chunked or has not arrived whole."""
        context = self._context
        if len(data) > head.size:
            self._hold_back(data, head.size)
            data = data[: head.size]
        arrived, self.held = memoryview(self.held), b""
        self.requester.exchange = exchange = Exchange(
            self.requester, head, data, False, self._loop.now
        )
        if self.requester.identified is not None:
            self.requester.identify(exchange)
        if context.find_answerer is not None:
            answerer = context.find_answerer(exchange)
            if answerer is not None:
                # To read the body would be useless.
                self.requester.end_with(_LINGER)
                answerer(exchange)
                return
            # That of its app.
            context = self._context
        rate = MinimumRate(context.body_timeout, context.min_body_rate)
        self.requester.body = body = RequestBody(
            head,
            context.limits.body_size,
            rate,
            collect=context.buffers or is_small(head),
        )
        if body.collected:
            self.state = _BUFFERING
            exchange.collected = inf
            if context.dispatcher.full:
                # Reject it now: to read its body would be useless.
                body.drop()
                self.requester.body = None
                self.requester.reject_overload()
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
        if self.requester.exchange is exchange:
            context.submit(exchange)

    def _await_body(self, body: RequestBody) -> None:
        """Feed postponed bytes later, or read on, or handle a FIN that cuts the body."""
        if body.postponed is not None:
            self.connection.read(False)
            self._defer()
        elif self.fin:
            self._body_cut_short()
            return
        else:
            self.connection.read(True)
        if body.rate.due == inf and (body.collected or not body.awaits_permission):
            body.rate.begin(self._loop.now)
        self.reckon()

    def _body_cut_short(self) -> None:
        """Handle FIN within a request body (RFC 9112 §8)."""
        exchange = self.requester.exchange
        self.requester.end_with(_CLOSE)
        if exchange is None:
            # The request was answered before.
            if self.state is _DRAINING:
                self._close()
        elif self.requester.answer_begun:
            # The app is told, and may end its answer.
            assert exchange.reactor is not None
            self.requester.body = None
            exchange.reactor.client_sent_fin(exchange)
            self.reckon()
        else:
            self.requester.reject(policy.BODY_INCOMPLETE)

    def _on_body(self, body: RequestBody, data: memoryview) -> None:
        """Handle more of a request body. Bytes after its end are held.

        The memory of `data` is reused after the call.
        """
        try:
            end = body.feed(data)
        except Rejected as rejected:
            if self.requester.exchange is not None:
                self.requester.reject(rejected.rule)
            else:
                self._end_unread()
            return
        except OSError as error:
            limited.error("a request body could not be buffered: %s", error)
            self.requester.answer_here(INSUFFICIENT_STORAGE)
            return
        body.rate.moved(end, self._loop.now)
        if self.requester.exchange is not None:
            self.requester.exchange.bytes_in += end
        if end < len(data):
            behind = _keep(data[end:])
            data = data[:end]
            if body.complete:
                self.held = behind
            else:
                body.postponed = behind
        if body.complete:
            self.requester.body = None
            self._listen_for_more()
        exchange = self.requester.exchange
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
            exchange.collected = self._loop.now
            self.state = _BUSY
            self.reckon()
            self._context.submit(exchange)
        else:
            self._await_body(body)

    def _pass_on(self, exchange: Exchange, body: RequestBody, data: memoryview) -> None:
        """Pass on a part of a body to its exchange."""
        room = body.pass_on(exchange, data)
        if not body.complete:
            if room:
                self._await_body(body)
            else:
                self._rest(body)
            return
        if exchange.state is RUNNING and not self.requester.answer_begun:
            self.requester.clock.await_first_byte()
        self.reckon()

    def _rest(self, body: RequestBody) -> None:
        """Read no more of a body until `read_on`: its link has no room."""
        self.connection.read(False)
        body.rate.rest()
        self.reckon()

    def _end_unread(self) -> None:
        """Read no more of the body of an answered request: no second answer is possible."""
        self.requester.body = None
        self.requester.end_with(_LINGER)
        if self.state is _DRAINING:
            self._linger()

    def read_on(self) -> None:
        """Read more of the request's body, if any: there is room for it."""
        if self.requester.body is not None:
            self._await_body(self.requester.body)

    def use(self, context: ClientContext) -> None:
        """Serve requests of another app from now on."""
        self._context = context

    # What follows an answer ----------------------------------------------------------------------

    def answered(self) -> None:
        """Go on after an answer, which was written or waits for the client."""
        if self.state is _ENDED:
            return
        self.requester.end_exchange()
        self.requester.clock.due = inf
        self.connection.release()
        if self.connection.unsent:
            self.state = _FLUSHING
            self.reckon()
        else:
            self._next()

    def on_drained(self) -> None:
        """Go on: the client has taken all bytes that waited for it."""
        if self.state is _FLUSHING:
            self._next()
        else:
            self.requester.file_sent()

    def _next(self) -> None:
        """Read the next request, or end the connection: the client has taken the answer."""
        self.requester.over()
        if self.requester.after is not _NEXT:
            unread = self.requester.body is not None or self.held or self.requester.after is _LINGER
            if unread and not self.fin and self.requester.after is not _CUT:
                self._linger()
            else:
                self._close()
            return
        if self.requester.body is not None:
            self.state = _DRAINING
            self.requester.body.drain()
            self._await_body(self.requester.body)
            return
        self.state = _IDLE
        if self.held:
            if not self._parsing:
                self._go_on()
            return
        if self.fin:
            self._close()
            return
        self.connection.read(True)
        self.reckon()
        if self._context.draining:
            self.shut(self._context.close_grace)

    # Ends ----------------------------------------------------------------------------------------

    def _linger(self) -> None:
        """Linger: a close now would reset the connection and destroy the last answer."""
        self.state = _ENDED
        self.requester.body = None
        self.held = b""
        self.connection.linger()

    def _close(self) -> None:
        self.state = _ENDED
        self.connection.close()

    def on_lost(self, error: str) -> None:
        """Abandon the exchange, which fails by `error`."""
        self.state = _ENDED
        self.requester.lose(error)

    # Deadlines -----------------------------------------------------------------------------------

    def reckon(self) -> None:
        """Set the deadline of the present state."""
        state = self.state
        if state is _IDLE:
            self.connection.wait(self._context.keep_alive)
        elif state is _HEAD:
            self.connection.wait(self._context.head_timeout)
        elif state is not _ENDED:
            when = self.requester.clock.due
            if self.requester.body is not None:
                when = min(when, self.requester.body.rate.due)
            self.connection.wait_until(when)

    def on_deadline(self) -> None:
        """Handle the deadline of the present state."""
        now = self._loop.now
        state = self.state
        exchange, body = self.requester.exchange, self.requester.body
        if exchange is not None and exchange.state is RUNNING and self.requester.clock.due <= now:
            # Time in which the reactor has not begun the exchange does not count.
            self._context.dispatcher.unstarted.look()
        if exchange is not None and self.requester.clock.due <= now:
            self.requester.overdue(exchange)
        elif state is _HEAD:
            since = now - self._context.head_timeout
            self.requester.reject(policy.HEAD_TIMEOUT, self.held, since=since)
        elif state is _IDLE:
            # A request that has just arrived is served: a proxy may not send it again.
            if not self.shed():
                self.reckon()
        elif body is not None and body.rate.due <= now:
            if exchange is not None:
                self.requester.reject(policy.BODY_TIMEOUT)
            elif state is _DRAINING:
                self._close()
            else:
                self._end_unread()
        else:
            self.reckon()

    # What the service asks -----------------------------------------------------------------------

    @property
    def state_name(self) -> str:
        """The name under which `reactor-run status` counts it."""
        return self.state.value

    @property
    def idle_since(self) -> float:
        """When it became idle, in seconds of the loop's clock; inf if it is not idle."""
        if self.state is not _IDLE:
            return inf
        due = self.connection.due
        # Before its first request it has the deadline of a head, which may be off.
        if due in (inf, self.connection.accepted + self._context.head_timeout):
            return self.connection.accepted
        return due - self._context.keep_alive

    def shed(self) -> bool:
        """Close an idle connection unless a request has arrived; return whether it was closed."""
        if self.held or not self.connection.close_if_silent():
            return False
        self.state = _ENDED
        return True

    def shut(self, grace: float) -> None:
        """End after the exchange in flight: the service stops.

        A connection that is idle or reads a head has `grace` seconds: a last request may be on its
        way. One that has arrived is served also without them.
        """
        if self.state is _IDLE or self.state is _HEAD:
            if self._deferred:
                # It holds a request already.
                return
            if not grace and self.state is _HEAD:
                self._close()
            elif not grace:
                self.shed()
            elif self._loop.now + grace < self.connection.due:
                self.connection.wait(grace)
        elif self.state is _DRAINING:
            self._linger()


def _keep(data: memoryview) -> memoryview:
    """Return `data` in memory that does not change: a copy of what was read into other memory."""
    return data if data.readonly else memoryview(bytes(data))
