"""The front end's end of a lane: raw requests out, raw answers in, one exchange at a time.

A lane that we opened carries requests and their answers; one that a reactor opened carries only the
answers of exchanges that came to it express. A lane goes back to its owner's pool only when
everything about it is certain: the request went out whole, the answer came in whole and with
nothing behind it, and the reactor said that the app is done. Otherwise it is closed.
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

__all__ = ["Lane", "has_bytes"]

_SEND_BUFFER: Final = 1 << 20
"""Bytes asked for as the kernel's buffer of a request; reactor/links/lane.py: of an answer."""
_READ: Final = 262144
_READS_MAX: Final = 4
"""Reads of one body in a row, as long as each fills the space."""
_READ_FIRST: Final = 65536
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_space = memoryview(bytearray(_READ))
"""What lanes are read into. What is not sent on at once is copied out of it."""
_heads: Final = KnownResponseHeads()


class LanePool(Protocol):
    """Keeps lanes that wait for an exchange."""

    def put_back(self, lane: Lane) -> None:
        """A lane is ready for another exchange."""

    def lost(self, lane: Lane) -> None:
        """A lane is closed, or about to be."""


class Lane:
    """One socketpair, our end."""

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
        "opened_here",
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
        pool: LanePool,
        sock: socket.socket,
        number: int,
        slot: int | None = None,
    ) -> None:
        """`slot`: where the reactor tells whether it has begun what is on a lane that we opened."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.loop = loop
        self._owner = owner
        self._pool = pool
        self.sock = sock
        self.number = number
        self.opened_here = slot is not None
        self.slot = slot or 0
        self.exchange: Exchange | None = None
        self.begun = False
        """The kernel has taken bytes of the exchange's request."""
        self.closed = False
        self.ended = False
        """The reactor closed it before an answer; its word on the exchange is still to come."""
        self.free_since = 0.0
        """When it was put back last, by the loop's clock."""
        self.out = Outgoing()
        """What the kernel has not taken of the request."""
        self._spool_offset = 0
        self._fin = False
        """A half-close waits behind what is in `out`."""
        self._clean = True
        """The lane may carry another exchange after this one."""
        self._partial = b""
        self._answer: BodyReader | None = None
        self.paused = False
        """The client has not taken enough of the answer for more of it to be read."""
        self.postponed: memoryview | None = None
        """Bytes of an answer that were read, and are relayed in later turns of the loop: one turn
        relays PIECES_MAX chunks."""
        self._deferred = False
        """The loop is to call `_go_on_deferred`."""
        self._events = _IN
        loop.watch(sock.fileno(), _IN, self._on_events)

    # The exchange ------------------------------------------------------------------------------

    def carry(self, exchange: Exchange, first: bytes = b"") -> None:
        """Begin an exchange. `first`: what goes out at once, of a lane that we opened."""
        self.exchange = exchange
        exchange.lane = self
        self._partial = b""
        self._answer = None
        self._clean = True
        self._spool_offset = 0
        self.begun = False
        if first:
            try:
                sent = self.sock.send(first)
                self.begun = True
            except OSError:
                # Full, or broken: what is done about either is done when the rest is sent.
                sent = 0
            if sent < len(first) or exchange.spool is not None:
                self.out.add(first[sent:])
                self._send()

    def release(self) -> None:
        """The exchange no longer needs this lane: keep it for the next one, or close it."""
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
        """Let no other exchange follow this one: the reactor would not have it."""
        self._clean = False

    # Requests out --------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes of `data`, which is only lent; keep the rest."""
        if not self.out.size:
            try:
                sent = self.sock.send(data)
                self.begun = True
            except OSError:
                # Full, or broken: what is done about either is done below.
                sent = 0
            if sent == len(data) and not self._spooling():
                return
            data = data[sent:]
        self.out.add(bytes(data))
        if not self._events & _OUT:
            self._send()

    def half_close(self) -> None:
        """Pass on the client's FIN, behind all that it sent. The lane carries no other exchange."""
        self._clean = False
        self._fin = True
        if not self.out.size and not self._spooling():
            self._shut()

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The reactor closed its end; reading tells so.
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
            # The reactor wants no more of it, and may have answered before: that is read first. Or
            # the file cannot be read: then the app has to hear that no more will come.
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
        """Leave the answer in the kernel, so that the app's `send` waits."""
        self.paused = True
        self._listen(self._events & ~_IN)

    def resume(self) -> None:
        """Read on."""
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
        # A hang-up is reported even to those who ask for nothing, again and again.
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
        """Take what is there, once."""
        if self.postponed is not None:
            self._relay_postponed()
            return
        answer = self._answer
        first = b""
        try:
            if answer is None:
                # The beginning of an answer, which is mostly all of it.
                first = self.sock.recv(_READ_FIRST)
                size = len(first)
            else:
                size = self.sock.recv_into(_space)
        except BlockingIOError:
            return
        except ConnectionResetError:
            # It was closed with some of the request unread: an end like any other.
            size = 0
            hung_up = True
        except OSError:
            size = 0
        if size == 0:
            self._on_end(hung_up)
            return
        if self.exchange is None and not self.opened_here:
            # The announcement of this answer was sent before it, over another socket.
            self._owner.read_control()
        exchange = self.exchange
        if exchange is None or exchange.state is not RUNNING:
            limited.warning(
                "%s sent bytes beyond an answer on lane %d", self._owner.name, self.number
            )
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
        """The first bytes of an answer: interim ones, the head, and what came of its body."""
        requester = exchange.requester
        start = 0
        while True:
            head = _heads.parse(data, exchange.head.method, start)
            if head is None:
                self._partial = data[start:]
                return
            # From here on the client knows of an answer: there can be no second one.
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
            # By far the most frequent: all of the answer, and nothing else.
            requester.answer_whole(data)
            if exchange.state is RUNNING:
                self._owner.answered(exchange)
            return
        if head.body == UNTIL_CLOSE:
            self._clean = False
        self._answer = answer = body_reader(head.body)
        end = answer.feed(data, start + head.size, None, PIECES_MAX)
        requester.answer_begins(data[start:end], head, self)
        self._end(exchange, answer, memoryview(data)[end:])

    def _go_on(self, exchange: Exchange, answer: BodyReader, size: int) -> None:
        """More of a body, so many bytes; where they fill the space there is mostly more at once."""
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
                # There is nothing more now. The end, and a fault, the next event tells as well.
                return

    def _end(self, exchange: Exchange, answer: BodyReader, rest: memoryview) -> None:
        """See whether the answer is complete; `rest` was read and not relayed."""
        if answer.complete:
            if rest:
                limited.warning("%s answered beyond an answer's end", self._owner.name)
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
        """Relay more of what was postponed, and then read on."""
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

    def _reject(self, exchange: Exchange, error: Exception) -> None:
        """End an answer that breaks HTTP."""
        limited.error("%s sent an answer that cannot be relayed: %s", self._owner.name, error)
        self._clean = False
        exchange.requester.answer_failed()

    def _on_end(self, hung_up: bool) -> None:
        """The reactor ended or closed this lane."""
        self._clean = False
        if hung_up:
            # Is it only this lane that ended? The control channel tells, before anybody asks again.
            self._owner.read_control()
        exchange = self.exchange
        if exchange is None or exchange.state is not RUNNING:
            self._spoil()
            return
        answer = self._answer
        if answer is not None and answer.end_of_stream() and not hung_up:
            # An answer that lasts until the close is complete when it ends by half-close: a full
            # close is how a reactor cuts it, or how it looks when the reactor died.
            self._listen(0)
            exchange.requester.answer_ends()
        elif answer is None and hung_up and not exchange.app_done:
            # It refuses the request, or it dies: its word tells, or its pidfd.
            self._listen(0)
            self.ended = True
        else:
            self._listen(0)
            exchange.requester.answer_failed()

    # The end -------------------------------------------------------------------------------------

    def on_fault(self) -> None:
        """Nobody knows what was read of the answer."""
        self._clean = False
        exchange = self.exchange
        if exchange is not None and exchange.state is RUNNING:
            exchange.requester.answer_failed()
        else:
            self._spoil()

    def abandon(self) -> None:
        """Nothing more of the exchange is to be sent or read: close our end."""
        self.exchange = None
        self.close()
        if not self.opened_here:
            self._pool.lost(self)

    def _spoil(self) -> None:
        """This lane is worth nothing any more, whether or not the app of its exchange is done."""
        self._clean = False
        if self.exchange is None:
            self._pool.lost(self)
        self.close()

    def close(self) -> None:
        """Close our end: the reactor sees that nobody reads or writes here any more."""
        if not self.closed:
            self._listen(0)
            self.closed = True
            self.postponed = None
            self.out.clear()
            # A child of the app may hold this end too, as it was when the reactor made it: closing
            # alone would not end the lane.
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            self.loop.bury(self.sock)


def has_bytes(sock: socket.socket) -> bool:
    """Whether something that is not the end can be read at once."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
