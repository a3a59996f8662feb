"""One WebSocket of an ASGI app (ASGI WebSocket specification 2.5).

It begins as an HTTP exchange: a request whose answer decides what becomes of it. So its class
inherits from that of HTTP exchanges, and answers in HTTP until the app has accepted.

    state        accept        http.response.*   send         close        the app returns or raises
    CONNECTING   -> OPEN       the answer        error        403          500
    OPEN         error         error             sent         -> CLOSED    closed with 1000 or 1011
    CLOSED       error         error             error        error        no effect

Once the client is gone, `send` raises OSError, and `receive` returns websocket.disconnect. A
`websocket.close` has no effect then. `send` and `close` do the same once the service has closed the
WebSocket: the app has made no mistake.

`send` waits while more than HIGH_WATER bytes wait for the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio.lowlevel

from reactor_run.clock import date_field
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.protocol.websocket.handshake import (
    Handshake,
    HandshakeError,
    encode_accept,
    read_handshake,
)
from reactor_run.protocol.websocket.summary import Summary
from reactor_run.reactor.asgi.http import HIGH_WATER, AsgiExchange, Message
from reactor_run.reactor.asgi.open_websocket import OpenWebSocket
from reactor_run.reactor.asgi.report import is_cancellation, report_end
from reactor_run.reactor.asgi.response import ResponseState
from reactor_run.reactor.asgi.websockets import WebSockets
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.loop.hosted import FINISHED

__all__ = ["WebSocketExchange"]

_MESSAGES_MAX: Final = 16
"""Messages that an app may receive and send before other tasks get a turn."""


_NO_CODE: Final = 1005


class WebSocketExchange(AsgiExchange):
    """A handshake, and the WebSocket that it may become."""

    __slots__ = (
        "_closed",
        "_connect_told",
        "_early",
        "_handshake",
        "_turns",
        "_websocket",
        "_websockets",
    )

    _handshake: Handshake

    def __init__(
        self,
        websockets: WebSockets,
        scopes: ScopeBuilder,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: AppLink | None,
        payload: bytes,
    ) -> None:
        super().__init__(scopes, gateway, head, origin, express, lane, payload)
        self._websockets = websockets
        self._websocket: OpenWebSocket | None = None
        """Set once the app has accepted."""
        self._closed = False
        """The app has closed it."""
        self._connect_told = False
        self._early = b""
        """Bytes of the client that were read before the app had accepted."""
        self._turns = _MESSAGES_MAX
        """Messages that are left of the present turn."""

    def first_step(self) -> object:
        try:
            self._handshake = read_handshake(self.head)
        except HandshakeError as error:
            self._answer_here(error.status, error.reason, error.fields)
            return FINISHED
        if self._websockets.full:
            self._answer_here(503, "too many WebSockets", [(b"retry-after", b"5")])
            return FINISHED
        subprotocols = self._handshake.subprotocols.copy()
        return self._call_app(self._scopes.build_websocket(self.head, self._origin, subprotocols))

    def _answer_here(self, status: int, text: str, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer in place of the app."""
        body = text.encode() + b"\n"
        self._trailers = None
        self._status = status
        self._fields = [(b"content-type", b"text/plain; charset=utf-8"), *fields]
        self._begin(len(body))
        self._append(body, False)

    # What the app calls --------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next message of the client, or websocket.disconnect."""
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        while not self.ended:
            websocket = self._websocket
            if websocket is not None:
                if websocket.codec.messages:
                    if self._turns <= 0:
                        await self._give_message_turn()
                        continue
                    self._turns -= 1
                    message = websocket.take()
                    if type(message) is str:
                        return {"type": "websocket.receive", "text": message}
                    return {"type": "websocket.receive", "bytes": message}
                if websocket.disconnect is not None:
                    code, reason = websocket.disconnect
                    return {"type": "websocket.disconnect", "code": code, "reason": reason}
            elif self.gone or self._fin or self._state is not ResponseState.IDLE:
                break
            elif self.lane is not None:
                data = self.lane.read()
                if data is not None:
                    self._early += data
                    self._fin = not data
                    continue
            if self._receiving is None or self._receiving.is_set():
                self._receiving = self._new_event()
            await self._receiving.wait()
            self._turns = _MESSAGES_MAX
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def _give_message_turn(self) -> None:
        # Set before the wait: a call that is cancelled in it has given its turn too.
        self._turns = _MESSAGES_MAX
        await anyio.lowlevel.checkpoint()

    async def send(self, message: Message) -> None:
        """Take one message of the app. Returns when there is room for more.

        Raises RuntimeError if the message is out of order, TypeError and ValueError if it is wrong,
        and OSError once the client is gone.
        """
        kind = message["type"]
        websocket = self._websocket
        if kind == "websocket.send":
            if websocket is None:
                raise RuntimeError(f"{kind} is out of order: websocket.accept comes first")
            lane = self.lane
            if self._turns <= 0 or lane is None or lane.out.size > HIGH_WATER:
                await self._wait_to_send(websocket)
            # From here on nothing is awaited: a call that is cancelled has sent nothing.
            self._send_message(websocket, message)
        elif kind == "websocket.close":
            if websocket is None:
                await self._refuse()
            elif self._closed and not websocket.ended:
                raise RuntimeError(f"{kind} is out of order: the WebSocket is closed")
            else:
                code = message.get("code") or 1000
                if code == _NO_CODE:
                    raise ValueError("1005 stands for a close frame without a code")
                websocket.close(code, message.get("reason") or "")
                self._closed = True
        elif websocket is not None:
            raise RuntimeError(f"{kind} is out of order: the WebSocket is accepted")
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            await super().send({**message, "type": kind.removeprefix("websocket.")})
        else:
            raise RuntimeError(f"a WebSocket has no message {kind!r}")

    async def _wait_to_send(self, websocket: OpenWebSocket) -> None:
        """Wait until there is room for more, and let other tasks run."""
        while (lane := self.lane) is not None and lane.out.size > HIGH_WATER:
            if websocket.ended or websocket.codec.close_sent:
                return
            await self._wait_for_room(lane)
        if self._turns <= 0:
            await self._give_message_turn()

    def _send_message(self, websocket: OpenWebSocket, message: Message) -> None:
        if self.gone or websocket.ended or self.ended:
            raise OSError("the client is gone")
        if self._closed:
            raise RuntimeError("websocket.send is out of order: the WebSocket is closed")
        if websocket.codec.close_sent:
            raise OSError("the service has closed the WebSocket")
        data: str | bytes | None = message.get("text")
        if data is None:
            data = message.get("bytes")
            if data is None:
                raise ValueError("websocket.send has neither text nor bytes")
            if type(data) is not bytes:
                data = bytes(memoryview(data))
        elif not isinstance(data, str):
            raise TypeError(f"the text of websocket.send is {type(data).__name__}, not str")
        self._turns -= 1
        try:
            websocket.send(data)
        except OSError:
            self.on_gone()
            raise

    def _accept(self, message: Message) -> None:
        if self.gone:
            raise OSError("the client is gone")
        if self._state is not ResponseState.IDLE:
            raise RuntimeError("websocket.accept is out of order: the handshake was answered")
        deflate = self._websockets.negotiate(self._handshake)
        head = encode_accept(
            self._handshake,
            subprotocol=message.get("subprotocol") or None,
            fields=message.get("headers") or (),
            deflate=deflate,
            date_field=date_field(),
            own_fields=self._gateway.own_fields,
        )
        lane = self._answer_lane()
        if lane is None:
            raise OSError("the client is gone")
        self._on_wire = True
        try:
            lane.switch_protocols(head)
        except OSError:
            self.on_gone()
            raise
        # A WebSocket may last for days. What only the handshake needs goes.
        del self._handshake
        self._websocket = websocket = self._websockets.open(self, lane, deflate)
        self.reactor.flush_soon()
        early, self._early = self._early, b""
        websocket.begin(early)

    async def _refuse(self) -> None:
        """Answer 403: the app has closed the WebSocket before it has accepted."""
        fields = [(b"content-type", b"text/plain; charset=utf-8")]
        await super().send({"type": "http.response.start", "status": 403, "headers": fields})
        await super().send({"type": "http.response.body", "body": b"Forbidden\n"})

    # What the client does ------------------------------------------------------------------------

    def on_message(self) -> None:
        if self._receiving is not None:
            self._receiving.set()
        if self._websocket is not None and self._websocket.ended and self._sending is not None:
            self._sending.set()

    def on_read_ready(self) -> None:
        if self._websocket is not None:
            self._websocket.pull()
        else:
            super().on_read_ready()

    def on_write_ready(self) -> None:
        if self._websocket is not None:
            self._websocket.pull()
        super().on_write_ready()

    def on_fin(self) -> None:
        if self._websocket is None:
            super().on_fin()

    def on_gone(self) -> None:
        super().on_gone()
        if self._websocket is not None:
            self._websocket.lost()

    # The end -------------------------------------------------------------------------------------

    def over(self, error: BaseException | None) -> None:
        websocket = self._websocket
        if websocket is None:
            super().over(error)
            return
        cancelled = error is not None and is_cancellation(error)
        if error is not None:
            report_end(
                self.name,
                error,
                self._gateway.runtime,
                left=self.gone
                or websocket.ended
                or (websocket.codec.close_sent and not self._closed),
                part="WebSocket",
                state="open",
            )
        self.ended = True
        if cancelled:
            websocket.close_now(self._websockets.leave_code)
        else:
            websocket.close(1000 if error is None else 1011)
        websocket.app_ended()
        self._wake()

    def on_websocket_over(self, summary: Summary) -> None:
        self._gateway.websocket_over(self, summary)
        self.lane = None

    def abandon(self) -> None:
        if self._websocket is not None:
            self._websocket.lost()
        super().abandon()
