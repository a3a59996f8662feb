"""One HTTP/2 connection (RFC 9113): its streams, its output and its end.

The session (protocol/http2/session.py) reads the frames, and calls this object. Each request gets a
stream (http2_stream.py), which an `Http1` reads as if it came on a connection of its own. All
output of one batch of events leaves in one send.

What the connection waits for, and its deadline:

    no stream yet      the client: its preface and a first request    head
    no stream          the client: the next request                   keep-alive
    streams            they have deadlines of their own; in addition, a stream whose answer is in
                       the session is reset if the client takes none of it for the response timeout
    retiring           the client: requests that it sent before it has read the first GOAWAY

A stream's place is free when its client has its answer or has reset it, and its *app* is done. So a
client that resets what it has just asked for gets REFUSED_STREAM, once as many apps run for it as
it may have streams.
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection, ConnectionPhase
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.http1_state import Http1State
from reactor_run.frontend.clients.http2_stream import Http2Stream
from reactor_run.frontend.clients.http2_whole import WholeRequester
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import OVER, Exchange
from reactor_run.frontend.exchanges.record import CLIENT_LEFT
from reactor_run.frontend.log import limited
from reactor_run.native import read_head, write_request
from reactor_run.protocol.http2.answer import Fields
from reactor_run.protocol.http2.request_head import (
    Malformed,
    translate_fields,
    translate_request_head,
)
from reactor_run.protocol.http2.session import (
    CANCEL,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SessionLimits,
    SessionMaker,
)
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import Rewritten, judge_request_head

__all__ = ["Http2", "session_maker"]

_IDLE: Final = Http1State.IDLE
_OPEN: Final = ConnectionPhase.OPEN

_READ: Final = 65536
_OUTPUT: Final = 131072
"""The bytes of one send."""
_OUTPUTS_MAX: Final = 4
"""The most sends of one connection in a turn of the loop."""
_STREAM_WINDOW: Final = 262144
_CONNECTION_WINDOW: Final = 1048576
"""The most bytes of bodies that a client may send ahead: of one, and of all on a connection."""
_MEMORY_MAX: Final = 524288
"""The most bytes of answers that wait in the memory of the streams of one connection."""
_HEADS_MAX: Final = 1048576
"""The most bytes of the heads of all requests on one connection, unless it is a single one. A few
bytes of a client may stand for a head of 64 KiB (RFC 7541)."""
_KEPT_MAX: Final = 16
"""The most streams without a request that are kept for later ones."""
_SPARE_KEPT: Final = 2.0
"""Seconds for which an idle connection keeps them."""
_LAST_REQUESTS: Final = 1.0
"""Seconds between the two GOAWAY frames of a graceful end (RFC 9113 §6.8)."""


def session_maker(head_size: int, streams_max: int) -> SessionMaker:
    """Return what makes the sessions. Its parameters are the most bytes of a head, and streams."""
    return SessionMaker(SessionLimits(streams_max, head_size, _STREAM_WINDOW, _CONNECTION_WINDOW))


class Stirrer(Protocol):
    """What all HTTP/2 connections share: http2_service.py.

    streams_max: the most streams of one connection. sessions: makes their sessions.
    """

    streams_max: int
    sessions: SessionMaker

    def stir(self, http2: Http2) -> None:
        """Call `flush` of a connection at the end of the batch."""


class Http2:
    """The protocol of one connection: a `ConnectionProtocol`, a `SessionHandler` and a
    `StreamOwner`.

    connection: to the client.
    """

    __slots__ = (
        "_answered",
        "_arriving",
        "_context",
        "_ending",
        "_idle_since",
        "_left_behind",
        "_looks",
        "_loop",
        "_origin",
        "_retiring",
        "_seen",
        "_sent",
        "_service",
        "_spare",
        "_spare_whole",
        "_streams",
        "_taken",
        "_takes_whole",
        "_unsent",
        "_whole_max",
        "connection",
        "readable",
        "session",
        "waiting",
    )

    def __init__(
        self,
        service: Stirrer,
        context: ClientContext,
        connection: Connection,
        origin: ConnectionOrigin,
    ) -> None:
        """`origin`: names the client of the requests."""
        self.connection = connection
        self._service = service
        self._context = context
        self._loop = context.loop
        self._origin = origin.over_http2()
        self.session = service.sessions.make(self, context.loop.now)
        self._whole_max = _HEADS_MAX // service.streams_max
        """The most bytes of a request that may do without a stream object. The heads of larger ones
        are counted."""
        self._takes_whole = False
        """A request that has arrived whole may do without a stream object: during one read."""
        self._streams: dict[int, Http2Stream | WholeRequester] = {}
        self._spare: list[Http2Stream] = []
        self._spare_whole: list[WholeRequester] = []
        self._arriving: dict[int, tuple[Http2Stream, Fields]] = {}
        """The requests of this read whose content has not ended."""
        # Dicts in the place of sets: an empty set takes three times as much memory.
        self.waiting: dict[Http2Stream, None] = {}
        self.readable: dict[Http2Stream, None] = {}
        self._unsent: dict[int, int] = {}
        """Streams that are served, and whose answers wait in the session: how long each is."""
        self._answered: dict[int, None] = {}
        """Streams to reset without an error when their answers were sent."""
        self._left_behind: list[Exchange] = []
        """The exchanges of streams that were reset, whose apps may still run."""
        self._sent = 0
        """Bytes of output."""
        self._seen = 0
        self._taken: dict[int, int] = {}
        """What had been sent when stalled streams were last looked for: in all, and of each stream
        that was not sent as a whole."""
        self._idle_since = context.loop.now
        self._retiring = False
        """The first GOAWAY was sent."""
        self._ending = False
        """The second one was sent: no new stream is taken."""
        self._looks = False
        """`flush` will be called."""

    def begin(self, data: bytes) -> None:
        """Take what the client has sent already."""
        self._context.counters.http2_connections += 1
        self.connection.wait(self._context.head_timeout)
        self._take(data)

    # Bytes ---------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Read the bytes or the FIN that have arrived."""
        try:
            data = self.connection.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:
            self.connection.lose()

    def _take(self, data: bytes) -> None:
        context = self._context
        # What takes requests in the place of the dispatcher may use all of `Http1Requester`.
        self._takes_whole = (
            context.submit == context.dispatcher.submit and context.request_ids is None
        )
        self.session.receive(data, self._loop.now)
        if self._arriving:
            arriving, self._arriving = self._arriving, {}
            for stream, fields in arriving.values():
                if stream.transport.number:
                    self._serve_arrived(stream, fields)
        session = self.session
        if self.readable or self._ending or session.over or session.has_output:
            self.stir()

    def stir(self) -> None:
        """See `StreamOwner`."""
        if not self._looks:
            self._looks = True
            self._service.stir(self)

    def on_drained(self) -> None:
        """Go on: the client has taken all bytes that waited for it."""
        self.stir()

    def flush(self) -> None:
        """Read the streams, send what the session has, and end when all is over.

        What this causes is sent too, but no more than _OUTPUTS_MAX times: others wait.
        """
        if self._is_open():
            if self.readable:
                self._read_streams()
            self._send()
        self._looks = False

    def _send(self) -> None:
        for _ in range(_OUTPUTS_MAX):
            if self.connection.unsent or not self._is_open():
                return
            data = self.session.output(_OUTPUT)
            reset = bool(self._answered) and len(data) < _OUTPUT and self._reset_answered()
            if not data and not reset:
                break
            if data:
                self._sent += len(data)
                self.connection.write(data)
            if self.waiting:
                self._move_streams()
            elif not (reset or self._ending or self.session.has_output):
                break
        else:
            self._loop.defer(self.stir)
        if self.session.over and self._is_open():
            self._end()

    def _read_streams(self) -> None:
        """Read each stream with unread bytes once. The rest has to wait for the next turn."""
        readable, self.readable = self.readable, {}
        for stream in readable:
            stream.look()
        if self.readable:
            self._loop.defer(self.stir)

    def _move_streams(self) -> None:
        """Go on with the answers that wait for the session."""
        for stream in list(self.waiting):
            stream.move()

    def _reset_answered(self) -> bool:
        """Reset answered streams all of whose answer is in the output; return whether any was.

        A reset drops what the session still has of a stream.
        """
        sent = [number for number in self._answered if not self.session.queued(number)]
        for number in sent:
            del self._answered[number]
            self.session.reset(number, NO_ERROR)
        return bool(sent)

    def memory_left(self) -> int:
        """See `StreamOwner`."""
        kept = sum(stream.writer.in_memory for stream in self.waiting if stream.writer is not None)
        return max(_MEMORY_MAX - kept, 0)

    # Streams -------------------------------------------------------------------------------------

    def on_request(self, stream: int, fields: Fields, ended: bool) -> None:
        """See `SessionHandler`."""
        streams = self._streams
        taken = len(streams) + len(self._left_behind)
        if self._ending or (taken >= self._service.streams_max and self._is_full()):
            self.session.reset(stream, REFUSED_STREAM)
            return
        if not self._retiring:
            if not streams and not self._unsent:
                self.connection.wait(self._context.response_timeout)
            age = self._context.max_connection_age
            if age and self.connection.age > age:
                self._retire_connection(_LAST_REQUESTS)
        if ended and self._takes_whole and self._serve_whole(stream, fields):
            return
        new = self._begin_stream(stream)
        if ended:
            new.transport.request_ended = True
            self._open(new, fields)
        else:
            self._arriving[stream] = new, fields

    def _begin_stream(self, number: int) -> Http2Stream:
        """Return what serves the stream `number`."""
        if self._spare:
            stream = self._spare.pop()
        else:
            stream = Http2Stream(self._context, self, self._origin, self._closed)
        stream.serve(number)
        self._streams[number] = stream
        return stream

    def _serve_whole(self, number: int, fields: Fields, content: bytes = b"") -> bool:
        """Serve a request that has arrived whole; return False if only a stream object can."""
        limits = self._context.limits
        size = len(content) if content else None
        try:
            data, method, _, _, tunnel = write_request(fields, True, size) or translate_fields(
                fields, True, size
            )
            if content:
                data += content
            head = read_head(data, limits.bounds) or judge_request_head(data, limits)
        except (Malformed, Rejected, Rewritten):
            return False
        if (
            head is None
            or head.size + head.body != len(data)
            or len(data) > self._whole_max
            or tunnel
            or method == b"HEAD"
        ):
            return False
        whole = self._spare_whole.pop() if self._spare_whole else self._make_whole()
        if whole.forwarded is not None:
            whole.express_prefix = whole.forwarded.prefixes(head.fields)[0]
        whole.number = number
        self._streams[number] = whole
        whole.exchange = exchange = Exchange(whole, head, data, True, self._loop.now)
        self._context.submit(exchange)
        return True

    def _make_whole(self) -> WholeRequester:
        return WholeRequester(self._context, self, self._origin)

    def _serve_arrived(self, stream: Http2Stream, fields: Fields) -> None:
        """Serve a request whose content has arrived in this read, or a part of it."""
        transport = stream.transport
        if (
            transport.request_ended
            and self._takes_whole
            and transport.arrived < self._whole_max
            and self._serve_whole(stream.number, fields, transport.peek())
        ):
            transport.drop()
            self._release(stream)
        else:
            self._open(stream, fields)

    def _release(self, stream: Http2Stream) -> None:
        """Keep a stream object for another request: it has only collected the content."""
        stream.number = stream.transport.number = 0
        if len(self._spare) < _KEPT_MAX:
            self._spare.append(stream)
        else:
            stream.close()

    def unfold(self, whole: WholeRequester) -> Http1Requester:
        """See `WholeOwner`."""
        exchange, whole.exchange = whole.exchange, None
        assert exchange is not None
        stream = self._begin_stream(whole.number)
        stream.adopt(exchange)
        return stream.requester

    def _is_full(self) -> bool:
        """Whether the client has as many streams as it may, those included whose apps still run."""
        self._left_behind = [each for each in self._left_behind if each.state is not OVER]
        return len(self._streams) + len(self._left_behind) >= self._service.streams_max

    def _heads(self) -> int:
        """Return the bytes of the heads of all requests that are served, for their apps too."""
        exchanges = [stream.exchange for stream in self._streams.values()]
        return sum(
            exchange.head.size
            for exchange in (*exchanges, *self._left_behind)
            if exchange is not None and exchange.state is not OVER
        )

    def _open(self, stream: Http2Stream, fields: Fields) -> None:
        """Serve a request, with the content that has arrived."""
        transport = stream.transport
        ended = transport.request_ended
        arrived = transport.arrived
        try:
            head, method, length, chunked, _ = translate_request_head(
                fields, ended, arrived if arrived or not ended else None
            )
        except Malformed as malformed:
            limited.debug("reset a stream: %s", malformed, kind="http2")
            transport.refuse(PROTOCOL_ERROR)
            return
        size = len(head)
        others = self._heads() if size * self._service.streams_max > _HEADS_MAX else 0
        if others and others + size > _HEADS_MAX:
            transport.refuse(REFUSED_STREAM)
            return
        data = transport.open(method, length, chunked)
        protocol = stream.protocol
        assert isinstance(protocol, Http1)
        protocol.take(head + data if data else head)

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        """See `SessionHandler`."""
        known = self._streams.get(stream)
        if not isinstance(known, Http2Stream) or not known.transport.number:
            self.session.acknowledge(stream, len(data))
            return
        known.transport.put(data, ended)
        self.readable[known] = None

    def on_closed(self, stream: int, error: int) -> None:
        """See `SessionHandler`."""
        if error == REFUSED_STREAM:
            self._context.counters.http2_refused += 1
        ended = self._streams.pop(stream, None)
        if isinstance(ended, WholeRequester):
            if ended.exchange is not None:
                ended.unfold()
                self.on_closed(stream, NO_ERROR)
            elif len(self._spare_whole) < _KEPT_MAX:
                self._spare_whole.append(ended)
        else:
            self._answered.pop(stream, None)
            self._unsent.pop(stream, None)
            arriving = self._arriving.pop(stream, None)
            if ended is not None:
                self._retire(ended, arriving is not None)
        if not self._streams:
            self._check_idle()

    def _retire(self, stream: Http2Stream, unused: bool) -> None:
        """Keep the objects of a stream that has ended for another one, or drop them.

        `unused`: its request was not served.
        """
        complete = stream.transport.ended() or unused
        protocol = stream.protocol
        if (
            complete
            and isinstance(protocol, Http1)
            and protocol.state is _IDLE
            and stream.phase is _OPEN
            and len(self._spare) < _KEPT_MAX
        ):
            self._spare.append(stream)
            return
        exchange = stream.requester.exchange
        if complete and exchange is not None and stream.transport.request_ended:
            # Only its reactor has not said yet that the answer is complete.
            return
        stream.lose(CLIENT_LEFT)
        if exchange is not None and exchange.state is not OVER:
            self._left_behind.append(exchange)

    def _closed(self, stream: Connection) -> None:
        """Forget a stream that can serve no other one."""
        assert isinstance(stream, Http2Stream)
        if self._streams.pop(stream.number, None) is not None:
            self._unsent[stream.number] = stream.transport.sent
        elif stream in self._spare:
            self._spare.remove(stream)

    def answered(self, number: int) -> None:
        """See `StreamOwner`."""
        self._answered[number] = None
        self.stir()

    # Deadlines and the end -----------------------------------------------------------------------

    def _check_idle(self) -> None:
        if self._is_idle and self._is_open():
            # A dict keeps its memory when it becomes empty.
            self._streams.clear()
            self._idle_since = self._loop.now
            if self._ending:
                self.stir()
            elif not self._retiring:
                self.connection.wait(min(_SPARE_KEPT, self._context.keep_alive))

    def _is_open(self) -> bool:
        return self.connection.phase is _OPEN

    @property
    def _is_idle(self) -> bool:
        return not self._streams and not self._unsent

    @property
    def _idle_until(self) -> float:
        return self._idle_since + self._context.keep_alive

    def on_deadline(self) -> None:
        """Close an idle connection, look for stalled streams, or send the second GOAWAY."""
        if self._retiring and not self._ending:
            self._stop_streams()
        elif not self._is_idle:
            # A window that was opened in this batch is used first. Else its stream seems to wait
            # for its turn.
            self._send()
            if self._is_open() and not self._is_idle:
                self._reset_stalled()
                self.connection.wait(self._context.response_timeout)
        elif self.session.last and self._loop.now < self._idle_until:
            self._drop_spare()
            self.connection.wait_until(self._idle_until)
        elif not self.shed():
            self.connection.wait(self._context.keep_alive)

    def _reset_stalled(self) -> None:
        """Reset the streams of which the client has taken too little since the last look.

        A stream whose window is open may wait for its turn, as long as others get on.
        """
        context, session = self._context, self.session
        least = max(context.min_response_rate * context.response_timeout, 1)
        stuck = self._sent - self._seen < least
        sent = {number: stream.sent for number, stream in self._streams.items()}
        taken = {}
        for number, size in (sent | self._unsent).items():
            queued = session.queued(number)
            if not queued:
                continue
            taken[number] = size - queued
            slow = taken[number] - self._taken.get(number, -inf) < least
            if slow and (stuck or session.window(number) <= 0):
                limited.info("a client took too little of its answer for too long, aborting it")
                session.reset(number, CANCEL)
        self._seen, self._taken = self._sent, taken
        self.stir()

    def _stop_streams(self) -> None:
        """Take no new stream; the connection ends with the last one."""
        self._ending = True
        self.session.end()
        self.connection.wait(self._context.response_timeout)
        self.stir()

    def _end(self) -> None:
        """End the connection: the session is over, and all was sent."""
        for stream in self._unfold_all():
            stream.lose(CLIENT_LEFT)
        self._drop_spare()
        self.connection.linger()
        # The connection and this object refer to each other, so they are freed late.
        self.session.close()

    def _unfold_all(self) -> list[Http2Stream]:
        """Make streams of all requests that are not answered; return all streams."""
        for stream in list(self._streams.values()):
            if isinstance(stream, WholeRequester) and stream.exchange is not None:
                stream.unfold()
        return [each for each in self._streams.values() if isinstance(each, Http2Stream)]

    def _drop_spare(self) -> None:
        self._spare_whole.clear()
        for stream in list(self._spare):
            stream.close()

    def on_lost(self, error: str) -> None:
        """Abandon the exchanges of all streams, which fail by `error`."""
        for stream in self._unfold_all():
            stream.transport.ended()
            stream.lose(error)
        self._streams.clear()
        self._drop_spare()
        self.session.close()

    # What the service asks -----------------------------------------------------------------------

    @property
    def state_name(self) -> str:
        """The name under which `reactor-run status` counts it."""
        return "idle" if self._is_idle else "http2"

    @property
    def idle_since(self) -> float:
        """When it became idle, in seconds of the loop's clock; inf if it is not idle."""
        return self._idle_since if self._is_idle else inf

    def shed(self) -> bool:
        """Close an idle connection unless something has arrived; return whether it was closed."""
        connection = self.connection
        if not self._is_idle or connection.unsent:
            return False
        try:
            if connection.transport.has_arrived:
                return False
        except OSError:
            return False
        self.session.end()
        connection.write(self.session.output(_OUTPUT))
        if self._is_open():
            self._drop_spare()
            connection.close()
            self.session.close()
        return True

    def shut(self, grace: float) -> None:
        """End after the requests in flight, in two steps (RFC 9113 §6.8): the service stops.

        `grace`: seconds for requests that may be on their way.
        """
        if not self._retiring:
            self._retire_connection(grace)

    def _retire_connection(self, grace: float) -> None:
        """Send the first GOAWAY. `grace`: seconds until the second one; 0: as few as possible."""
        self._retiring = True
        self.session.announce_end()
        self.connection.wait(max(grace, _LAST_REQUESTS))
        if not grace and not self._streams:
            self._stop_streams()
        self.stir()
