"""One HTTP exchange of an ASGI app (ASGI HTTP specification 2.5).

The response goes through the states of response.py.

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
from collections.abc import Awaitable
from math import inf
from time import monotonic
from typing import Any, Final

import anyio.lowlevel

from reactor_run.protocol.body import (
    PIECES_MAX,
    UNTIL_CLOSE,
    BodyReader,
    body_reader,
)
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.reactor.asgi.report import report_end, report_handled_error
from reactor_run.reactor.asgi.response import (
    COMPLETE,
    EXPECTED,
    IDLE,
    STARTED,
    STREAMING,
    Response,
)
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.links.lane import CONTINUE
from reactor_run.reactor.log import limited
from reactor_run.reactor.loop.hosted import FINISHED, Event, HostLoop

__all__ = ["HIGH_WATER", "LOW_WATER", "AsgiExchange", "Message"]

HIGH_WATER: Final = 262144
"""Bytes of an answer above which the reactor writes them at once. If more than this still waits
after the write, `send` waits too. One write of four pieces of 64 KiB costs less than four
writes."""
LOW_WATER: Final = 65536
"""Bytes of an answer at which a waiting `send` goes on. The distance to HIGH_WATER spares a large
answer most task switches."""
QUOTA_BYTES: Final = 1 << 20
"""Bytes that an exchange may move before other tasks get a turn."""
QUOTA_SECONDS: Final = 0.001
"""Seconds that an exchange may go on before other tasks get a turn."""

DRAIN_MAX: Final = 262144
"""Most bytes of an unread request body that are drained, so that its lane can carry the next
request. With more, the lane is given up."""


Message = dict[str, Any]


class AsgiExchange(Response):
    """One HTTP request that an ASGI app answers."""

    __slots__ = (
        "_body",
        "_fin",
        "_origin",
        "_payload",
        "_quota",
        "_scopes",
        "_sending",
        "_turn_ends",
        "_unread",
    )

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
        self._state = IDLE
        self._out = []
        self._out_size = 0
        self._on_wire = False
        self._streams = False
        self._receiving = None
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
        # This spares the StopIteration by which `send` tells that the app has ended.
        trap: object = next(coroutine.__await__(), FINISHED)
        if trap is not FINISHED:
            self.coroutine = coroutine
        return trap

    # What the app calls --------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next part of the request body. After its end, wait until the client is gone.

        Returns http.disconnect when the client is gone or the response is complete, even if a part
        of the body is unread (ASGI HTTP specification 2.5, "Disconnect - receive event").
        """
        while not (self.ended or self._state is COMPLETE):
            if self._unread:
                if len(self._payload) == self.head.body:
                    # The usual case: there is no body, or it came with the request as a whole.
                    body, self._payload = self._payload, b""
                    self._unread = False
                    return {"type": "http.request", "body": body, "more_body": False}
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
            if state is not STARTED and state is not STREAMING:
                state = self._state_for_body()
            body = message.get("body", b"")
            if type(body) is not bytes:
                # Subclasses are copied too: lanes are framed by len(), and a subclass may change
                # it.
                body = bytes(memoryview(body))
            more = message.get("more_body", False)
            lane = self.lane
            if lane is not None and lane.out.size > HIGH_WATER:
                await self._wait_for_room(lane)
                state = self._state_for_body()
            elif more and (self._quota <= 0 or monotonic() > self._turn_ends):
                await self._give_turn()
                state = self._state_for_body()
            # From here on nothing is awaited: a call that is cancelled has sent nothing.
            if state is not STARTED:
                self._append(body, more)
            elif more or self._trailers is not None:
                # Trailers need chunks.
                self._begin(None)
                self._append(body, more)
            else:
                self._take_whole(body)
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
            if state is not IDLE:
                raise RuntimeError(f"{kind} is out of order: {EXPECTED[state]}")
            self._status = message["status"]
            self._fields = message.get("headers", ())
            self._trailers = [] if message.get("trailers") else None
            self._state = STARTED
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

    async def _wait_for_room(self, lane: AppLink) -> None:
        """Wait until at most LOW_WATER bytes wait, or the exchange has ended (backpressure)."""
        while lane.out.size > LOW_WATER and not (self.gone or self.ended):
            if self._sending is None or self._sending.is_set():
                self._sending = self._new_event()
            await self._sending.wait()
        self._begin_turn()

    async def _give_turn(self) -> None:
        """Let other tasks run, unless this is the exchange's first turn, or it has just waited."""
        if self._turn_ends and not self._has_just_waited:
            # Reset before the wait: a call that is cancelled in it has given its turn too.
            self._quota = QUOTA_BYTES
            self._turn_ends = inf
            await anyio.lowlevel.checkpoint()
        self._begin_turn()

    @property
    def _has_just_waited(self) -> bool:
        """Whether the app's step is younger than a turn, so that other tasks ran before it. False
        in a task that the app started: the pulse shows only the steps of exchanges."""
        since = self.reactor.pulse.since[0]
        return self._quota > 0 and since > 0.0 and monotonic() - since < QUOTA_SECONDS

    def _begin_turn(self) -> None:
        self._quota = QUOTA_BYTES
        self._turn_ends = monotonic() + QUOTA_SECONDS

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
            if self._body is None and self._state in (IDLE, STARTED):
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
        if error is not None or self._state is not COMPLETE:
            report_end(
                self.name,
                error,
                self._gateway.runtime,
                left=self.gone or (self._fin and error is None),
                part="response",
                state=self._state.value,
            )
            if self._state is not COMPLETE and not self.gone:
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
    def relayed(self) -> bool:
        return self._origin.relayed

    def abandon(self) -> None:
        self._gateway.abandon(self)

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


async def _awaiting(running: Awaitable[None]) -> None:
    await running
