"""One exchange on an express lane that does not fit into one message each way.

The body of the request leaves in pieces, or the answer arrives in pieces. Each direction has a
window: a sender stops after WINDOW bytes that the other side has not credited.

An answer begins with its head, which the front end writes. Its rest takes one of two ways:

    relayed   it arrives as BYTES, and the front end writes it; a WebSocket goes this way
    direct    the reactor writes it to the client's socket; from the grant until the reactor has
              said that it is done, or is dead, the front end writes nothing to this client

A reactor that had an offer (offers.py) writes the head too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from reactor_run.buffers import Buffers
from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.frontend.exchanges.ports import ClientSocket
from reactor_run.frontend.log import limited
from reactor_run.offers import TAKEN, Offers
from reactor_run.outgoing import Outgoing
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ASK,
    BEGIN,
    BLOCKED,
    BODY,
    BYTES,
    CREDIT_FOR_ANSWER,
    CREDIT_FOR_BODY,
    END,
    FIN,
    GIVE_BACK,
    GRANT,
    INTERIM,
    MOVES,
    PART,
    PIECE_MAX,
    RELAY,
    WINDOW,
    WRITTEN,
    FrameError,
    pack_buffered,
    pack_count,
    pack_message,
    pack_number,
    read_count,
    read_number,
)
from reactor_run.protocol.response_head import BadResponse, parse_response_head
from reactor_run.pulse import STREAM_SLOTS, WAITS

__all__ = ["ExpressStream", "StreamCarrier"]

_BUFFERED_MIN: Final = 16384
"""Least bytes that are left in their buffer. Fewer are sent as BODY."""


class StreamCarrier(Protocol):
    """An express lane, as its streams know it."""

    streams: dict[int, ExpressStream]

    def gather(self, message: bytes, payload: bytes | memoryview = b"") -> None:
        """Send a message, at the latest at the end of the batch.

        The caller may reuse the memory of `payload` after the call.
        """

    def share(self, client: ClientSocket) -> int:
        """Send the reactor a duplicate of a client's socket, unless it has one; return its number.

        Raises OSError if there is no free descriptor for the duplicate.
        """

    offers: Offers
    """What became of the offers to the reactor."""
    buffers: Buffers
    """Shared memory for pieces of requests."""
    marks: memoryview
    """Where the reactor shows whether the apps of requests in pieces wait for more (pulse.py)."""
    blocked: bool
    """The kernel takes no bytes now."""

    def await_room(self, stream: ExpressStream) -> None:
        """Call `has_room` of `stream` once the kernel takes bytes again."""


class ExpressStream:
    """A `Link` of ports.py: the pieces of one exchange."""

    __slots__ = (
        "_body_credit",
        "_fin",
        "_lane",
        "_left",
        "_number",
        "_spool_offset",
        "_starved",
        "_to_credit",
        "answer_begun",
        "between_frames",
        "exchange",
        "granted",
        "out",
        "paused",
    )

    begun = True
    ended = False

    def __init__(self, lane: StreamCarrier, exchange: Exchange) -> None:
        self.exchange = exchange
        self.out = Outgoing()
        """The bytes of the request for which there is no credit yet."""
        self.paused = False
        """The client takes the answer too slowly: the reactor gets no credit, or is blocked."""
        self.answer_begun = False
        self.between_frames = False
        """It carries a WebSocket, and what the reactor has sent ends with a whole frame."""
        self.granted = False
        """The reactor writes the answer to the client's socket."""
        self._lane = lane
        self._number = exchange.number
        self._body_credit = WINDOW
        self._starved = False
        """The client is not read, because there was no credit."""
        self._spool_offset = 0
        """The bytes of the spooled body that were sent."""
        self._left: int | None = None
        """Bytes of the answer that have not come; None: its end is not known from its head."""
        self._to_credit = 0
        """Bytes of the answer that were taken since the last credit."""
        self._fin = False
        """FIN follows after the bytes of the request that wait."""
        lane.streams[self._number] = self

    # The request ---------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, and copy what the reactor has given no credit for.

        The caller may reuse the memory of `data` after the call.
        """
        size = len(data)
        if (
            _BUFFERED_MIN <= size <= self._body_credit
            and not self.out.size
            and self._lane.buffers.holds(data)
        ):
            self._body_credit -= size
            self._lane.gather(pack_buffered(self._number, self._lane.buffers.use(), size))
            return
        if 0 < size <= min(self._body_credit, PIECE_MAX) and not self.out.size:
            # By far the most frequent case.
            self._body_credit -= size
            self._lane.gather(pack_message(self._number, BODY, size), data)
            return
        sent = 0
        if not self.out.size:
            view = memoryview(data)
            while sent < len(data) and self._body_credit:
                sent += self.send(view[sent:])
        if sent < len(data):
            self.out.add(bytes(data[sent:]))

    def space(self) -> memoryview | None:
        """Return memory into which more of the request should be read; None: any other."""
        return self._lane.buffers.space()

    def room(self) -> int:
        """Return how many bytes of the request can be sent now; 0: wait for `read_on`."""
        if self._lane.blocked:
            # What cannot be sent stays in the kernel, with the client.
            self._lane.await_room(self)
            return 0
        if self.out.size or not self._body_credit:
            self._starved = True
            return 0
        return self._body_credit

    def has_room(self) -> None:
        """Read on: the lane takes bytes again."""
        if not self.out.size and self.exchange.state is RUNNING:
            self.exchange.requester.read_on()

    def send_on(self) -> None:
        """Send as much of the request as there is credit for, then FIN if it is due."""
        try:
            while self.out.size:
                self.out.send(self)
            spool = self.exchange.spool
            while spool is not None and self._spool_offset < spool.size:
                if not self._body_credit:
                    return
                piece = spool.read(self._spool_offset, min(PIECE_MAX, self._body_credit))
                self._spool_offset += self.send(piece)
        except BlockingIOError:
            return
        except OSError as error:
            limited.error("a buffered request body cannot be read: %s", error)
            # The app is told that the body ends here.
            self._spool_offset = spool.size if spool is not None else 0
            self._fin = True
        if self._fin:
            self._fin = False
            self._lane.gather(pack_message(self._number, FIN))

    # As the `Writable` of `out`.

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a piece of the request; return how many bytes the window took."""
        size = min(len(data), PIECE_MAX, self._body_credit)
        if not size:
            raise BlockingIOError
        self._body_credit -= size
        piece = data if size == len(data) else data[:size]
        self._lane.gather(pack_message(self._number, BODY, size), piece)
        return size

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send several pieces of the request as one."""
        return self.send(b"".join(buffers))

    def half_close(self) -> None:
        """Pass on the client's FIN, after all bytes that the client sent."""
        self._fin = True
        self.send_on()

    # The answer ----------------------------------------------------------------------------------

    def handle(self, kind: int, payload: bytes) -> None:
        """Handle a message about a running exchange. Raises FrameError and BadResponse."""
        requester = self.exchange.requester
        if kind == BYTES:
            if self.exchange.upgraded:
                self.between_frames = True
            else:
                self._expect_relayed()
                self._count(len(payload))
            requester.answer_goes_on(payload, self)
            self._took(len(payload))
        elif kind == PART:
            if not self.exchange.upgraded:
                raise FrameError("a part of a frame without a WebSocket")
            self.between_frames = False
            requester.answer_goes_on(payload, self)
            self._took(len(payload))
        elif kind == END:
            self._expect_relayed()
            self._end()
        elif kind in (WRITTEN, GIVE_BACK, BLOCKED, MOVES):
            self._handle_direct(kind, read_number(payload))
        elif kind in (BEGIN, ASK):
            self._begin(payload, asks=kind == ASK)
        elif kind == ANSWER:
            self._begin(payload, asks=False)
            if self.exchange.state is RUNNING:
                self._end()
        elif kind == INTERIM:
            # One thread of an app may ask for the body while another one begins the answer.
            if not self.answer_begun:
                # The client has a part of an answer, so no retry is possible.
                self.exchange.request = b""
                requester.answer_interim(payload, self)
        elif kind == CREDIT_FOR_BODY:
            self.credited(read_count(payload))
        elif kind == ABORT:
            requester.answer_failed()

    def _begin(self, payload: bytes, *, asks: bool) -> None:
        exchange = self.exchange
        requester = exchange.requester
        head = parse_response_head(payload, exchange.head.method)
        if head is None or head.interim or self.answer_begun:
            raise BadResponse("an answer begins without a whole head, or begins twice")
        written = asks and exchange.offered and self._lane.offers.state(self._number) == TAKEN
        if written and head.size != len(payload):
            raise BadResponse("more than the head of an answer that the reactor writes")
        if head.body >= 0:
            # What the reactor writes is counted when it tells, with its head.
            self._left = head.body + (head.size if written else 0)
            self._count(0 if written else len(payload) - head.size)
        # From here on the client has a part of an answer, so no retry is possible.
        exchange.request = b""
        self.answer_begun = True
        if exchange.spool is not None and self._spool_offset == exchange.spool.size:
            exchange.drop_spool()
        if head.upgrade:
            if not exchange.head.upgrade or head.size != len(payload):
                raise BadResponse("it switches protocols without having been asked")
            self.between_frames = True
            requester.switch_protocols(payload)
            return
        if written:
            self.granted = True
            requester.direct_begins(payload, head)
            return
        requester.answer_begins(payload, head, self)
        if not asks or exchange.state is not RUNNING:
            return
        client = requester.grant()
        duplicate = 0
        if client is not None:
            try:
                duplicate = self._lane.share(client)
            except OSError as error:
                limited.warning("an answer is relayed, as its client cannot be shared: %s", error)
                requester.grant_ends(0, given_back=True)
        if duplicate:
            self.granted = True
            self._lane.gather(pack_number(self._number, GRANT, duplicate))
        else:
            self._lane.gather(pack_message(self._number, RELAY))

    def _count(self, size: int) -> None:
        """Count bytes of the answer's body. Raises BadResponse if they are too many: those would
        be the next answer to the client."""
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise BadResponse("it is longer than its head says")

    def _end(self) -> None:
        """Complete the answer. Raises BadResponse if bytes are missing: the client would take them
        from the next answer."""
        if self._left:
            raise BadResponse(f"{self._left} bytes less than its head says")
        self.exchange.requester.answer_ends()

    def _expect_relayed(self) -> None:
        if self.granted or not self.answer_begun:
            raise FrameError("a piece of an answer that has not begun, or is written directly")

    def _handle_direct(self, kind: int, written: int) -> None:
        """The reactor, which has the grant, has written `written` bytes to the client."""
        if not self.granted:
            raise FrameError("the reactor has no grant")
        requester = self.exchange.requester
        self.paused = kind == BLOCKED
        if kind == BLOCKED:
            requester.client_blocks(written)
            return
        if kind == MOVES:
            requester.client_moves()
            return
        self.granted = False
        requester.grant_ends(written, given_back=kind == GIVE_BACK)
        self._count(written)
        if kind == WRITTEN:
            self._end()

    def _took(self, size: int) -> None:
        self._to_credit += size
        if self._to_credit >= WINDOW // 4 and not self.paused:
            self._credit()

    def _credit(self) -> None:
        count, self._to_credit = self._to_credit, 0
        self._lane.gather(pack_count(self._number, CREDIT_FOR_ANSWER, count))

    def credited(self, count: int) -> None:
        """Send more of the request: the app has taken `count` bytes. It may read on after its
        answer."""
        self._body_credit += count
        self.send_on()
        if self._starved and not self.out.size:
            self._starved = False
            self.has_room()

    def pause(self) -> None:
        """Give the reactor no more credit, so that the app's `send` waits."""
        self.paused = True

    def resume(self) -> None:
        """Give the reactor credit again."""
        self.paused = False
        if self._to_credit and self.exchange.state is RUNNING:
            self._credit()

    @property
    def waits_for_client(self) -> bool:
        """Whether the exchange waits only for its client."""
        exchange = self.exchange
        return (
            exchange.state is RUNNING
            and not (exchange.app_done or exchange.upgraded)
            and (self.paused or (not exchange.whole and self._app_waits))
        )

    @property
    def _app_waits(self) -> bool:
        """Whether the app waits for more of the request's body, and all that has come was sent."""
        return not self.out.size and self._lane.marks[self._number % STREAM_SLOTS] == WAITS

    # The end -------------------------------------------------------------------------------------

    def answered(self) -> None:
        """Drop the rest of the request. An app that reads on must not wait for it."""
        if not self.exchange.whole:
            self.out.clear()
            self.half_close()

    def release(self) -> None:
        """End the use of this stream by its exchange, which needs it no more."""
        self.abandon()
        self.exchange.drop_spool()

    def abandon(self) -> None:
        """Send and read nothing more of the exchange."""
        self._lane.streams.pop(self._number, None)
        self.out.clear()
