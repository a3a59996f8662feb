"""A connection to a client: its socket, its unsent bytes, its deadline and its end.

A `ConnectionProtocol` reads and writes the bytes. The connection has these phases:

    OPEN       the protocol reads and writes
    LINGERING  the last answer and FIN are sent; bytes that still arrive are dropped, because a
               close with unread bytes would reset the connection and destroy the answer; FIN of the
               client or a deadline closes it
    CLOSED     the end
"""

from __future__ import annotations

import select
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.file_writer import FilePart, FileWriter
from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.reading_rate import ReadingRate
from reactor_run.frontend.clients.response_writer import ResponseWriter
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.exchanges.ports import AnswerSource, SocketHolder
from reactor_run.frontend.exchanges.record import CLIENT_LEFT
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import ERRORS
from reactor_run.frontend.static.content import FileShrunk

__all__ = ["Connection", "ConnectionPhase", "ConnectionProtocol"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_DROP: Final = 65536
"""The most bytes of a lingering client that one read drops."""
_LINGER: Final = 5.0
"""Seconds that a client has to read a last answer before the connection closes."""


class ConnectionPhase(Enum):
    """The phase of a connection; the head of this file explains each."""

    OPEN = "open"
    LINGERING = "lingering"
    CLOSED = "closed"


_OPEN: Final = ConnectionPhase.OPEN
_LINGERING: Final = ConnectionPhase.LINGERING
_CLOSED: Final = ConnectionPhase.CLOSED


class ConnectionProtocol(Protocol):
    """The protocol of a connection, such as HTTP/1.1."""

    @property
    def state_name(self) -> str:
        """The name under which `reactor-run status` counts it."""

    @property
    def idle_since(self) -> float:
        """When it became idle, in seconds of the loop's clock; inf if it is not idle."""

    def shed(self) -> bool:
        """Close an idle connection to make room; return whether it was closed."""

    def on_readable(self) -> None:
        """Read the bytes or the FIN that have arrived."""

    def on_drained(self) -> None:
        """Go on: the client has taken all bytes that waited for it."""

    def on_lost(self, error: str) -> None:
        """Abandon the exchange, which fails by `error`. The connection closes next."""

    def on_deadline(self) -> None:
        """Act on the deadline `due`, which has passed."""

    def shut(self, grace: float) -> None:
        """End after the exchange in flight: the service stops.

        `grace`: seconds for a request that may be on its way.
        """


class Connection:
    """One client's connection, from accept to close.

    accepted: when, by the loop's clock.
    deadline, check_at: see `loop.epoll.Deadlined`.
    due: when the protocol wants `on_deadline`, by the loop's clock. It may set `due` and `deadline`
    to a later time by itself; an earlier one is set by `wait_until`.
    events: what it listens to. EPOLLIN alone: the client is read, and nothing waits for it.
    granted: a reactor writes to the client. Nothing is written here meanwhile.
    large_answers: see `ClientSocket` of ports.py.
    recv, send: the transport's, for requests and for answers that are taken whole.
    writer: what waits for the client; None while nothing does.
    """

    __slots__ = (
        "_blocked",
        "_context",
        "_holders",
        "_on_close",
        "_on_readable",
        "_written",
        "accepted",
        "check_at",
        "deadline",
        "due",
        "events",
        "granted",
        "large_answers",
        "loop",
        "phase",
        "protocol",
        "recv",
        "send",
        "transport",
        "writer",
    )

    protocol: ConnectionProtocol

    def __init__(
        self,
        context: ClientContext,
        transport: Transport,
        on_close: Callable[[Connection], None],
    ) -> None:
        """`on_close`: called when the connection has ended."""
        self.loop = context.loop
        self.accepted = context.loop.now
        self.transport = transport
        self.recv = transport.recv
        self.send = transport.send
        self.phase = _OPEN
        self.writer: ResponseWriter | FileWriter | None = None
        self.granted = False
        self.large_answers = 0
        self._holders: set[SocketHolder] | None = None
        """The reactors with a duplicate of the socket; None: there was none yet."""
        self._blocked: ReadingRate | None = None
        """Set while the client does not take what a reactor writes."""
        self._written = 0
        """Bytes that the reactor had written when it last told so."""
        self.deadline = self.check_at = self.due = inf
        self._context = context
        self._on_close = on_close
        self.events = _IN

    def begin(self, protocol: ConnectionProtocol) -> None:
        """Speak `protocol` from now on. Raises OSError."""
        self.protocol = protocol
        self._on_readable = protocol.on_readable
        self._attach()

    def _attach(self) -> None:
        """Begin to watch the socket. Raises OSError."""
        self.loop.watch(self.transport.fileno(), _IN, self._on_events)

    def switch(self, protocol: ConnectionProtocol) -> None:
        """Speak another protocol from now on."""
        self.protocol = protocol
        self._on_readable = protocol.on_readable

    def use(self, context: ClientContext) -> None:
        """Serve requests of another app from now on."""
        self._context = context

    @property
    def age(self) -> float:
        """Seconds since it was accepted, or since its TLS handshake."""
        return self.loop.now - self.accepted

    # What happens on the socket ------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events == _IN and self.events == _IN:
            # By far the most frequent case. Masks of bits cost three times as much.
            self._on_readable()
            return
        if events & _OUT:
            self._flush()
        if events & _IN:
            if self.events & _IN:
                self._on_readable()
        elif events & ERRORS:
            self.lose()

    def _listen(self, events: int) -> None:
        if events != self.events and self.phase is not _CLOSED:
            self.loop.modify(self.transport.fileno(), events)
            self.events = events

    @property
    def reading(self) -> bool:
        """Whether the client is read."""
        return bool(self.events & _IN)

    def read(self, on: bool) -> None:
        """Start or stop reading the client."""
        if on:
            self._listen(self.events | _IN)
        else:
            self._listen(self.events & ~_IN)

    # Bytes out -----------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to take them."""
        return 0 if self.writer is None else self.writer.waiting

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, and keep the rest if the kernel does not take all of it.

        The caller may reuse the memory of `data` after the call.
        """
        writer = self.writer
        if writer is None:
            try:
                sent = self.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.lose()
                return
            if sent == len(data):
                return
            data = data[sent:]
        try:
            if writer is None:
                self._begin_to_wait(data)
            else:
                assert isinstance(writer, ResponseWriter)
                writer.add(data)
        except OSError as error:
            limited.error("cannot spool an answer: %s", error)
            self.lose()

    def _begin_to_wait(self, data: bytes | memoryview) -> None:
        self.writer = writer = self._make_writer()
        writer.add(data)
        self._listen(self.events | _OUT)
        self._reckon()

    def _make_writer(self) -> ResponseWriter:
        """Return what keeps the bytes that begin to wait."""
        file_max = self._context.answer_file_max
        return ResponseWriter(self.transport, file_max, self._reading_rate())

    def _reading_rate(self) -> ReadingRate:
        context = self._context
        rate = MinimumRate(context.response_timeout, context.min_response_rate)
        return ReadingRate(self.transport, rate, self.loop.now)

    def restrain(self, source: AnswerSource) -> None:
        """Pause the source of an answer while too many bytes wait for the client."""
        if self.writer is not None:
            self.writer.restrain(source)

    def release(self) -> None:
        """Forget the paused source: the answer has ended."""
        if self.writer is not None:
            self.writer.release()

    def _flush(self) -> None:
        """Send waiting bytes: the socket is writable again."""
        writer = self.writer
        if writer is None:
            return
        try:
            writer.flush(self.loop.now)
        except FileShrunk as error:
            limited.warning("an answer is cut: %s", error.strerror)
            self.lose("the file became shorter")
            return
        except OSError:
            self.lose()
            return
        if not writer.waiting:
            self.writer = None
            self._listen(self.events & ~_OUT)
        elif writer.loading:
            self._listen(self.events & ~_OUT)
        self._reckon()
        if self.writer is None:
            self.protocol.on_drained()

    # Files that the front end sends --------------------------------------------------------------

    def write_file(self, head: bytes, part: FilePart) -> None:
        """Send `head` and then a part of a file. `on_drained` is called when all was sent.

        It may be called before this returns. Nothing else may be written before.
        """
        assert self.writer is None
        self.writer = FileWriter(self.transport, head, part, self._reading_rate, self._loaded)
        self._listen(self.events | _OUT)
        self._flush()

    def _loaded(self, writer: FileWriter) -> None:
        """Go on with a file whose next bytes are in memory now."""
        if self.writer is writer and self.phase is not _CLOSED:
            self._listen(self.events | _OUT)
            self._flush()

    # Bytes out that a reactor writes -------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether a reactor has, or has had, a duplicate of the socket."""
        return self.transport.shared

    @property
    def in_use(self) -> bool:
        """Whether a reactor may have to write an answer to it."""
        return self.protocol.idle_since == inf

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self.transport.fileno()

    def held_by(self, holder: SocketHolder) -> None:
        """Note that a reactor has a duplicate of the socket. It is told when this closes."""
        if not self.transport.shared:
            self.transport.share()
        if self._holders is None:
            self._holders = set()
        self._holders.add(holder)

    def not_held_by(self, holder: SocketHolder) -> None:
        """Note that a reactor has closed its duplicate.

        The transport stays shared: a child of the app may still have one.
        """
        if self._holders is not None:
            self._holders.discard(holder)

    def grant(self) -> None:
        """Let a reactor write to the client. Nothing must be written here until `grant_ends`."""
        self.granted = True
        self._written = 0

    def grant_ends(self) -> None:
        """Note that the reactor writes nothing more."""
        self.granted = False
        self.moves()

    def blocks(self, written: int) -> None:
        """Note that the client takes no more now. The reactor has written `written` bytes."""
        if self._blocked is None:
            self._blocked = self._reading_rate()
        else:
            self._blocked.credit(written - self._written, self.loop.now)
        self._written = written
        self._reckon()

    def moves(self) -> None:
        """Note that the client takes bytes again, or that no more are written to it."""
        if self._blocked is not None:
            self._blocked = None
            self._reckon()

    # Deadlines -----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Call the protocol's `on_deadline` in `seconds`; 0: never."""
        self.wait_until(self.loop.now + seconds if seconds else inf)

    def wait_until(self, when: float) -> None:
        """Call the protocol's `on_deadline` at `when`, in seconds of the loop's clock."""
        self.due = when
        if self.writer is not None or self._blocked is not None or when < self.check_at:
            self._reckon()
        else:
            self.deadline = when

    def _reckon(self) -> None:
        when = self.due
        if self.writer is not None:
            when = min(when, self.writer.due)
        if self._blocked is not None:
            when = min(when, self._blocked.due)
        self.loop.set_deadline_at(self, when)

    def on_deadline(self) -> None:
        """Handle the deadline of the phase, of the protocol or of the minimum rate."""
        now = self.loop.now
        if self.phase is _LINGERING:
            self.close()
        elif self.due <= now:
            self.due = inf
            self.protocol.on_deadline()
        elif (self.writer is not None and self.writer.is_overdue(now)) or (
            self._blocked is not None and self._blocked.is_overdue(now)
        ):
            limited.info("a client took too little of its answer for too long, aborting it")
            self.abort()
        else:
            # The client has taken enough of its answer after all.
            self._reckon()

    # The end -------------------------------------------------------------------------------------

    def linger(self) -> None:
        """Send FIN, let the client read the last answer, then close."""
        self.phase = _LINGERING
        self._on_readable = self._drop
        try:
            self.transport.shutdown()
        except OSError:
            self.close()
            return
        self._listen(_IN)
        self.loop.set_deadline(self, _LINGER)

    def _drop(self) -> None:
        """Read and drop the bytes that a lingering client still sends."""
        try:
            data = self.transport.recv(_DROP)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()

    @property
    def state_name(self) -> str:
        """The name under which `reactor-run status` counts it."""
        return "lingering" if self.phase is _LINGERING else self.protocol.state_name

    def close_if_silent(self) -> bool:
        """Close the connection unless unread bytes have arrived; return whether it was closed."""
        try:
            arrived = self.transport.has_arrived
        except OSError:
            # The client has reset it. The next event reports that.
            return False
        if not arrived:
            self.close()
        return not arrived

    def has_left(self) -> bool:
        """Return whether the client has reset the connection, or closed its unix socket."""
        poll = select.poll()
        # The kernel reports POLLHUP and POLLERR without being asked.
        poll.register(self.transport.fileno(), 0)
        return bool(poll.poll(0))

    def reset_on_close(self) -> None:
        """Make the close a reset, so that the client sees that the answer is cut."""
        self.transport.reset_on_close()

    def abort(self) -> None:
        """Abort the connection by a reset, so that the client sees that bytes are missing."""
        self.transport.reset_on_close()
        self.lose()

    def lose(self, error: str = CLIENT_LEFT) -> None:
        """Close a connection that can get no answer any more, mostly as its client is gone.

        `error`: why, for the record of its exchange.
        """
        if self.phase is _OPEN:
            self.protocol.on_lost(error)
        self.close()

    def on_fault(self) -> None:
        """Close after an internal error: a part of the answer may be lost."""
        self.lose()

    def close(self) -> None:
        """Close the connection."""
        if self.phase is _CLOSED:
            return
        self.phase = _CLOSED
        self._detach()
        self.loop.forget(self)
        if self.writer is not None:
            self.writer.close()
        if self._holders:
            for holder in self._holders:
                holder.client_closed(self)
            self._holders.clear()
        self._on_close(self)

    def _detach(self) -> None:
        """Watch the socket no more, and close it at the end of the batch."""
        self.loop.unwatch(self.transport.fileno())
        self.loop.bury(self.transport)
