"""All WebSockets of a reactor: how many there may be, their deadlines, and their common end.

One coarse timer serves them all. The delays are the same for each WebSocket, so those that wait for
the same thing are due in the order in which they began to wait.

    ping      sent every `ping_interval`
    pong      awaited for `ping_timeout`; then the WebSocket is closed with 1011
    close     the client's close frame is awaited for `close_timeout`; then the connection ends

While the app does not receive, the client's frames are not read, and its pong may be among them. So
no pong is awaited then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, NamedTuple

import anyio

from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.deflate import (
    DeflateParameters,
    PerMessageDeflate,
    negotiate,
)
from reactor_run.protocol.websocket.handshake import Handshake
from reactor_run.reactor.asgi.open_websocket import OpenWebSocket, WebSocketUser
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

__all__ = ["WebSocketLimits", "WebSockets"]

_TICK: Final = 0.25
"""Seconds between two looks at the deadlines."""
_INTERNAL_ERROR: Final = 1011
"""The close code after a ping timeout, as other servers send it (RFC 6455 §7.4.1)."""


class WebSocketLimits(NamedTuple):
    """The settings of WebSockets. Seconds and bytes; 0: no limit, or off."""

    message_max: int
    sockets_max: int
    ping_interval: float
    ping_timeout: float
    close_timeout: float
    compression: bool


class _Delay:
    """WebSockets that wait for the same time."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long; 0: for ever."""
        self._seconds = seconds
        self._due: dict[OpenWebSocket, float] = {}
        """When each is due, by the monotonic clock. The first one is due first."""

    def put(self, websocket: OpenWebSocket) -> None:
        """Let it wait from now on."""
        if self._seconds:
            self._due.pop(websocket, None)
            self._due[websocket] = monotonic() + self._seconds

    def discard(self, websocket: OpenWebSocket) -> None:
        """Let it wait no more."""
        self._due.pop(websocket, None)

    def take_due(self, now: float) -> Iterator[OpenWebSocket]:
        """Remove and yield those that have waited long enough."""
        while self._due:
            websocket = next(iter(self._due))
            if self._due[websocket] > now:
                return
            del self._due[websocket]
            yield websocket


class WebSockets:
    """The WebSockets of one reactor."""

    def __init__(self, loop: ReactorLoop, limits: WebSocketLimits) -> None:
        self.flush_soon = loop.flush_soon
        self.call_soon: Callable[[Callable[[], None]], None] = loop.call_soon
        self._limits = limits
        self._open: dict[OpenWebSocket, None] = {}
        """Those that have not ended, oldest first."""
        self._pings = _Delay(limits.ping_interval)
        self._pongs = _Delay(limits.ping_timeout)
        self._closes = _Delay(limits.close_timeout)
        self._expected: dict[OpenWebSocket, int] = {}
        """How many pongs each will have sent when it has answered the last ping."""
        self._leaving: deque[tuple[float, OpenWebSocket]] = deque()
        """Those that are to be closed, and when, by the monotonic clock."""
        self._leave: tuple[int, float] | None = None
        """The close code, and until when all are to be closed; None: they stay."""
        self._some = anyio.Event()

    @property
    def full(self) -> bool:
        """Whether no more can be accepted."""
        return 0 < self._limits.sockets_max <= len(self._open)

    def negotiate(self, handshake: Handshake) -> DeflateParameters | None:
        """Return how messages are to be compressed; None: they are not."""
        return negotiate(handshake.offers) if self._limits.compression else None

    def open(
        self, user: WebSocketUser, link: AppLink, deflate: DeflateParameters | None
    ) -> OpenWebSocket:
        """Return a WebSocket that was just accepted."""
        codec = WebSocket(
            message_max=self._limits.message_max,
            deflate=None if deflate is None else PerMessageDeflate(deflate),
        )
        websocket = OpenWebSocket(self, user, link, codec)
        self._open[websocket] = None
        self._pings.put(websocket)
        if self._leave is not None:
            self._leaving.append((self._leave[1], websocket))
        self._some.set()
        return websocket

    def await_close(self, websocket: OpenWebSocket) -> None:
        """Give the client `close_timeout` to answer the close frame."""
        self._closes.put(websocket)

    def remove(self, websocket: OpenWebSocket) -> None:
        """Forget a WebSocket that has ended."""
        self._open.pop(websocket, None)
        self._expected.pop(websocket, None)
        for delay in self._pings, self._pongs, self._closes:
            delay.discard(websocket)

    # The end of all ------------------------------------------------------------------------------

    @property
    def leave_code(self) -> int:
        """The close code of WebSockets that the reactor ends (RFC 6455 §7.4, §11.7)."""
        return 1012 if self._leave is None else self._leave[0]

    def close_all(self, code: int, seconds: float) -> None:
        """Close all WebSockets with `code`, spread evenly over `seconds`, the oldest first."""
        now = monotonic()
        self._leave = (code, now + seconds)
        step = seconds / max(len(self._open), 1)
        self._leaving = deque((now + step * i, each) for i, each in enumerate(self._open))
        self._close_leaving(now)

    def end_all(self) -> None:
        """Close all WebSockets at once, and await nothing: the reactor ends."""
        for websocket in list(self._open):
            websocket.close_now(self.leave_code)

    def _close_leaving(self, now: float) -> None:
        while self._leaving and self._leaving[0][0] <= now:
            _, websocket = self._leaving.popleft()
            websocket.close(self.leave_code)

    # Deadlines -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the deadlines, for ever."""
        while True:
            if not self._open:
                self._some = anyio.Event()
                await self._some.wait()
            await anyio.sleep(_TICK)
            self.tick(monotonic())

    def tick(self, now: float) -> None:
        """Act on all deadlines that have passed. `now`: of the monotonic clock."""
        for websocket in self._pongs.take_due(now):
            self._look_for_pong(websocket)
        for websocket in self._pings.take_due(now):
            self._ping(websocket)
        for websocket in self._closes.take_due(now):
            websocket.close_overdue()
        self._close_leaving(now)

    def _ping(self, websocket: OpenWebSocket) -> None:
        self._pings.put(websocket)
        pongs = websocket.codec.pongs
        # A second ping would move the deadline of the first.
        if not websocket.codec.close_sent and pongs >= self._expected.get(websocket, pongs):
            self._expected[websocket] = pongs + 1
            self._pongs.put(websocket)
            websocket.ping()

    def _look_for_pong(self, websocket: OpenWebSocket) -> None:
        if websocket.codec.pongs >= self._expected[websocket]:
            return
        if websocket.waits_for_app:
            self._pongs.put(websocket)
        else:
            websocket.close_now(_INTERNAL_ERROR, "ping timeout")
