"""A stream of HTTP/2, which looks like a connection of HTTP/1.1 to all that serves it.

The request was translated to HTTP/1.1 (protocol/http2/), and so an `Http1` reads it and a requester
waits for its answer, as on a connection of HTTP/1.1. Only the transport is another one
(http2_transport.py): it gives the bytes of one request, and takes those of one answer.

When the stream has ended, its objects serve another stream of the same connection.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import Connection, ConnectionPhase
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.http1_state import After, Http1State
from reactor_run.frontend.clients.http2_transport import SessionOwner, StreamTransport
from reactor_run.frontend.clients.response_writer import ResponseWriter
from reactor_run.frontend.exchanges.exchange import Exchange

__all__ = ["Http2Stream", "StreamOwner"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class StreamOwner(SessionOwner, Protocol):
    """The connection that has the stream."""

    waiting: dict[Http2Stream, None]
    """The streams whose transport takes no more. They are told when it does."""
    readable: dict[Http2Stream, None]
    """The streams with unread bytes. They are read at the end of the batch."""

    def memory_left(self) -> int:
        """Return how many more bytes of answers may wait in the memory of its streams."""


class Http2Stream(Connection):
    """One stream, and later another one of the same connection.

    number: of the stream. requester: of its request.
    """

    transport: StreamTransport

    __slots__ = ("_owner", "number", "requester")

    def __init__(
        self,
        context: ClientContext,
        owner: StreamOwner,
        origin: ConnectionOrigin,
        on_close: Callable[[Connection], None],
    ) -> None:
        """`origin`: names the client. `on_close`: called when it can serve no other stream."""
        self._owner = owner
        self.number = 0
        super().__init__(context, StreamTransport(owner), on_close)
        self.requester = Http1(context, self, origin).requester

    def serve(self, number: int) -> None:
        """Serve the stream `number` from now on."""
        self.number = number
        self.transport.begin(number)

    def adopt(self, exchange: Exchange) -> None:
        """Go on with a request of the stream that has arrived whole, and was not answered."""
        self.transport.request_ended = True
        self.transport.open(exchange.head.method, 0, False)
        protocol, requester = self.protocol, self.requester
        assert isinstance(protocol, Http1)
        protocol.state = Http1State.BUSY
        requester.after = After.NEXT
        requester.clock.due = self.deadline = self.due = inf
        if requester.forwarded is not None:
            requester.take_origin(exchange.head.fields)
        requester.exchange = exchange
        exchange.requester = requester

    @property
    def exchange(self) -> Exchange | None:
        """The exchange in flight; None: there is none."""
        return self.requester.exchange

    @property
    def sent(self) -> int:
        """Bytes of content of the answer that the session has, or had."""
        return self.transport.sent

    def look(self) -> None:
        """Read what has arrived, if it is wanted now."""
        if self.transport.ready and self.reading and self.phase is not ConnectionPhase.CLOSED:
            self._on_events(_IN)
            if self.transport.ready and self.reading:
                self._owner.readable[self] = None

    def move(self) -> None:
        """Go on with an answer: the session takes more of it."""
        if self.phase is not ConnectionPhase.CLOSED:
            self._on_events(_OUT)

    # What a socket does for other connections ----------------------------------------------------

    def _attach(self) -> None:
        """Do nothing: the connection of the stream reports what has arrived."""

    def _listen(self, events: int) -> None:
        self.events = events
        if events & _OUT:
            self._owner.waiting[self] = None
            self._owner.stir()
        else:
            self._owner.waiting.pop(self, None)
        if events & _IN and self.transport.ready:
            self._owner.readable[self] = None
            self._owner.stir()

    def _detach(self) -> None:
        self._owner.waiting.pop(self, None)
        self._owner.readable.pop(self, None)
        self.transport.close()

    def _make_writer(self) -> ResponseWriter:
        rate = self._reading_rate()
        file_max = self._context.answer_file_max
        return ResponseWriter(self.transport, file_max, rate, self._owner.memory_left)

    def has_left(self) -> bool:
        """Return whether the client has reset the stream."""
        return not self.transport.number

    def linger(self) -> None:
        """End the stream after its last answer. Only a WebSocket waits for the client to end it."""
        if self.transport.tunnel:
            super().linger()
        else:
            self.close()
