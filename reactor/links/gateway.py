"""The gateway between the lanes of a reactor and its app.

It makes an exchange of each request that comes in, and tells the front end when the exchange has
ended. There is one gateway in a reactor. It owns the table that finds a plain lane by its number.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from reactor_run.channel import ControlChannel
from reactor_run.protocol.control_messages import LanesDone, ToReactor
from reactor_run.protocol.express import EXPRESS_MAX, PIECE_MAX, FrameError
from reactor_run.protocol.origin import NOWHERE, Origin, read_origin
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.proxy import decode_v1, decode_v2
from reactor_run.protocol.request import RequestHead, read_relayed_head
from reactor_run.protocol.websocket.handshake import wants_websocket
from reactor_run.protocol.websocket.summary import Summary
from reactor_run.pulse import NOT_BEGUN
from reactor_run.reactor import fork
from reactor_run.reactor.links.client_sockets import ClientSockets
from reactor_run.reactor.links.exchange import AppExchange, AppLane
from reactor_run.reactor.links.express import ExpressPort
from reactor_run.reactor.links.lane import LaneEnd
from reactor_run.reactor.links.stream import StreamEnd
from reactor_run.reactor.log import limited, log
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

__all__ = ["Gateway", "MakeExchange", "OpenStream"]


MakeExchange = Callable[["Gateway", RequestHead, Origin, int, Any, bytes], AppExchange]
Admit = Callable[[Any], None]


class OpenStream(Protocol):
    """Makes a stream of the class that the exchanges of an interface use."""

    def __call__(
        self,
        loop: ReactorLoop,
        port: ExpressPort,
        number: int,
        exchange: AppExchange | None,
        /,
        *,
        asks: bool,
    ) -> StreamEnd: ...


_ORIGINS_MAX: Final = 4096
_ORIGIN_SIZE: Final = 256
"""Bytes of a PROXY header beyond which it is a long one: it holds certificates."""
_LONG_ORIGINS_MAX: Final = 256


class Gateway:
    """Connects the exchanges of one reactor with its lanes, its app and the front end."""

    express: ExpressPort
    """The express lane. It is set when the front end opens it."""

    def __init__(
        self,
        reactor: ReactorLoop,
        control: ControlChannel[ToReactor],
        app: Callable[..., Any],
        make_exchange: MakeExchange,
        admit: Admit,
        *,
        runtime: str,
        lane_proxy: str,
        direct: bool,
        open_stream: OpenStream,
        own_fields: OwnFields,
    ) -> None:
        """`direct`: ask to write large answers to the clients' sockets. `open_stream`: makes the
        streams of express exchanges."""
        self.reactor = reactor
        self.control = control
        self.app = app
        self.runtime = runtime
        self.own_fields = own_fields
        """What each answer has beside the app's own fields."""
        self._make_exchange = make_exchange
        self._decode = {"v1": decode_v1, "v2": decode_v2, "off": None}[lane_proxy]
        self._admit = admit
        self._origins: dict[bytes, Origin] = {}
        """The decoded PROXY headers that were seen lately, by their bytes."""
        self._long_origins: dict[bytes, Origin] = {}
        """The same of long headers. Few are kept, since they take memory."""
        self._direct = direct
        self._make_stream = open_stream
        self._lanes: weakref.WeakValueDictionary[int, AppLane] = weakref.WeakValueDictionary()
        """The plain lanes, by number."""
        self.lock = threading.RLock()
        """A thread holds this lock while it ends a WSGI exchange or takes a link for an answer."""
        self._done: list[int] = []
        """Numbers of lanes that may carry the next request. The next flush sends them."""
        self._drop: list[int] = []
        """Numbers of lanes that carry no further request. The next flush sends them."""
        self._websockets: list[tuple[int, Summary]] = []
        """Summaries of WebSockets on lanes in `_drop`, by the number of the lane."""
        self.make_websocket: MakeExchange | None = None
        """Makes the exchanges of WebSocket handshakes; None: the app does not speak it."""
        self._upgrade_logged = False
        """A request for another protocol was answered in HTTP/1.1, and the log tells of it."""
        self._withdrawn: list[int] = []
        """Numbers of lanes whose request was given back. The next flush sends them."""
        reactor.after_batch(self._tell_done)

    # Requests in -------------------------------------------------------------------------------

    def adopt_express(
        self, sock: socket.socket, clients: ClientSockets, on_end: Callable[[], None]
    ) -> None:
        """Serve the express lane on `sock`. `clients`: those to which the reactor may write.
        `on_end` is called when the front end has closed the lane."""
        self.express = ExpressPort(
            self.reactor, sock, clients, self._on_express, on_end, self._open_rest
        )

    def adopt_lane(self, sock: socket.socket, number: int, slot: int) -> None:
        """Serve a plain lane. Byte `slot` of the pulse shows whether its exchange has begun."""
        self._lanes[number] = LaneEnd(
            self.reactor,
            sock,
            number,
            slot,
            on_request=self._on_lane,
            on_close=self._on_lost,
        )

    def cancel(self, number: int) -> None:
        """Cancel the app of the exchange on a plain lane."""
        lane = self._lanes.get(number)
        if lane is not None and lane.exchange is not None:
            self.reactor.cancel(lane.exchange)

    def withdraw(self, number: int) -> None:
        """Give back the request on a plain lane, if it has not begun.

        The lane is closed then. If the exchange has begun, nothing happens.
        """
        lane = self._lanes.get(number)
        if lane is None or lane.closed or self.reactor.pulse.lanes[lane.slot] != NOT_BEGUN:
            return
        exchange = lane.exchange
        if exchange is not None:
            if not exchange.take_out():
                return
            exchange.ended = True
            lane.exchange = None
        # If there is no exchange, the request was not read yet, or only a part of it.
        lane.give_up()
        lane.close()
        self._withdrawn.append(number)

    def _on_express(self, number: int, prefix: bytes, payload: bytes) -> AppExchange:
        origin = self._origins.get(prefix)
        if origin is None:
            origin = self._read_origin(prefix)
        head = read_relayed_head(payload)
        if head is None:
            raise FrameError("what came on the express lane is not one request")
        size = len(payload) - head.size
        body = payload[head.size :] if size else b""
        make = self._maker_for_upgrade(head) if head.upgrade else self._make_exchange
        if size == head.body:
            # By far the most frequent case: the request is here as a whole.
            exchange = make(self, head, origin, number, None, body)
        elif 0 <= head.body < size:
            raise FrameError("what came on the express lane is more than one request")
        else:
            stream = self._open_stream(head, number, None, relayed=origin.relayed)
            stream.exchange = exchange = make(self, head, origin, number, stream, body)
        self._admit(exchange)
        return exchange

    def _maker_for_upgrade(self, head: RequestHead) -> MakeExchange:
        """Return what makes the exchange of a request that asks for another protocol.

        Only WebSocket is spoken. Any other request is answered as if it did not ask (RFC 9110
        §7.8).
        """
        websocket = wants_websocket(head)
        if websocket and self.make_websocket is not None:
            return self.make_websocket
        if not self._upgrade_logged:
            self._upgrade_logged = True
            (protocol,) = head.values((b"upgrade",))
            why = "a WSGI app cannot speak WebSocket" if websocket else "only websocket is spoken"
            log.info(
                "a client asks to upgrade to %s, and is answered in HTTP/1.1: %s (logged once)",
                protocol.decode("latin-1").encode("unicode_escape").decode()[:40],
                why,
            )
        return self._make_exchange

    def _open_stream(
        self, head: RequestHead, number: int, exchange: AppExchange | None, *, relayed: bool
    ) -> StreamEnd:
        """`relayed`: only the front end can write to the client."""
        asks = self._may_ask(head, relayed=relayed)
        return self._make_stream(self.reactor, self.express, number, exchange, asks=asks)

    def _open_rest(self, number: int) -> StreamEnd:
        """Return a stream for the rest of an answer that was begun without one."""
        return self._make_stream(self.reactor, self.express, number, None, asks=True)

    def _may_ask(self, head: RequestHead, *, relayed: bool) -> bool:
        """Return whether to ask to write the answer to the client's socket."""
        return self._direct and head.minor_version == 1 and head.keep_alive and not relayed

    def whole_max(self, exchange: AppExchange) -> int:
        """Return the most bytes of a whole answer that goes as one message.

        One that is relayed anyway costs least so. Others are better written directly.
        """
        asks = self._may_ask(exchange.head, relayed=exchange.relayed)
        return EXPRESS_MAX if asks else PIECE_MAX

    def goes_whole(self, exchange: AppExchange, size: int) -> bool:
        """Return whether a whole answer of `size` bytes goes as one message, or in one write."""
        return self.express.is_offered(exchange.express) or size <= self.whole_max(exchange)

    def _read_origin(self, prefix: bytes) -> Origin:
        """Decode a frame's prefix. It is mostly the same for all requests of a connection."""
        if (known := self._long_origins.get(prefix)) is not None:
            return known
        header = bytearray(prefix)
        header[14:16] = (len(prefix) - 16).to_bytes(2, "big")
        decoded = decode_v2(bytes(header))
        assert decoded is not None
        origin = read_origin(decoded)
        self._remember(prefix, origin)
        return origin

    def _remember(self, header: bytes, origin: Origin) -> None:
        long = len(header) > _ORIGIN_SIZE
        origins = self._long_origins if long else self._origins
        if len(origins) >= (_LONG_ORIGINS_MAX if long else _ORIGINS_MAX):
            origins.clear()
        origins[header] = origin

    def _on_lane(self, lane: AppLane) -> None:
        """Read a lane without an exchange: its next request, or a part of it."""
        data = lane.read()
        if data is None:
            return
        if not data:
            lane.end()
            return
        seen = len(lane.partial)
        data = lane.partial + data
        origin = NOWHERE
        start = 0
        try:
            if self._decode is not None:
                # All exchanges of one client connection have the same PROXY header.
                start = 16 + int.from_bytes(data[14:16], "big")
                known = self._origins.get(data[:start]) or self._long_origins.get(data[:start])
                if known is not None:
                    origin = known
                else:
                    header = self._decode(data)
                    if header is None:
                        self._await_rest(lane, data)
                        return
                    start = header.size
                    origin = read_origin(header)
                    if self._decode is decode_v2:
                        self._remember(data[:start], origin)
            request = data[start:] if start else data
            head = read_relayed_head(request, max(0, seen - start))
        except Rejected as rejected:
            limited.error("lane %d: closed, invalid request: %s", lane.number, rejected)
            lane.close()
            return
        if head is None:
            self._await_rest(lane, data)
            return
        lane.partial = b""
        payload = request[head.size :]
        if 0 <= head.body < len(payload):
            limited.error("lane %d: closed, bytes beyond a request", lane.number)
            lane.close()
            return
        make = self._maker_for_upgrade(head) if head.upgrade else self._make_exchange
        exchange = make(self, head, origin, 0, lane, payload)
        lane.exchange = exchange
        self._admit(exchange)

    def _on_lost(self, lane: AppLane) -> None:
        """Report a lane that ended without an exchange.

        The front end may have sent a request that was not read as a whole. It waits for this
        report.
        """
        if lane.exchange is None:
            self._drop.append(lane.number)

    def _await_rest(self, lane: AppLane, data: bytes) -> None:
        lane.partial = data
        if lane.readable:
            # No further event reports bytes that are already there.
            self._on_lane(lane)

    # Answers out -------------------------------------------------------------------------------

    def open_stream(self, exchange: AppExchange) -> StreamEnd | None:
        """Return a stream for the answer of an express exchange. Thread-safe.

        Returns None in a child that the app forked.
        """
        if fork.is_child:
            return None
        return self._open_stream(
            exchange.head, exchange.express, exchange, relayed=exchange.relayed
        )

    def abort(self, exchange: AppExchange) -> None:
        """Abort an answer, so that the client can see that it is incomplete."""
        if exchange.lane is not None:
            exchange.lane.close()
        exchange.gone = True

    # The end of an exchange ----------------------------------------------------------------------

    def over(self, exchange: AppExchange, drained: bool) -> None:
        """Release the lane or the stream of an exchange whose app has ended.

        `drained`: the whole request was read from the lane. Then the lane may carry the next
        request, unless more bytes or the client's FIN came after it.
        """
        lane = exchange.lane
        if lane is None:
            return
        if isinstance(lane, StreamEnd):
            lane.release()
            return
        lane.exchange = None
        if (
            drained
            and not lane.closed
            and not exchange.gone
            and (not lane.readable or lane.read() is None)
        ):
            self._done.append(lane.number)
        else:
            self._drop.append(lane.number)
            lane.give_up()
            if exchange.gone:
                lane.close()

    def websocket_over(self, exchange: AppExchange, summary: Summary) -> None:
        """Release the link of a WebSocket that has ended, and whose app has ended."""
        if exchange.express:
            self.express.done(exchange.express, summary.pack())
        elif isinstance(exchange.lane, LaneEnd):
            self._websockets.append((exchange.lane.number, summary))
        self.over(exchange, drained=False)

    def abandon(self, exchange: AppExchange) -> None:
        """End an exchange whose `over` failed. Uses only its lane and its number."""
        exchange.ended = True
        self.abort(exchange)
        if exchange.express:
            self.express.done(exchange.express)
        self.over(exchange, drained=False)

    def _tell_done(self) -> None:
        if self._done or self._drop or self._withdrawn:
            message = LanesDone(self._done, self._drop, self._withdrawn, self._websockets)
            self._done, self._drop, self._withdrawn, self._websockets = [], [], [], []
            self.control.send(message)
