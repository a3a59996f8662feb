"""The front end's end of a lane: one raw request out, one raw answer in, then the next exchange.

A lane may carry another exchange only if its state is certain. The request was sent whole, and the
answer was read whole, with no bytes after it. Otherwise the lane is closed.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Final, Protocol

from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import ERRORS, Loop
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.outgoing import Outgoing
from reactor_run.protocol.body import PIECES_MAX, UNTIL_CLOSE, BodyReader, body_reader
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.response_head import BadResponse, KnownResponseHeads
from reactor_run.protocol.websocket.frames_reader import FramesReader

__all__ = ["Lane"]

_SEND_BUFFER: Final = 1 << 20
"""The size in bytes that the kernel is asked for, for the buffer of requests. The reactor asks for
the buffer of answers, in reactor/links/lane.py."""
_READ: Final = 262144
_READS_MAX: Final = 4
"""The most reads of one answer in a row, while each fills the space."""
_READ_FIRST: Final = 65536
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_space = memoryview(bytearray(_READ))
"""The memory that all lanes read into. Bytes that are not sent on at once are copied out of it."""
_heads: Final = KnownResponseHeads()


class LaneKeeper(Protocol):
    """Keeps lanes that wait for an exchange."""

    def put_back(self, lane: Lane) -> None:
        """Take back a lane that may carry another exchange."""

    def lost(self, lane: Lane) -> None:
        """Note that a lane is closed, or about to be."""


class Lane:
    """One end of a socketpair between the front end and a reactor."""

    __slots__ = (
        "_answer",
        "_clean",
        "_deferred",
        "_events",
        "_fin",
        "_owner",
        "_partial",
        "_pool",
        "_spool_offset",
        "begun",
        "closed",
        "ended",
        "exchange",
        "free_since",
        "loop",
        "number",
        "out",
        "paused",
        "postponed",
        "slot",
        "sock",
    )

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        pool: LaneKeeper,
        sock: socket.socket,
        number: int,
        slot: int,
    ) -> None:
        """`slot`: the place in shared memory where the reactor marks that it has begun the
        exchange.
        """
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.loop = loop
        self._owner = owner
        self._pool = pool
        self.sock = sock
        self.number = number
        self.slot = slot
        self.exchange: Exchange | None = None
        self.begun = False
        """The kernel has taken bytes of the request."""
        self.closed = False
        self.ended = False
        """The reactor closed it before an answer began. A control message or the end of the process
        follows."""
        self.free_since = 0.0
        """When it was last put back, in seconds of the loop's clock."""
        self.out = Outgoing()
        """The bytes of the request that the kernel has not taken."""
        self._spool_offset = 0
        """The bytes of the spooled body that the kernel has taken."""
        self._fin = False
        """A half-close follows after the bytes in `out`."""
        self._clean = True
        """The lane may carry another exchange after this one."""
        self._partial = b""
        """The first bytes of an answer head that is not whole."""
        self._answer: BodyReader | None = None
        """Reads the body of the answer; None before its head is whole."""
        self.paused = False
        """The answer is not read, because the client takes it too slowly."""
        self.postponed: memoryview | None = None
        """Bytes of an answer that were read, and are relayed in later turns of the loop. One turn
        relays at most PIECES_MAX chunks."""
        self._deferred = False
        """The loop will call `_go_on_deferred`."""
        self._events = _IN
        loop.watch(sock.fileno(), _IN, self._on_events)

    # The exchange ------------------------------------------------------------------------------

    def carry(self, exchange: Exchange, first: bytes) -> None:
        """Begin an exchange. `first`: its PROXY header, and the request as far as it has come."""
        self.exchange = exchange
        exchange.lane = self
        self._partial = b""
        self._answer = None
        self._clean = True
        self._spool_offset = 0
        self.begun = False
        try:
            sent = self.sock.send(first)
            self.begun = True
        except OSError:
            # The buffer is full, or the lane is broken. Sending the rest shows which.
            sent = 0
        if sent < len(first) or exchange.spool is not None:
            self.out.add(first[sent:])
            self._send()

    def answered(self) -> None:
        """Drop the rest of the request. An app that reads on must not wait for it."""
        if self.exchange is not None and not self.exchange.whole:
            self.half_close()

    def release(self) -> None:
        """End the use of this lane by its exchange: keep it for the next one, or close it."""
        exchange, self.exchange = self.exchange, None
        self._answer = None
        if exchange is not None and exchange.spool is not None:
            if self._spool_offset < exchange.spool.size:
                self._clean = False
            exchange.drop_spool()
        if self._clean and not self.closed and not self.out.size:
            if self.paused:
                self._read_on()
            self._pool.put_back(self)
        else:
            self.close()
            self._pool.lost(self)

    def condemn(self) -> None:
        """Let this lane carry no other exchange: the reactor would not take it."""
        self._clean = False

    # Requests out --------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, and copy the rest if the kernel does not take all of it.

        The caller may reuse the memory of `data` after the call.
        """
        if not self.out.size:
            try:
                sent = self.sock.send(data)
                self.begun = True
            except OSError:
                # The buffer is full, or the lane is broken. `_send` finds out below.
                sent = 0
            if sent == len(data) and not self._spooling():
                return
            data = data[sent:]
        self.out.add(bytes(data))
        if not self._events & _OUT:
            self._send()

    def space(self) -> memoryview | None:
        """Return None: any memory will do."""
        return None

    def room(self) -> int:
        """Return how many bytes of the request can be sent now, as far as that is known; 0: wait
        for `read_on`."""
        return 0 if self.out.size else _SEND_BUFFER

    def half_close(self) -> None:
        """Pass on the client's FIN after its last byte. The lane carries no other exchange then."""
        self._clean = False
        self._fin = True
        if not self.out.size and not self._spooling():
            self._shut()

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The reactor closed its end. The next read finds the end.
            return

    def _spooling(self) -> bool:
        spool = None if self.exchange is None else self.exchange.spool
        return spool is not None and self._spool_offset < spool.size

    def _send(self) -> None:
        out = self.out
        exchange = self.exchange
        spool = None if exchange is None else exchange.spool
        try:
            while out.size:
                out.send(self.sock)
                self.begun = True
            while spool is not None and self._spool_offset < spool.size:
                self._spool_offset += spool.send(self.sock, self._spool_offset)
        except BlockingIOError:
            self._listen(self._events | _OUT)
            return
        except OSError:
            # Either the reactor takes no more of the request. It may have answered before, so the
            # lane is still read. Or the file cannot be read. Then the half-close tells the app that
            # the body ends here.
            self._clean = False
            self._fin = True
            out.clear()
            if spool is not None:
                self._spool_offset = spool.size
        self._listen(self._events & ~_OUT)
        if self._fin:
            self._shut()

    # Answers in ----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Leave the answer in the kernel's buffer, so that the app's `send` waits."""
        self.paused = True
        self._listen(self._events & ~_IN)

    def resume(self) -> None:
        """Resume reading the answer after `pause`."""
        if self.paused and not self.closed:
            self._read_on()

    def _read_on(self) -> None:
        self.paused = False
        if self.postponed is None:
            self._listen(self._events | _IN)
        else:
            self._defer()

    def _listen(self, events: int) -> None:
        if self.closed or events == self._events:
            return
        fd = self.sock.fileno()
        # epoll reports a hang-up again and again, even for a descriptor without events.
        if events == 0:
            self.loop.unwatch(fd)
        elif self._events == 0:
            self.loop.watch(fd, events, self._on_events)
        else:
            self.loop.modify(fd, events)
        self._events = events

    def _on_events(self, events: int) -> None:
        if events == _IN and not self.paused:
            self.read()
            return
        if events & _OUT:
            self._send()
            exchange = self.exchange
            if exchange is not None and exchange.state is RUNNING and not self.out.size:
                exchange.requester.read_on()
        if (
            events & (_IN | ERRORS)
            and not self.closed
            and not self.paused
            and self.postponed is None
        ):
            self.read(hung_up=bool(events & ERRORS))

    def read(self, *, hung_up: bool = False) -> None:
        """Read once, and relay the bytes. `hung_up`: the reactor has closed its end."""
        if self.postponed is not None:
            self._relay_postponed()
            return
        answer = self._answer
        first = b""
        try:
            if answer is None:
                # The first bytes of an answer: mostly the whole answer.
                first = self.sock.recv(_READ_FIRST)
                size = len(first)
            else:
                size = self.sock.recv_into(_space)
        except BlockingIOError:
            return
        except ConnectionResetError:
            # The reactor closed it with a part of the request unread: an end like any other.
            size = 0
            hung_up = True
        except OSError:
            size = 0
        if size == 0:
            self._on_end(hung_up)
            return
        exchange = self.exchange
        if exchange is None or exchange.state is not RUNNING:
            self._warn_of_surplus()
            self._spoil()
            return
        try:
            if answer is None:
                self._begin(exchange, self._partial + first)
            else:
                self._go_on(exchange, answer, size)
        except (BadResponse, Rejected) as error:
            self._reject(exchange, error)

    def _begin(self, exchange: Exchange, data: bytes) -> None:
        """Relay the first bytes of an answer: 1xx answers, the head, and a part of the body."""
        requester = exchange.requester
        start = 0
        while True:
            head = _heads.parse(data, exchange.head.method, start)
            if head is None:
                self._partial = data[start:]
                return
            # From here on the client has a part of an answer, so no retry is possible.
            exchange.request = b""
            if not head.interim:
                break
            requester.answer_interim(data[start : start + head.size], self)
            start += head.size
            if exchange.state is not RUNNING:
                return
        self._partial = b""
        if exchange.spool is not None and not self._spooling():
            exchange.drop_spool()
        size = len(data)
        if exchange.whole and start == 0 and head.body >= 0 and head.size + head.body == size:
            # By far the most frequent case: the whole answer, and nothing else.
            requester.answer_whole(data)
            if exchange.state is RUNNING:
                self._owner.answered(exchange)
            return
        if head.body == UNTIL_CLOSE:
            self._clean = False
        if head.upgrade:
            self._switch_protocols(exchange, data, start, start + head.size)
            return
        self._answer = answer = body_reader(head.body)
        end = answer.feed(data, start + head.size, None, PIECES_MAX)
        requester.answer_begins(data[start:end], head, self)
        self._end(exchange, answer, memoryview(data)[end:])

    def _switch_protocols(self, exchange: Exchange, data: bytes, start: int, end: int) -> None:
        """Carry a WebSocket from now on. `data`: has the head of its 101 answer, from `start` to
        `end`. Raises BadResponse."""
        if not exchange.head.upgrade:
            raise BadResponse("it switches protocols without having been asked")
        self._answer = frames = FramesReader()
        exchange.requester.switch_protocols(data[start:end])
        if end < len(data) and exchange.state is RUNNING:
            frames.feed(data, end)
            exchange.requester.answer_goes_on(memoryview(data)[end:], self)

    @property
    def between_frames(self) -> bool:
        """Whether it carries a WebSocket, and what the reactor has sent ends with a whole frame."""
        return isinstance(self._answer, FramesReader) and self._answer.between_frames

    def _go_on(self, exchange: Exchange, answer: BodyReader, size: int) -> None:
        """Relay `size` bytes of a body, and read on while each read fills the space."""
        reads = 1
        while size:
            data = _space[:size]
            end = answer.feed(data, 0, None, PIECES_MAX)
            exchange.requester.answer_goes_on(data[:end], self)
            self._end(exchange, answer, data[end:])
            if self.postponed is not None:
                return
            if size < _READ or reads == _READS_MAX:
                return
            if exchange.state is not RUNNING or self.paused or self.closed:
                return
            reads += 1
            try:
                size = self.sock.recv_into(_space)
            except OSError:
                # There are no more bytes now. An end or an error shows in the next event.
                return

    def _end(self, exchange: Exchange, answer: BodyReader, rest: memoryview) -> None:
        """End the answer if it is complete, else postpone `rest`: bytes read and not relayed."""
        if answer.complete:
            if rest:
                self._warn_of_surplus()
                self._clean = False
            if exchange.state is RUNNING:
                exchange.requester.answer_ends()
        elif rest and exchange.state is RUNNING and not self.closed:
            self.postponed = memoryview(bytes(rest)) if rest.obj is _space.obj else rest
            self._listen(self._events & ~_IN)
            self._defer()

    def _defer(self) -> None:
        if not self._deferred:
            self._deferred = True
            self.loop.defer(self._go_on_deferred)

    def _go_on_deferred(self) -> None:
        """Relay more of the postponed bytes, then read on."""
        self._deferred = False
        if self.postponed is None or self.paused:
            return
        self._relay_postponed()
        self._read_on_unless_paused()

    def _read_on_unless_paused(self) -> None:
        if self.postponed is None and not self.paused:
            self._listen(self._events | _IN)

    def _relay_postponed(self) -> None:
        exchange, answer = self.exchange, self._answer
        data, self.postponed = self.postponed, None
        if data is None or answer is None or exchange is None or exchange.state is not RUNNING:
            return
        try:
            end = answer.feed(data, 0, None, PIECES_MAX)
            exchange.requester.answer_goes_on(data[:end], self)
            self._end(exchange, answer, data[end:])
        except Rejected as error:
            self._reject(exchange, error)

    def _warn_of_surplus(self) -> None:
        limited.warning(
            "%s sent bytes after the end of an answer on lane %d", self._owner.name, self.number
        )

    def _reject(self, exchange: Exchange, error: Exception) -> None:
        """End an answer that breaks HTTP."""
        limited.error("%s sent an invalid answer: %s", self._owner.name, error)
        self._clean = False
        exchange.requester.answer_failed()

    def _on_end(self, hung_up: bool) -> None:
        """Handle the end of the lane. `hung_up`: the reactor closed it; else it half-closed it."""
        self._clean = False
        if hung_up:
            # The control channel shows whether the reactor is dead too. Read it before a retry.
            self._owner.read_control()
        exchange = self.exchange
        if exchange is None or exchange.state is not RUNNING:
            self._spoil()
            return
        self._listen(0)
        answer = self._answer
        # A half-close looks like a full close once the FIN of the client was passed on. Such a
        # client needs no close frame.
        closed = hung_up and not (exchange.upgraded and self._fin)
        if answer is not None and answer.end_of_stream() and not closed:
            # An answer without a length is complete when it ends by a half-close. A full close
            # means that the reactor cut it or died.
            exchange.requester.answer_ends()
        elif answer is None and hung_up and not exchange.app_done:
            # The reactor does not answer, or it dies. A control message or the pidfd shows which.
            self.ended = True
        else:
            exchange.requester.answer_failed()

    # The end -------------------------------------------------------------------------------------

    def on_fault(self) -> None:
        """Fail the answer after an internal error: a part of it may be lost."""
        self._clean = False
        exchange = self.exchange
        if exchange is not None and exchange.state is RUNNING:
            exchange.requester.answer_failed()
        else:
            self._spoil()

    def abandon(self) -> None:
        """Send and read nothing more of the exchange: close this end."""
        self.exchange = None
        self.close()

    def _spoil(self) -> None:
        """Close the lane: its state is uncertain. The app of its exchange may still run."""
        self._clean = False
        if self.exchange is None:
            self._pool.lost(self)
        self.close()

    def close(self) -> None:
        """Close this end, so that the reactor sees the end of the lane."""
        if not self.closed:
            self._listen(0)
            self.closed = True
            self.postponed = None
            self.out.clear()
            # A child process of the app may have inherited this end. Then close() alone would not
            # end the lane.
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            self.loop.bury(self.sock)
