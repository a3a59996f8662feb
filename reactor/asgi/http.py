"""One HTTP exchange of an ASGI app (ASGI HTTP specification 2.5).

The response goes through these states. The table says what each message of the app does in each:

    state       http.response.start     http.response.body               the app returns or raises
    IDLE        -> STARTED              error                            500
    STARTED     error                   -> STREAMING, or COMPLETE        500: nothing was sent yet
    STREAMING   error                   -> STREAMING, or COMPLETE        the answer is aborted
    TRAILERS    error                   error                            the answer is aborted
    COMPLETE    error                   error                            no effect

http.response.pathsend is a complete body, and comes in the state STARTED only. The reactor reads a
small file at once. The link sends a larger one, also after the app has returned.

TRAILERS follows instead of COMPLETE if http.response.start has announced trailers. The message
http.response.trailers completes the response.

http.response.early_hint is sent at once in IDLE and STARTED. In STREAMING it comes too late and has
no effect. In COMPLETE it is an error.

The head waits for the first body message, as the specification asks. A whole answer of an express
exchange is sent as one message. The answer leaves in pieces, by a stream, in two cases: it is
larger than EXPRESS_MAX, or the app suspends before it is complete.

`send` waits while the kernel has not taken more than HIGH_WATER bytes: this is the backpressure. It
raises OSError once the client is gone. `receive` returns the body as it arrives. After the end of
the body it waits until the client is gone.

Both wait first. After they have taken a message or bytes of the body, they await nothing. So a call
that is cancelled has done nothing, and can be repeated.

The app's tasks may use both after the exchange has ended. When it ends, every waiter wakes. From
then on `receive` returns http.disconnect, `send` raises, and neither touches the lane, which may
carry another exchange.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Iterable
from enum import Enum
from math import inf
from time import monotonic
from typing import Any, Final

import anyio.lowlevel

from reactor_run.clock import date_field
from reactor_run.protocol.body import (
    CHUNK_TAIL,
    CHUNKED,
    LAST_CHUNK,
    PIECES_MAX,
    UNTIL_CLOSE,
    BodyReader,
    body_reader,
    chunk_head,
)
from reactor_run.protocol.express import EXPRESS_MAX
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.response import encode_early_hints, encode_response_head, encode_trailers
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.reactor.asgi.report import report_end, report_handled_error
from reactor_run.reactor.links.answer_file import AnswerFile, ShortFileError, open_file
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.links.lane import CONTINUE
from reactor_run.reactor.log import limited
from reactor_run.reactor.loop.hosted import FINISHED, Event, Hosted, HostLoop

__all__ = ["EXTENSIONS", "HIGH_WATER", "AsgiExchange"]

EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}
"""The extensions that each scope shows (ASGI documentation, "Extensions")."""

HIGH_WATER: Final = 262144
"""Bytes of an answer above which the reactor writes them at once. If more than this still waits
after the write, `send` waits too. One write of four pieces of 64 KiB costs less than four
writes."""
LOW_WATER: Final = 65536
"""Bytes of an answer at which a waiting `send` goes on. The distance to HIGH_WATER spares a large
answer most task switches."""
_OUT_PIECES_MAX: Final = 512
"""Most pieces of an answer that are kept apart. Many small pieces take more memory than their
bytes."""
QUOTA_BYTES: Final = 1 << 20
"""Bytes that an exchange may move before other tasks get a turn."""
QUOTA_SECONDS: Final = 0.001
"""Seconds that an exchange may go on before other tasks get a turn."""

DRAIN_MAX: Final = 262144
"""Most bytes of an unread request body that are drained, so that its lane can carry the next
request. With more, the lane is given up."""


class ResponseState(Enum):
    """The states of a response; see the table above. The values are texts for the log."""

    IDLE = "not started"
    STARTED = "not begun"
    STREAMING = "incomplete"
    TRAILERS = "without its trailers"
    COMPLETE = "complete"


_IDLE: Final = ResponseState.IDLE
_STARTED: Final = ResponseState.STARTED
_STREAMING: Final = ResponseState.STREAMING
_TRAILERS: Final = ResponseState.TRAILERS
_COMPLETE: Final = ResponseState.COMPLETE

Message = dict[str, Any]


class AsgiExchange(Hosted):
    """One HTTP request that an ASGI app answers."""

    __slots__ = (
        "_body",
        "_fields",
        "_fin",
        "_framing",
        "_gateway",
        "_lacking",
        "_on_wire",
        "_origin",
        "_out",
        "_out_size",
        "_payload",
        "_quota",
        "_receiving",
        "_scopes",
        "_sending",
        "_state",
        "_status",
        "_streams",
        "_trailers",
        "_turn_ends",
        "_unread",
    )

    _status: int
    """The status code of the app's http.response.start."""
    _fields: Iterable[tuple[bytes, bytes]]
    """The header fields of the app's http.response.start."""
    _trailers: list[tuple[bytes, bytes]] | None
    """The trailer fields so far; None: the app's http.response.start has announced none."""
    _framing: int
    """The length of the response body in bytes, or CHUNKED, or UNTIL_CLOSE. It is set when the head
    is encoded."""
    _lacking: int
    """Bytes that the app still has to send, if `_framing` is a length."""

    def __init__(
        self,
        scopes: ScopeBuilder,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: AppLink | None,
        payload: bytes,
    ) -> None:
        # The base class is not called: this runs once per request, and a call is measurable.
        self.reactor = gateway.reactor
        self.head = head
        self.express = express
        self.lane = lane
        self.gone = False
        self.ended = False
        self._scopes = scopes
        self._origin = origin
        self._gateway = gateway
        self._payload = payload
        """Bytes of the body that have arrived and are not decoded yet."""
        self._unread = True
        """The app has not received the end of the body."""
        self._body: BodyReader | None = None
        self._fin = False
        self._state: ResponseState = _IDLE
        self._out: list[bytes] = []
        self._out_size = 0
        """The exact number of bytes in `_out`. The express lane frames the answer by it."""
        self._on_wire = False
        """Bytes of the answer have been sent to the front end."""
        self._streams = False
        """They were sent in pieces, by `lane`."""
        self._receiving: Event | None = None
        self._sending: Event | None = None
        self._quota = QUOTA_BYTES
        self._turn_ends = 0.0

    def first_step(self) -> object:
        # It is built now, not when the request arrives. So the scopes of a batch do not exist all
        # at once, and each one reuses the memory of the one before.
        return self._call_app(self._scopes.build(self.head, self._origin))

    def _call_app(self, scope: dict[str, Any]) -> object:
        """Run the app until it ends or suspends, as `first_step` does."""
        coroutine = self._gateway.app(scope, self.receive, self.send)
        del scope
        if type(coroutine) is not types.CoroutineType:
            coroutine = _awaiting(coroutine)
        try:
            trap: object = coroutine.send(None)
        except StopIteration:
            return FINISHED
        self.coroutine = coroutine
        return trap

    # What the app calls --------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next part of the request body. After its end, wait until the client is gone.

        Returns http.disconnect when the client is gone or the response is complete, even if a part
        of the body is unread (ASGI HTTP specification 2.5, "Disconnect - receive event").
        """
        while not (self.ended or self._state is _COMPLETE):
            if self._unread:
                if self.head.body == 0:
                    self._unread = False
                    return {"type": "http.request", "body": b"", "more_body": False}
                lane = self.lane
                if not self._payload and (self._fin or self.gone or lane is None):
                    break
                if self._quota <= 0 or monotonic() > self._turn_ends:
                    await self._give_turn()
                    continue
                # From here on nothing is awaited: a call that is cancelled has taken nothing.
                data: bytes | None
                data, self._payload = self._payload, b""
                if not data and lane is not None:
                    data = self._read_lane(lane)
                if data:
                    if self._turn_ends == inf:
                        self._begin_turn()
                    message = self._decode(data)
                    if message is not None:
                        return message
                elif data is None and lane is not None and not self.gone:
                    await self._wait_for_body(lane)
                continue
            if self._fin or self.gone:
                break
            if self.lane is None:
                await self._wait_to_receive()
                continue
            data = self.lane.read()
            if data is None:
                await self._wait_to_receive()
            elif data:
                self._fault("bytes beyond a request")
            else:
                self._fin = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the response. Returns when there is room for more.

        Raises TypeError if the body is not a bytes-like object, RuntimeError if the message is out
        of order or breaks the app's own Content-Length, ResponseError if the head cannot be sent,
        and OSError once the client is gone, or if a file cannot be opened or read.
        """
        kind = message["type"]
        state = self._state
        if self.gone:
            raise OSError("the client is gone")
        if kind == "http.response.body":
            if state is not _STARTED and state is not _STREAMING:
                state = self._state_for_body()
            body = message.get("body", b"")
            if type(body) is not bytes:
                # Subclasses are copied too: lanes are framed by len(), and a subclass may change
                # it.
                body = bytes(memoryview(body))
            more = bool(message.get("more_body", False))
            lane = self.lane
            if lane is not None and lane.out.size > HIGH_WATER:
                await self._wait_for_room(lane)
                state = self._state_for_body()
            elif more and (self._quota <= 0 or monotonic() > self._turn_ends):
                await self._give_turn()
                state = self._state_for_body()
            # From here on nothing is awaited: a call that is cancelled has sent nothing.
            if state is _STARTED:
                # Trailers need chunks.
                self._begin(None if more or self._trailers is not None else len(body))
            self._append(body, more)
            lane = self.lane
            if self._out_size + (0 if lane is None else lane.out.size) > HIGH_WATER:
                self.write_out()
                # A stream gathers messages. After a later step of the app, nothing else sends them.
                self.reactor.flush_soon()
            elif self.suspended:
                # If the app has not suspended, the end of its first step sends the output.
                self.reactor.write_ready(self)
            if more:
                self._quota -= len(body)
                if self._turn_ends == inf:
                    self._begin_turn()
        elif kind == "http.response.start":
            if state is not _IDLE:
                raise RuntimeError(f"{kind} is out of order: {_EXPECTED[state]}")
            self._status = message["status"]
            self._fields = message.get("headers", ())
            self._trailers = [] if message.get("trailers") else None
            self._state = _STARTED
            if self._status >= 500:
                report_handled_error(self.name, self._status, self._gateway.runtime)
        elif kind == "http.response.pathsend":
            self._send_path(message["path"])
        elif kind == "http.response.early_hint":
            self._send_early_hints(message["links"])
        elif kind == "http.response.trailers":
            self._send_trailers(message.get("headers", ()), bool(message.get("more_trailers")))
        else:
            raise RuntimeError(f"an HTTP response has no message {kind!r}")

    # The response --------------------------------------------------------------------------------

    def _begin(self, length: int | None) -> None:
        """Encode the head. `length`: bytes of the whole body, if they are known."""
        head, self._framing = encode_response_head(
            self._status,
            self._fields,
            method=self.head.method,
            minor_version=self.head.minor_version,
            length=length,
            date_field=date_field(),
            own_fields=self._gateway.own_fields,
        )
        self._lacking = self._framing
        self._state = _STREAMING
        self._out.append(head)
        self._out_size = len(head)

    def _send_early_hints(self, links: Iterable[bytes]) -> None:
        """Send 103 Early Hints to a client of HTTP/1.1, unless the answer has begun."""
        if self._state is _COMPLETE:
            raise RuntimeError("http.response.early_hint is out of order: the response is complete")
        hints = encode_early_hints((b"link", link) for link in links)
        if not hints or self.head.minor_version == 0 or self._state not in (_IDLE, _STARTED):
            return
        lane = self._answer_lane()
        if lane is None:
            return
        try:
            lane.send_interim(hints)
        except OSError:
            self.on_gone()
            raise
        self.reactor.flush_soon()

    def _send_trailers(self, fields: Iterable[tuple[bytes, bytes]], more: bool) -> None:
        """Take trailer fields. Without `more`, they complete the response.

        They are sent at the end of a chunked body, to a client with `TE: trailers`.
        """
        if self._state is not _TRAILERS:
            raise RuntimeError(f"http.response.trailers is out of order: {_EXPECTED[self._state]}")
        assert self._trailers is not None
        trailers = [*self._trailers, *fields]
        end = encode_trailers(trailers)
        if more:
            self._trailers = trailers
            return
        if self._framing == CHUNKED:
            (codings,) = self.head.values((b"te",))
            if b"trailers" not in map(bytes.strip, codings.lower().split(b",")):
                end = LAST_CHUNK
            self._out.append(end)
            self._out_size += len(end)
        self._state = _COMPLETE
        if self._receiving is not None:
            self._receiving.set()
        if self.suspended:
            self.reactor.write_ready(self)

    def _send_path(self, path: str) -> None:
        """Send a file as the whole body, and complete the response.

        If the app's Content-Length is less than the size of the file, only so many bytes are sent:
        the file has grown. Raises as `send` does. Then nothing was sent.
        """
        if self._state is not _STARTED:
            raise RuntimeError(f"http.response.pathsend is out of order: {_EXPECTED[self._state]}")
        if self._trailers is not None:
            raise RuntimeError("a response with trailers cannot have an http.response.pathsend")
        file = open_file(path)
        try:
            self._begin(file.left)
            if file.left < self._framing:
                raise RuntimeError("the file is shorter than the response's Content-Length")
            file.end = self._framing
            large = file.left > EXPRESS_MAX
            body = b"" if large else file.read(EXPRESS_MAX)
            if not large and len(body) < file.left:
                raise ShortFileError
        except BaseException:
            file.close()
            # The app may still send another body.
            self._out, self._out_size = [], 0
            self._state = _STARTED
            raise
        if large:
            self._append_file(file)
        else:
            file.close()
            self._append(body, False)
            if self.suspended:
                self.reactor.write_ready(self)

    def _append_file(self, file: AnswerFile) -> None:
        """Give the head and the file to the link, as the whole response. The link closes the
        file."""
        self._lacking = 0
        self._state = _COMPLETE
        if self._receiving is not None:
            self._receiving.set()
        lane = self._answer_lane()
        if lane is None:
            file.close()
            return
        self._on_wire = self._streams = True
        lane.send_file(file)
        self.write_out()
        # A stream gathers messages. After a later step of the app, nothing else sends them.
        self.reactor.flush_soon()

    def _append(self, body: bytes, more: bool) -> None:
        """Frame a part of the body. Without `more`, it completes the response."""
        size = len(body)
        framing = self._framing
        if framing >= 0:
            if size > self._lacking:
                if self.head.method != b"HEAD" and self._status not in (204, 304):
                    raise RuntimeError("the response body is longer than its Content-Length")
                size = 0
            lacking = self._lacking - size
            if not more and lacking:
                raise RuntimeError("the response body is shorter than its Content-Length")
            self._lacking = lacking
            if size:
                self._out.append(body)
        elif framing == CHUNKED:
            if size:
                start = chunk_head(size)
                self._out += (start, body, CHUNK_TAIL)
                self._out_size += len(start) + len(CHUNK_TAIL)
            if not more and self._trailers is None:
                self._out.append(LAST_CHUNK)
                self._out_size += len(LAST_CHUNK)
        elif size:
            self._out.append(body)
        self._out_size += size
        if not more and self._trailers is not None:
            self._state = _TRAILERS
        elif not more:
            self._state = _COMPLETE
            if self._receiving is not None:
                self._receiving.set()
        elif len(self._out) > _OUT_PIECES_MAX:
            self._out = [b"".join(self._out)]

    def _state_for_body(self) -> ResponseState:
        """Return the state if a part of the body may come now. Otherwise raises as `send` does."""
        state = self._state
        if self.gone:
            raise OSError("the client is gone")
        if state is not _STARTED and state is not _STREAMING:
            raise RuntimeError(f"http.response.body is out of order: {_EXPECTED[state]}")
        return state

    async def _wait_for_room(self, lane: AppLink) -> None:
        """Wait until at most LOW_WATER bytes wait, or the exchange has ended (backpressure)."""
        while lane.out.size > LOW_WATER and not (self.gone or self.ended):
            if self._sending is None or self._sending.is_set():
                self._sending = self._new_event()
            await self._sending.wait()
        self._begin_turn()

    async def _give_turn(self) -> None:
        """Let other tasks run, unless this is the exchange's first turn."""
        if self._turn_ends:
            # Reset before the wait: a call that is cancelled in it has given its turn too.
            self._quota = QUOTA_BYTES
            self._turn_ends = inf
            await anyio.lowlevel.checkpoint()
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._quota = QUOTA_BYTES
        self._turn_ends = monotonic() + QUOTA_SECONDS

    def write_out(self) -> None:
        if self._out:
            out, self._out = self._out, []
            size, self._out_size = self._out_size, 0
            if self._fits_one_message(size):
                self._on_wire = True
                self._gateway.express.answer(self.express, out, size)
                return
            lane = self._answer_lane()
            if lane is None:
                return
            self._on_wire = self._streams = True
            try:
                lane.write(out)
            except OSError:
                self.on_gone()
                return
        if self._state is _COMPLETE and self._streams and self.lane is not None:
            try:
                self.lane.finish(until_close=self._framing == UNTIL_CLOSE)
            except OSError:
                self.on_gone()

    def _answer_lane(self) -> AppLink | None:
        """Return what carries an answer in pieces. None in a child that the app forked: then the
        client counts as gone."""
        if self.lane is None:
            self.lane = self._gateway.open_stream(self)
            if self.lane is None:
                self.on_gone()
        return self.lane

    def _fits_one_message(self, size: int) -> bool:
        """Whether the whole answer, of `size` bytes, can be one message of the express lane."""
        return (
            self.express != 0
            and not self._on_wire
            and self._state is _COMPLETE
            and size <= EXPRESS_MAX
            and self._framing != UNTIL_CLOSE
        )

    # What the client does ------------------------------------------------------------------------

    def _read_lane(self, lane: AppLink) -> bytes | None:
        """Read the next bytes of the body. Returns b"" after FIN, None if there are no bytes
        now."""
        self._continue(lane)
        data = lane.read()
        if data is not None:
            if not data:
                self._fin = True
            self._quota -= len(data)
        return data

    def _decode(self, data: bytes) -> Message | None:
        """Return a message with the bytes of the body in `data`, or None if it has none."""
        if self._body is None:
            self._body = body_reader(self.head.body)
        body = self._body
        parts: list[bytes] = []
        try:
            end = body.feed(data, 0, parts, PIECES_MAX)
        except Rejected as rejected:
            self._fault(f"a request body breaks its framing: {rejected}")
            return None
        if end < len(data):
            if body.complete:
                self._fault("bytes beyond a request")
            else:
                # `data` has many small chunks. Other tasks get a turn before the rest is decoded.
                self._payload = data[end:]
        self._unread = not body.complete
        if not parts and self._unread:
            return None
        return {
            "type": "http.request",
            "body": parts[0] if len(parts) == 1 else b"".join(parts),
            "more_body": self._unread,
        }

    def _continue(self, lane: AppLink) -> None:
        """Send 100 Continue if the client waits for it (RFC 9110 §10.1.1)."""
        if self.head.expect_continue:
            self.head.expect_continue = False
            if self._body is None and self._state in (_IDLE, _STARTED):
                try:
                    lane.send_interim(CONTINUE)
                except OSError:
                    self.on_gone()

    async def _wait_for_body(self, lane: AppLink) -> None:
        """Wait for more of the body. The front end is shown that the app waits for its client."""
        lane.wait_begins()
        try:
            await self._wait_to_receive()
        finally:
            if not self.ended:
                lane.wait_ends()

    async def _wait_to_receive(self) -> None:
        # Several tasks of an app may wait at once: one for the body, one for http.disconnect.
        if self._receiving is None or self._receiving.is_set():
            self._receiving = self._new_event()
        await self._receiving.wait()
        self._begin_turn()

    def _new_event(self) -> Event:
        loop = self.reactor
        assert isinstance(loop, HostLoop)
        return loop.new_event()

    def on_read_ready(self) -> None:
        if self._receiving is not None:
            self._receiving.set()

    def on_write_ready(self) -> None:
        if self._sending is not None and (self.lane is None or self.lane.out.size <= LOW_WATER):
            self._sending.set()

    def on_fin(self) -> None:
        if self.lane is None:
            # A lane or a stream tells it after the bytes that came before.
            self._fin = True
        self.on_read_ready()

    def on_gone(self) -> None:
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        """Wake all tasks that wait in `receive` or `send`."""
        if self._receiving is not None:
            self._receiving.set()
        if self._sending is not None:
            self._sending.set()

    def _fault(self, what: str) -> None:
        """Close the lane: the front end broke the framing of a request that it had accepted."""
        limited.error("%s: %s", self.name, what, kind=what)
        if self.lane is not None:
            self.lane.close()
        self.on_gone()

    # The end -------------------------------------------------------------------------------------

    def over(self, error: BaseException | None) -> None:
        if error is not None or self._state is not _COMPLETE:
            report_end(
                self.name,
                error,
                self._gateway.runtime,
                left=self.gone or (self._fin and error is None),
                part="response",
                state=self._state.value,
            )
            if self._state is not _COMPLETE and not self.gone:
                if self._on_wire:
                    self._gateway.abort(self)
                else:
                    self._fail()
        self.ended = True
        if not self.gone and self._fits_one_message(self._out_size):
            # The most frequent end by far: one message has the whole answer and the end of the app.
            self._gateway.express.over(self.express, self._out, self._out_size)
            if self.lane is not None:
                self._gateway.over(self, drained=False)
        else:
            if not self.gone:
                self.write_out()
            if self.express:
                self._gateway.express.done(self.express)
            # If the answer ends with its lane, the lane cannot carry another exchange.
            reusable = not self.gone and self._framing != UNTIL_CLOSE and self._drained()
            self._gateway.over(self, reusable)
        # The app may keep this exchange. Then it must keep neither the lane nor the bytes alive.
        self.lane = None
        self._payload = b""
        self._out = []
        if self._receiving is not None or self._sending is not None:
            self._wake()

    @property
    def secret(self) -> bool:
        """Whether the client speaks TLS to the front end, so that answers must be relayed."""
        return self._origin.tls is not None

    def abandon(self) -> None:
        self._gateway.abandon(self)

    def _fail(self) -> None:
        """Replace the answer by a 500. Call this only if nothing was sent."""
        text = b"Internal Server Error\n"
        self._status = 500
        self._fields = [(b"content-type", b"text/plain; charset=utf-8")]
        self._out = []
        self._begin(len(text))
        if self.head.method != b"HEAD":
            self._out.append(text)
            self._out_size += len(text)
        self._state = _COMPLETE

    def _drained(self) -> bool:
        """Read the rest of the request, up to DRAIN_MAX bytes. Return whether its end was reached,
        so that the lane may carry the next request."""
        if not self._unread or self.head.body == 0:
            return not self._payload
        if self.express or self.lane is None or self.lane.closed:
            # Nothing is drained from a stream: the front end drops the rest of the body.
            return False
        body = self._body or body_reader(self.head.body)
        data: bytes | None = self._payload
        try:
            while data is not None:
                if body.feed(data, 0, None, PIECES_MAX) < len(data):
                    return False
                if body.complete:
                    return True
                if body.received > DRAIN_MAX:
                    return False
                data = self.lane.read() or None
        except Rejected:
            pass
        return False


_EXPECTED: Final = {
    _IDLE: "http.response.start comes first",
    _STARTED: "http.response.body comes next",
    _STREAMING: "http.response.body comes next",
    _TRAILERS: "http.response.trailers comes next",
    _COMPLETE: "the response is complete",
}


async def _awaiting(running: Awaitable[None]) -> None:
    await running
