"""Carries the bytes of a WebSocket between a client and the reactor that has its app.

The front end does not read what it carries. The reactor speaks the protocol, sends the pings, and
keeps the deadlines. Two things remain here:

- The reactor dies. If the client has no part of a frame, it gets a close frame with the code 1012,
  Service Restart (RFC 6455 §7.4). Otherwise its connection is cut.
- The client does not read. Then the reactor gets no credit, so that its app waits. The minimum rate
  of answers holds here too.
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.http1_state import After, Http1State
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.protocol.express import PIECE_MAX

__all__ = ["SERVICE_RESTART", "Tunnel"]

SERVICE_RESTART: Final = b"\x88\x02" + (1012).to_bytes(2, "big")
"""A close frame of a server with the code 1012 (RFC 6455 §5.5.1 and §11.7)."""

_space = memoryview(bytearray(PIECE_MAX))
"""The memory that all of them read into. Bytes that are not sent at once are copied out of it."""


class TunnelUser(Protocol):
    """The requester of the exchange that became a WebSocket."""

    exchange: Exchange | None
    after: After

    def end_exchange(self) -> None:
        """End the exchange, if there is one."""

    def lose(self, error: str) -> None:
        """Abandon the exchange, which fails by `error`."""


class Tunnel:
    """The bytes of one WebSocket: a `ConnectionProtocol` and a `RequestSource`."""

    __slots__ = ("_connection", "_requester", "fin", "held", "state")

    def __init__(self, connection: Connection, requester: TunnelUser, *, fin: bool) -> None:
        """`fin`: the client has sent FIN."""
        self.state = Http1State.WEBSOCKET
        self.held: bytes | memoryview = b""
        self.fin = fin
        self._connection = connection
        self._requester = requester
        connection.switch(self)
        connection.wait(0)

    # Bytes of the client -------------------------------------------------------------------------

    def begin(self, early: bytes) -> None:
        """Carry what the client sends. `early`: bytes that it has sent before the 101 answer."""
        exchange = self._requester.exchange
        if exchange is None or exchange.lane is None or exchange.reactor is None:
            return
        exchange.whole = False
        if early:
            self._pass_on(exchange, early)
        if self.fin:
            exchange.reactor.client_sent_fin(exchange)
        else:
            self.read_on()

    def on_readable(self) -> None:
        """Carry the bytes or the FIN that have arrived."""
        exchange = self._requester.exchange
        if exchange is None or exchange.lane is None or exchange.reactor is None:
            # The last bytes of the reactor wait for the client.
            self._connection.read(False)
            return
        room = exchange.lane.room()
        if not room:
            self._connection.read(False)
            return
        try:
            size = self._connection.transport.recv_into(_space, min(room, PIECE_MAX))
        except BlockingIOError:
            return
        except OSError:
            self._connection.lose()
            return
        if size:
            self._pass_on(exchange, _space[:size])
            return
        self.fin = True
        self._connection.read(False)
        exchange.reactor.client_sent_fin(exchange)

    def _pass_on(self, exchange: Exchange, data: bytes | memoryview) -> None:
        assert exchange.lane is not None
        exchange.bytes_in += len(data)
        exchange.lane.write(data)

    def use(self, context: ClientContext) -> None:
        """Do nothing: no other request follows."""

    def read_on(self) -> None:
        """Read the client again: there is room on the link."""
        if not self.fin:
            self._connection.read(True)

    # The end -------------------------------------------------------------------------------------

    def answered(self) -> None:
        """End the connection: the reactor has sent its last bytes, or has died."""
        if self.state is Http1State.ENDED:
            return
        self._requester.end_exchange()
        self._connection.release()
        if not self._connection.unsent:
            self.on_drained()

    def on_drained(self) -> None:
        """End the connection, if the client has taken the last bytes of the reactor."""
        if self._requester.exchange is not None or self.state is Http1State.ENDED:
            return
        self.state = Http1State.ENDED
        if self._requester.after is After.CUT or self.fin:
            self._connection.close()
        else:
            # A close with unread bytes would reset the connection, and destroy the close frame.
            self._connection.linger()

    def on_lost(self, error: str) -> None:
        """Abandon the exchange, which fails by `error`."""
        self.state = Http1State.ENDED
        self._requester.lose(error)

    # What the service asks -----------------------------------------------------------------------

    @property
    def state_name(self) -> str:
        """The name under which `reactor-run status` counts it."""
        return self.state.value

    @property
    def idle_since(self) -> float:
        """A WebSocket is never idle: it is not closed to make room."""
        return inf

    def shed(self) -> bool:
        """Return False: a WebSocket is not closed to make room."""
        return False

    def reckon(self) -> None:
        """Set no deadline: the reactor keeps them."""

    def on_deadline(self) -> None:
        """Do nothing: there is no deadline."""

    def shut(self, grace: float) -> None:
        """Do nothing: the service stops, and the reactor closes its WebSockets."""
