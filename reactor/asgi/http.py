"""ASGI over HTTP (ASGI HTTP specification 2.5): one exchange as an app's `receive` and `send`.

The response goes through four states, and each message is legal in some of them:

    state       http.response.start     http.response.body               the app returns or raises
    IDLE        -> STARTED              error                            500
    STARTED     error                   -> STREAMING, or COMPLETE        500: nothing was sent yet
    STREAMING   error                   -> STREAMING, or COMPLETE        the answer is cut
    COMPLETE    error                   error                            fine

The head waits for the first body message, as the specification asks. A whole answer of an express
exchange goes back in one message; one that outgrows EXPRESS_MAX, or that the app leaves unfinished
when it suspends, moves to a lane that this reactor opens.

`send` waits while the bytes that the kernel has not taken are more than HIGH_WATER: that is the
backpressure. It raises OSError once the client is gone. `receive` gives the body as it comes, then
waits for the client to leave.

Both wait first, and await nothing after they have taken a message or bytes of the body. So a call
that is cancelled has done nothing, and can be made again.

Both outlive the exchange in an app's tasks. When the exchange ends, every waiter wakes. From then
on `receive` returns http.disconnect, `send` raises, and neither touches the lane, which another
exchange may use.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Iterable
from enum import Enum
from math import inf
from time import monotonic
from typing import Any, Final

import anyio
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
from reactor_run.protocol.response import encode_response_head
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.pulse import BEGUN, WAITS
from reactor_run.reactor.links.exchange import AppLane
from reactor_run.reactor.links.gateway import SERVER_FIELD, Gateway
from reactor_run.reactor.log import cut_traceback, limited, place_of, runtime_hint
from reactor_run.reactor.loop.worker_loop import FINISHED, Hosted

__all__ = ["HIGH_WATER", "AsgiExchange"]


HIGH_WATER: Final = 262144
LOW_WATER: Final = 65536
"""Bytes of an answer that may wait here. Beyond the first they are written, if the app has not
suspended before, and if the kernel leaves more than that, `send` waits until there are no more than
the second. The kernel takes four pieces of 64 KiB in one call for less than one by one, and what
lies between spares a large answer most of its task switches."""
_OUT_PIECES_MAX: Final = 512
"""Pieces of an answer that are kept apart: many small ones take more memory than their bytes."""
QUOTA_BYTES: Final = 1 << 20
QUOTA_SECONDS: Final = 0.001
"""What an exchange may move, and for how long it may go on, before others get a turn."""

DRAIN_MAX: Final = 262144
"""Bytes of a body that the app left unread, up to which a lane is drained rather than given up."""


class ResponseState(Enum):
    """How far the app has come with its response; see above. The value is for the log."""

    IDLE = "not started"
    STARTED = "not begun"
    STREAMING = "incomplete"
    COMPLETE = "complete"


_IDLE: Final = ResponseState.IDLE
_STARTED: Final = ResponseState.STARTED
_STREAMING: Final = ResponseState.STREAMING
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
        "_out",
        "_out_size",
        "_payload",
        "_quota",
        "_receiving",
        "_sending",
        "_state",
        "_status",
        "_turn_ends",
        "_unread",
        "scope",
    )

    _status: int
    _fields: Iterable[tuple[bytes, bytes]]
    """What the app gave with its http.response.start."""
    _framing: int
    _lacking: int
    """Since the head is encoded: how the body is framed, and how many bytes it lacks by that."""

    def __init__(
        self,
        scopes: ScopeBuilder,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: AppLane | None,
        payload: bytes,
    ) -> None:
        # Not by way of the base class: this happens once per request, where a call is measurable.
        self.reactor = gateway.reactor
        self.head = head
        self.express = express
        self.lane = lane
        self.gone = False
        self.ended = False
        self.scope = scopes.build(head, origin)
        self._gateway = gateway
        self._payload = payload
        """Bytes after the head that came with it."""
        self._unread = True
        """The app has not been given the end of the body."""
        self._body: BodyReader | None = None
        self._fin = False
        self._state: ResponseState = _IDLE
        self._out: list[bytes] = []
        self._out_size = 0
        """Bytes of `_out`, exactly: the express lane's framing counts on it."""
        self._on_wire = False
        """Bytes of the answer have left for the front end."""
        self._receiving: anyio.Event | None = None
        self._sending: anyio.Event | None = None
        self._quota = QUOTA_BYTES
        self._turn_ends = 0.0

    def first_step(self) -> object:
        # What the app puts into its scope lives no longer than the app.
        scope = self.scope
        del self.scope
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
        """The next part of the request body; after its end, wait for the client to leave.

        http.disconnect when the client has left, and when the response is complete (ASGI HTTP
        specification 2.5, "Disconnect - receive event"), whatever the app has not read.
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
                    await self._wait_for_body(lane.slot)
                continue
            if self._fin or self.gone:
                break
            if self.lane is None or self.lane.opened_here:
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
        """One message of the response; returns when there was room for it.

        Raises TypeError for a body that is no bytes-like object, RuntimeError for a message out of
        order or one that breaks the app's own Content-Length, ResponseError for a head that cannot
        be sent, OSError once the client is gone.
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
                # Also of a subclass: its len() may be anything, and lanes are framed by it.
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
                head, self._framing = encode_response_head(
                    self._status,
                    self._fields,
                    method=self.head.method,
                    minor_version=self.head.minor_version,
                    length=None if more else len(body),
                    date_field=date_field(),
                    server_field=SERVER_FIELD,
                )
                self._lacking = self._framing
                self._state = _STREAMING
                self._out.append(head)
                self._out_size = len(head)
            self._append(body, more)
            lane = self.lane
            if self._out_size + (0 if lane is None else lane.out.size) > HIGH_WATER:
                self.write_out()
            else:
                worker = self.worker
                if worker is None or worker.suspended:
                    # Else the app has not suspended: the end of its first step sends what there is.
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
            self._state = _STARTED
        else:
            raise RuntimeError(f"an HTTP response has no message {kind!r}")

    # The response --------------------------------------------------------------------------------

    def _append(self, body: bytes, more: bool) -> None:
        """Frame a part of the body, and take its last part as the end of the response."""
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
            if not more:
                self._out.append(LAST_CHUNK)
                self._out_size += len(LAST_CHUNK)
        elif size:
            self._out.append(body)
        self._out_size += size
        if not more:
            self._state = _COMPLETE
            if self._receiving is not None:
                self._receiving.set()
        elif len(self._out) > _OUT_PIECES_MAX:
            self._out = [b"".join(self._out)]

    def _state_for_body(self) -> ResponseState:
        """The state, if a part of the body may come now. Raises what `send` does, if not."""
        state = self._state
        if self.gone:
            raise OSError("the client is gone")
        if state is not _STARTED and state is not _STREAMING:
            raise RuntimeError(f"http.response.body is out of order: {_EXPECTED[state]}")
        return state

    async def _wait_for_room(self, lane: AppLane) -> None:
        """Backpressure: wait until the kernel has taken enough, or until the answer has ended."""
        while lane.out.size > LOW_WATER and not (self.gone or self.ended):
            if self._sending is None or self._sending.is_set():
                self._sending = anyio.Event()
            await self._sending.wait()
        self._begin_turn()

    async def _give_turn(self) -> None:
        """Let others run, unless the exchange begins only now."""
        if self._turn_ends:
            # Also a call that is cancelled here has given its turn: the next one must get on.
            self._quota = QUOTA_BYTES
            self._turn_ends = inf
            await anyio.lowlevel.checkpoint()
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._quota = QUOTA_BYTES
        self._turn_ends = monotonic() + QUOTA_SECONDS

    def write_out(self) -> None:
        if self.lane is None:
            if (
                self._state is _COMPLETE
                and self._out_size <= EXPRESS_MAX
                and self._framing != UNTIL_CLOSE
            ):
                if not self._on_wire:
                    self._on_wire = True
                    self._gateway.express.answer(self.express, self._out, self._out_size)
                return
            if not self._out:
                return
            self.lane = self._gateway.open_lane(self)
            if self.lane is None:
                self.on_gone()
                return
        if self._out:
            out, self._out = self._out, []
            self._out_size = 0
            self._on_wire = True
            try:
                self.lane.write(out)
            except OSError:
                self.on_gone()
                return
        if self._state is _COMPLETE and self._framing == UNTIL_CLOSE:
            self.lane.half_close()

    # What the client does ------------------------------------------------------------------------

    def _read_lane(self, lane: AppLane) -> bytes | None:
        """The next bytes of the body; b"" at the end of the lane, None when there are none now."""
        self._continue(lane)
        data = lane.read()
        if data is not None:
            if not data:
                self._fin = True
            self._quota -= len(data)
        return data

    def _decode(self, data: bytes) -> Message | None:
        """A message with what `data` has of the body; None if that is nothing yet."""
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
                # Many small chunks: others have a turn before the app gets the rest.
                self._payload = data[end:]
        self._unread = not body.complete
        if not parts and self._unread:
            return None
        return {
            "type": "http.request",
            "body": parts[0] if len(parts) == 1 else b"".join(parts),
            "more_body": self._unread,
        }

    def _continue(self, lane: AppLane) -> None:
        """RFC 9110 §10.1.1: the app asks for a body of which no byte has come."""
        if self.head.expect_continue:
            self.head.expect_continue = False
            if self._body is None and self._state in (_IDLE, _STARTED):
                try:
                    lane.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
                except OSError:
                    self.on_gone()

    async def _wait_for_body(self, slot: int) -> None:
        """Wait for more of the body, and show the front end that the app does."""
        marks = self.reactor.pulse.lanes
        marks[slot] = WAITS
        try:
            await self._wait_to_receive()
        finally:
            if not self.ended:
                marks[slot] = BEGUN

    async def _wait_to_receive(self) -> None:
        # Several tasks of an app may wait at once: one for the body, one for the client to leave.
        if self._receiving is None or self._receiving.is_set():
            self._receiving = anyio.Event()
        await self._receiving.wait()
        self._begin_turn()

    def on_read_ready(self) -> None:
        if self._receiving is not None:
            self._receiving.set()

    def on_write_ready(self) -> None:
        if self._sending is not None and (self.lane is None or self.lane.out.size <= LOW_WATER):
            self._sending.set()

    def on_fin(self) -> None:
        self._fin = True
        self.on_read_ready()

    def on_gone(self) -> None:
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        """Wake all that wait in `receive` and `send`, to see what has changed."""
        if self._receiving is not None:
            self._receiving.set()
        if self._sending is not None:
            self._sending.set()

    def _fault(self, what: str) -> None:
        """The front end broke the framing that it had accepted itself: its lane is worthless."""
        limited.error("%s: %s", self.name, what, kind=what)
        if self.lane is not None:
            self.lane.close()
        self.on_gone()

    # The end -------------------------------------------------------------------------------------

    def over(self, error: BaseException | None) -> None:
        if error is not None or self._state is not _COMPLETE:
            self._report(error)
            if self._state is not _COMPLETE and not self.gone:
                if self._on_wire:
                    self._gateway.cut(self)
                else:
                    self._fail()
        self.ended = True
        if (
            self.lane is None
            and not self._on_wire
            and not self.gone
            and self._out_size <= EXPRESS_MAX
            and self._framing != UNTIL_CLOSE
        ):
            # By far the most frequent end: the whole answer and the end of the app in one message.
            self._gateway.express.over(self.express, self._out, self._out_size)
        else:
            if not self.gone:
                self.write_out()
            if self.express:
                self._gateway.express.done(self.express)
            # An answer that ended with its lane leaves nothing for another.
            reusable = not self.gone and self._framing != UNTIL_CLOSE and self._drained()
            self._gateway.over(self, reusable)
        # What the app has kept of the exchange is dead, and keeps nothing else.
        self.lane = None
        self._payload = b""
        self._out = []
        if self._receiving is not None or self._sending is not None:
            self._wake()

    def abandon(self) -> None:
        self._gateway.abandon(self)

    def _report(self, error: BaseException | None) -> None:
        """Tell the log how the app ended. From now on nothing may be used that the app can change:
        not the scope, and of its error only the type."""
        kind = type(error)
        left = self.gone or (self._fin and error is None)
        if left and (error is None or issubclass(kind, OSError)):
            limited.debug("%s: the client left before the response was complete", self.name)
        elif error is None:
            state = self._state.value
            limited.error("%s: the app returned with its response %s", self.name, state)
        elif _is_cancellation(error):
            limited.info("%s: cancelled", self.name)
        else:
            hint = runtime_hint(error, self._gateway.runtime)
            advice = f" ({hint})" if hint else ""
            limited.error(
                "%s: the app failed%s\n%s",
                self.name,
                advice,
                cut_traceback(error),
                kind=place_of(error),
            )

    def _fail(self) -> None:
        """Nothing was sent: the client can be told."""
        text = b"Internal Server Error\n"
        head, self._framing = encode_response_head(
            500,
            [(b"content-type", b"text/plain; charset=utf-8")],
            method=self.head.method,
            minor_version=self.head.minor_version,
            length=len(text),
            date_field=date_field(),
            server_field=SERVER_FIELD,
        )
        self._out = [head] if self.head.method == b"HEAD" else [head, text]
        self._out_size = sum(map(len, self._out))
        self._state = _COMPLETE

    def _drained(self) -> bool:
        """Whether the lane stands at the end of the request, so that it may carry another."""
        if not self._unread or self.head.body == 0:
            return not self._payload
        if self.lane is None or self.lane.opened_here or self.lane.closed:
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
    _COMPLETE: "the response is complete",
}


def _is_cancellation(error: BaseException) -> bool:
    """Whether it is that alone, be it of several of the app's tasks."""
    cancelled = anyio.get_cancelled_exc_class()
    if issubclass(type(error), BaseExceptionGroup):
        group: Any = error
        try:
            return BaseExceptionGroup.split(group, cancelled)[1] is None
        except BaseException:  # the app's `derive` failed
            return False
    return issubclass(type(error), cancelled)


async def _awaiting(running: Awaitable[None]) -> None:
    await running
