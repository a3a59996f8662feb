"""Between lanes and app: makes exchanges of what comes in, and tells the front end their end.

One gateway serves one reactor. It owns the lanes that this reactor opened, and the numbers of both
sorts.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from reactor_run.channel import ControlChannel
from reactor_run.protocol.control_messages import AnswerMoves, LanesDone, ToReactor
from reactor_run.protocol.express import FrameError
from reactor_run.protocol.origin import NOWHERE, Origin, read_origin
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.proxy import decode_v1, decode_v2
from reactor_run.protocol.request import KnownHeads, RequestHead, read_relayed_head
from reactor_run.pulse import NOT_BEGUN
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange, AppLane
from reactor_run.reactor.links.express import ExpressPort
from reactor_run.reactor.links.lane import LaneEnd
from reactor_run.reactor.log import limited
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

__all__ = ["SERVER_FIELD", "Gateway", "MakeExchange"]


SERVER_FIELD: Final = b"server: reactor-run\r\n"

MakeExchange = Callable[["Gateway", RequestHead, Origin, int, AppLane | None, bytes], AppExchange]
Admit = Callable[[Any], None]

_ORIGINS_MAX: Final = 4096
_ORIGIN_SIZE: Final = 256
"""Bytes of the longest PROXY header that is remembered."""


class Gateway:
    """What the exchanges of one reactor share."""

    express: ExpressPort
    """The express lane, once there is one."""

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
    ) -> None:
        self.reactor = reactor
        self.control = control
        self.app = app
        self.runtime = runtime
        self._make_exchange = make_exchange
        self._decode = {"v1": decode_v1, "v2": decode_v2, "off": None}[lane_proxy]
        self._admit = admit
        self._known_heads = KnownHeads()
        self._origins: dict[bytes, Origin] = {}
        """What PROXY headers say, of those seen lately."""
        self._theirs: weakref.WeakValueDictionary[int, AppLane] = weakref.WeakValueDictionary()
        """The lanes that the front end opened, by number."""
        self._lanes: dict[int, AppLane] = {}
        self._free: list[AppLane] = []
        self._opened = 0
        self.lock = threading.RLock()
        """Held to end a WSGI exchange, and to find a lane for an answer, in any thread."""
        self._done: list[int] = []
        self._drop: list[int] = []
        self._withdrawn: list[int] = []
        reactor.after_batch(self._tell_done)

    # Requests in -------------------------------------------------------------------------------

    def adopt_express(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        """Serve the express lane."""
        self.express = ExpressPort(self.reactor, sock, self._on_express, on_end)

    def adopt_lane(self, sock: socket.socket, number: int, slot: int) -> None:
        """Serve a lane that the front end opened, and show at `slot` what has begun on it."""
        self._theirs[number] = LaneEnd(
            self.reactor,
            sock,
            number,
            slot,
            on_request=self._on_lane,
            on_close=self._on_lost,
        )

    def cancel(self, number: int) -> None:
        """End the app of the exchange on a lane that the front end opened."""
        lane = self._theirs.get(number)
        if lane is not None and lane.exchange is not None:
            self.reactor.cancel(lane.exchange)

    def withdraw(self, number: int) -> None:
        """Do not begin what is on a lane that the front end opened, unless it has begun."""
        lane = self._theirs.get(number)
        if lane is None or lane.closed or self.reactor.pulse.lanes[lane.slot] != NOT_BEGUN:
            return
        exchange = lane.exchange
        if exchange is not None:
            if not exchange.take_out():
                return
            exchange.ended = True
            lane.exchange = None
        # Without an exchange its request has not been read, or not whole.
        lane.give_up()
        lane.close()
        self._withdrawn.append(number)

    def _on_express(self, number: int, prefix: bytes, payload: bytes) -> AppExchange:
        origin = self._origins.get(prefix)
        if origin is None:
            origin = self._read_origin(prefix)
        known = self._known_heads
        head = known.get(payload) if len(payload) <= known.SIZE else None
        if head is None:
            head = read_relayed_head(payload)
            if head is None or 0 <= head.body != len(payload) - head.size:
                raise FrameError("what came on the express lane is not one whole request")
            known.add(payload, head)
        exchange = self._make_exchange(self, head, origin, number, None, payload[head.size :])
        self._admit(exchange)
        return exchange

    def _read_origin(self, prefix: bytes) -> Origin:
        """What a frame's prefix says; mostly the same for all requests of a connection."""
        header = bytearray(prefix)
        header[14:16] = (len(prefix) - 16).to_bytes(2, "big")
        decoded = decode_v2(bytes(header))
        assert decoded is not None
        origin = read_origin(decoded)
        self._remember(prefix, origin)
        return origin

    def _remember(self, header: bytes, origin: Origin) -> None:
        if len(header) <= _ORIGIN_SIZE:
            if len(self._origins) >= _ORIGINS_MAX:
                self._origins.clear()
            self._origins[header] = origin

    def _on_lane(self, lane: AppLane) -> None:
        """Bytes on a lane without an exchange: its next request, or a part of it."""
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
                # The header of a client's connection is the same for each of its exchanges.
                start = 16 + int.from_bytes(data[14:16], "big")
                known = self._origins.get(data[:start])
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
            heads = self._known_heads
            head = heads.get(request) if len(request) <= heads.SIZE else None
            if head is None:
                head = read_relayed_head(request, max(0, seen - start))
                if head is not None:
                    heads.add(request, head)
        except Rejected as rejected:
            limited.error("a request on lane %d is none: %s", lane.number, rejected)
            lane.close()
            return
        if head is None:
            self._await_rest(lane, data)
            return
        lane.partial = b""
        payload = request[head.size :]
        if 0 <= head.body < len(payload):
            limited.error("bytes beyond a request on lane %d", lane.number)
            lane.close()
            return
        exchange = self._make_exchange(self, head, origin, 0, lane, payload)
        lane.exchange = exchange
        self._admit(exchange)

    def _on_lost(self, lane: AppLane) -> None:
        """A lane ended between two exchanges, or so it seems: the front end may have sent a request
        on it that never came to be one, and waits to hear of its end."""
        if lane.exchange is None:
            self._drop.append(lane.number)

    def _await_rest(self, lane: AppLane, data: bytes) -> None:
        lane.partial = data
        if lane.readable:
            # No event tells again of what is there already.
            self._on_lane(lane)

    # Answers out -------------------------------------------------------------------------------

    def open_lane(self, exchange: AppExchange) -> AppLane | None:
        """A lane for the answer of an express exchange. Thread-safe.

        None if there is no descriptor for one: the front end answers then. And none for a child
        that the app has forked.
        """
        if fork.is_child:
            return None
        with self.lock:
            while self._free:
                lane = self._free.pop()
                if lane.closed:
                    continue
                lane.exchange = exchange
                word = AnswerMoves(exchange.express, lane.number)
                if self.control.send_at_once(word):
                    return lane
                # The answer would overtake the word on it. That on a new lane brings the lane.
                lane.exchange = None
                self._free.append(lane)
                break
            self._opened += 1
            number = self._opened
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._have_no_lane(exchange, error)
            return None
        lane = LaneEnd(self.reactor, ours, number, on_request=None, on_close=self._on_close)
        lane.exchange = exchange
        self._lanes[number] = lane
        try:
            with theirs:
                descriptor = theirs.fileno()
                word = AnswerMoves(exchange.express, number, opened=True, fd=descriptor)
                self.control.send(word, descriptor)
        except OSError as error:
            lane.close()
            self._have_no_lane(exchange, error)
            return None
        return lane

    def _have_no_lane(self, exchange: AppExchange, error: OSError) -> None:
        limited.error("no lane for an answer: %s", error)
        self.control.send(AnswerMoves(exchange.express, None))

    def free_lane(self, number: int) -> None:
        """The front end has read all of an answer: the lane may carry the next."""
        lane = self._lanes.get(number)
        if lane is not None and not lane.closed:
            lane.exchange = None
            with self.lock:
                self._free.append(lane)

    def _on_close(self, lane: AppLane) -> None:
        self._lanes.pop(lane.number, None)

    def cut(self, exchange: AppExchange) -> None:
        """End an answer so that its truncation can be seen."""
        if exchange.lane is not None:
            exchange.lane.close()
        exchange.gone = True

    # The end of an exchange ----------------------------------------------------------------------

    def over(self, exchange: AppExchange, drained: bool) -> None:
        """The app is done. `drained`: its lane stands at the end of the request, and may carry the
        next unless something came behind it, bytes or the client's FIN."""
        lane = exchange.lane
        if lane is None or lane.exchange is not exchange:
            # The front end may give a lane back, and another answer take it, before this.
            return
        lane.exchange = None
        if lane.opened_here:
            if exchange.gone:
                lane.close()
        elif (
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

    def abandon(self, exchange: AppExchange) -> None:
        """End an exchange whose own end failed, with nothing of it but its lane and number."""
        exchange.ended = True
        self.cut(exchange)
        if exchange.express:
            self.express.done(exchange.express)
        self.over(exchange, drained=False)

    def _tell_done(self) -> None:
        if self._done or self._drop or self._withdrawn:
            message = LanesDone(self._done, self._drop, self._withdrawn)
            self._done, self._drop, self._withdrawn = [], [], []
            self.control.send(message)
