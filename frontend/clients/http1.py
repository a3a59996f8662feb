"""HTTP/1.1 on one connection: reads its requests, one after another.

One exchange is under way at a time: the requester's (requester.py). Requests that come meanwhile
wait in `held`, and when they are many, in the kernel. http1_state.py has the states.

No event takes long. One turn reads PIECES_MAX chunks of a body, and answers _REQUESTS_MAX requests
that need no reactor. The rest is deferred to later turns, and the client is not read meanwhile.
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
from reactor_run.protocol.request import KnownHeads, RequestHead, Rewritten, parse_request_head

__all__ = ["Http1"]

_READ: Final = 65536
_HELD_MAX: Final = 65536
"""Bytes of later requests that are read while an exchange is under way."""
_REQUESTS_MAX: Final = 16
"""Requests that one turn begins; more than one only if no reactor is needed to answer them."""

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

_KNOWN_MAX: Final = KnownHeads.SIZE
_HEAD_END: Final = re.compile(rb"\r\n\r\n")

_space = memoryview(bytearray(READ_MAX))
"""What bodies are read into. What is not passed on at once is copied out of it."""


class Http1:
    """Reads the requests of one connection: a `ConnectionProtocol` and a `RequestSource`.

    connection: the connection that speaks HTTP/1.1.
    requester: waits for the answer to the request that is under way.
    state: see http1_state.py.
    held: bytes that were read and belong to requests to come. Those of many requests are a view: to
    copy the rest for each of them would take quadratic time.
    fin: the client sends nothing more.
    """

    __slots__ = (
        "_context",
        "_deferred",
        "_loop",
        "_parsing",
        "_recv",
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
        """Serve `connection`. `origin`: of whom its requests are. Raises OSError."""
        self.connection = connection
        self.requester = Http1Requester(context, connection, origin, self)
        self.state = _IDLE
        self.held: bytes | memoryview = b""
        self.fin = False
        self._seen = 0
        """Bytes of `held` that are known not to be a whole head."""
        self._parsing = False
        """`_parse` runs, and its caller goes on with what is held."""
        self._deferred = False
        """The loop is to call `_go_on_deferred`."""
        self._context = context
        self._loop = context.loop
        self._recv = connection.transport.recv
        connection.begin(self)
        connection.wait(context.head_timeout)

    # Bytes in ------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Bytes, or FIN, have come."""
        if self.requester.body is not None:
            self._read_body(self.requester.body)
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
            size = self.connection.transport.recv_into(
                _space, body.read_size(self.requester.exchange)
            )
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
        elif not self.fin:
            self.connection.read(True)

    def _on_fin(self) -> None:
        """The client sends nothing more. That counts behind all that it has sent."""
        self.fin = True
        self.connection.read(False)
        exchange = self.requester.exchange
        if self.requester.body is not None:
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
        if len(data) <= _KNOWN_MAX and not self._seen:
            # One that came in pieces is not looked up: to hash it for each piece takes too long.
            head = known.get(data)
        if head is None:
            try:
                head = parse_request_head(data, context.limits, self._seen)
            except Rejected as rejected:
                self.requester.reject(rejected.rule, head_only=data.startswith(b"HEAD "))
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
        connection.deadline = connection.due = inf
        requester = self.requester
        requester.clock.due = inf
        requester.after = _NEXT if head.keep_alive and not context.draining else _CLOSE
        if requester.forwarded is not None:
            requester.take_origin(head.fields)
        size = len(data)
        end = head.size + head.body
        if end > size and self.held:
            # Its body is among what was read, or the first part of it.
            missing = end - size
            data = b"".join((data, self.held[:missing]))
            size = len(data)
            self.held = self.held[missing:] or b""
        if head.body < 0 or end > size:
            self._begin_body(head, data)
        else:
            if end < size:
                self._hold_back(data, end)
                data = data[:end]
            requester.exchange = exchange = Exchange(requester, head, data, True, self._loop.now)
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
        """Serve what was held back, one request after another."""
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
        """Begin a request with a body that is chunked, or still to come."""
        context = self._context
        if len(data) > head.size:
            self._hold_back(data, head.size)
            data = data[: head.size]
        arrived, self.held = memoryview(self.held), b""
        rate = MinimumRate(context.body_timeout, context.min_body_rate)
        self.requester.body = body = RequestBody(
            head,
            context.limits.body_size,
            rate,
            collect=context.buffers or is_small(head),
        )
        self.requester.exchange = exchange = Exchange(
            self.requester, head, data, False, self._loop.now
        )
        if body.collected:
            self.state = _BUFFERING
            if context.dispatcher.full:
                # Before its body is read, which would be for nothing.
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
            context.dispatcher.submit(exchange)

    def _await_body(self, body: RequestBody) -> None:
        """Go on with what has come of the body, else read on, else it was cut short."""
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
        """The client has sent FIN within the body of its request (RFC 9112 §8)."""
        exchange = self.requester.exchange
        self.requester.end_with(_CLOSE)
        if exchange is None:
            # It was answered before.
            if self.state is _DRAINING:
                self._close()
        elif self.requester.answer_begun:
            # The app learns of it, and may end its answer.
            assert exchange.reactor is not None
            self.requester.body = None
            exchange.reactor.client_sent_fin(exchange)
            self.reckon()
        else:
            self.requester.reject(policy.BODY_INCOMPLETE)

    def _on_body(self, body: RequestBody, data: memoryview) -> None:
        """More of a request body; what lies beyond it is held. `data` is only lent."""
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
            self.state = _BUSY
            self.reckon()
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
                self.reckon()
            return
        if exchange.state is RUNNING and not self.requester.answer_begun:
            self.requester.clock.await_first_byte()
        self.reckon()

    def _end_unread(self) -> None:
        """Give up the rest of a body that was answered already: there can be no second answer."""
        self.requester.body = None
        self.requester.end_with(_LINGER)
        if self.state is _DRAINING:
            self._linger()

    def read_on(self) -> None:
        """There is room for more of the request, if some of it is still to come."""
        if self.requester.body is not None:
            self._await_body(self.requester.body)

    # What follows an answer ----------------------------------------------------------------------

    def answered(self) -> None:
        """The answer has been handed over, if not yet to the client."""
        if self.state is _ENDED:
            return
        self.requester.exchange = None
        self.requester.clock.due = inf
        self.connection.release()
        if self.connection.unsent:
            self.state = _FLUSHING
            self.reckon()
        else:
            self._next()

    def on_drained(self) -> None:
        """The client has taken all that waited for it."""
        if self.state is _FLUSHING:
            self._next()

    def _next(self) -> None:
        """The client has taken the answer: go on, or end the connection."""
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
        """Let the client read the last answer: a reset for what it still sends would destroy it."""
        self.state = _ENDED
        self.requester.body = None
        self.held = b""
        self.connection.linger()

    def _close(self) -> None:
        self.state = _ENDED
        self.connection.close()

    def on_lost(self) -> None:
        """The client is gone, or as good as gone."""
        self.state = _ENDED
        self.requester.lose()

    # Deadlines -----------------------------------------------------------------------------------

    def reckon(self) -> None:
        """Set the deadline that the state asks for."""
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
        """The client, or its exchange, took too long."""
        now = self._loop.now
        state = self.state
        exchange, body = self.requester.exchange, self.requester.body
        if exchange is not None and exchange.state is RUNNING and self.requester.clock.due <= now:
            # If the reactor has not begun it, its time has not run.
            self._context.dispatcher.unstarted.look()
        if exchange is not None and self.requester.clock.due <= now:
            self.requester.overdue(exchange)
        elif state is _HEAD:
            self.requester.reject(policy.HEAD_TIMEOUT)
        elif state is _IDLE:
            # What has come in this moment is served: a proxy may not send it again.
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
