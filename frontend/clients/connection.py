"""A connection to a client: its socket, the bytes that wait to be sent, its deadline and its end.

What the bytes mean is its protocol's. The connection passes through these phases:

    OPEN       the protocol reads and writes
    LINGERING  the last answer is sent, and FIN behind it; what still comes is dropped, because a
               close would reset the connection and destroy the answer; FIN or a deadline closes
    CLOSED     nothing happens any more
"""

from __future__ import annotations

import select
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.response_writer import ResponseWriter
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import ERRORS

__all__ = ["Connection", "ConnectionPhase", "ConnectionProtocol"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_DROP: Final = 65536
"""Bytes that are read and dropped at once of a lingering client."""
_LINGER: Final = 5.0
"""Seconds for a client to read a last answer before it is reset."""


class ConnectionPhase(Enum):
    """Where a connection stands."""

    OPEN = "open"
    LINGERING = "lingering"
    CLOSED = "closed"


_OPEN: Final = ConnectionPhase.OPEN
_LINGERING: Final = ConnectionPhase.LINGERING
_CLOSED: Final = ConnectionPhase.CLOSED


class ConnectionProtocol(Protocol):
    """What a connection speaks, such as HTTP/1.1."""

    @property
    def state_name(self) -> str:
        """What `reactor-run status` counts it as."""

    @property
    def idle_since(self) -> float:
        """When it fell idle, by the loop's clock; inf if it is not idle."""

    def shed(self) -> bool:
        """Close an idle connection to make room; whether it was closed."""

    def on_readable(self) -> None:
        """Bytes, or FIN, have come."""

    def on_drained(self) -> None:
        """The client has taken all that waited for it."""

    def on_lost(self) -> None:
        """The client is gone: give up what waits for it. The connection closes next."""

    def on_deadline(self) -> None:
        """The time of `due` has passed."""

    def shut(self, grace: float) -> None:
        """The service stops: end when what is in flight is over. `grace`: seconds for a request
        that may be on its way."""


class Connection:
    """One client's connection, from accept to close.

    accepted: when, by the loop's clock.
    deadline, check_at: see `loop.epoll.Deadlined`.
    due: when the protocol wants `on_deadline`, by the loop's clock. It may set `due` and `deadline`
    to a later time by itself; an earlier one is set by `wait_until`.
    events: what it listens to. EPOLLIN alone: the client is read, and nothing waits for it.
    send: the transport's, for answers that are taken whole.
    writer: what waits for the client; None while nothing does.
    """

    __slots__ = (
        "_context",
        "_on_close",
        "_on_readable",
        "accepted",
        "check_at",
        "deadline",
        "due",
        "events",
        "loop",
        "phase",
        "protocol",
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
        """`on_close`: called when it has ended."""
        self.loop = context.loop
        self.accepted = context.loop.now
        self.transport = transport
        self.send = transport.send
        self.phase = _OPEN
        self.writer: ResponseWriter | None = None
        self.deadline = self.check_at = self.due = inf
        self._context = context
        self._on_close = on_close
        self.events = _IN

    def begin(self, protocol: ConnectionProtocol) -> None:
        """Speak `protocol` from now on. Raises OSError."""
        self.protocol = protocol
        self._on_readable = protocol.on_readable
        self.loop.watch(self.transport.fileno(), _IN, self._on_events)

    # What happens on the socket ------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
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
        """The client is listened to."""
        return bool(self.events & _IN)

    def read(self, on: bool) -> None:
        """Listen to the client, or do not."""
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
        """Send what the kernel takes, keep the rest; `data` is only lent."""
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
                writer.add(data)
        except OSError as error:
            limited.error("an answer could not be spooled: %s", error)
            self.lose()

    def _begin_to_wait(self, data: bytes | memoryview) -> None:
        context = self._context
        rate = MinimumRate(context.response_timeout, context.min_response_rate)
        self.writer = writer = ResponseWriter(self.transport, context.answer_file_max, rate)
        writer.add(data)
        writer.begin_to_wait(self.loop.now)
        self._listen(self.events | _OUT)
        self._reckon()

    def restrain(self, source: AnswerSource) -> None:
        """Pause the source of an answer while the client has too much to take already."""
        if self.writer is not None:
            self.writer.restrain(source)

    def release(self) -> None:
        """No source waits for the client any more."""
        if self.writer is not None:
            self.writer.release()

    def _flush(self) -> None:
        """The client takes bytes again."""
        writer = self.writer
        if writer is None:
            return
        try:
            writer.flush(self.loop.now)
        except OSError:
            self.lose()
            return
        if not writer.waiting:
            self.writer = None
            self._listen(self.events & ~_OUT)
        self._reckon()
        if self.writer is None:
            self.protocol.on_drained()

    # Deadlines -----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Call the protocol's `on_deadline` so many seconds from now; 0: never."""
        self.wait_until(self.loop.now + seconds if seconds else inf)

    def wait_until(self, when: float) -> None:
        """Call the protocol's `on_deadline` at a time of the loop's clock; inf: never."""
        self.due = when
        self._reckon()

    def _reckon(self) -> None:
        when = self.due
        if self.writer is not None:
            when = min(when, self.writer.due)
        self.loop.set_deadline_at(self, when)

    def on_deadline(self) -> None:
        """The client, or what it waits for, took too long."""
        now = self.loop.now
        if self.phase is _LINGERING:
            self.close()
        elif self.due <= now:
            self.due = inf
            self.protocol.on_deadline()
        elif self.writer is not None and self.writer.is_overdue(now):
            limited.info("a client took too little of its answer for too long")
            self.abort()
        else:
            # It has taken some of its answer after all.
            self._reckon()

    # The end -------------------------------------------------------------------------------------

    def linger(self) -> None:
        """Let the client read the last answer, then close."""
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
        """Read what a lingering client still sends."""
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
        """What `reactor-run status` counts it as."""
        return "lingering" if self.phase is _LINGERING else self.protocol.state_name

    def close_if_silent(self) -> bool:
        """Close the connection unless something has come that was not read; whether it was."""
        try:
            arrived = self.transport.has_arrived
        except OSError:
            # It was reset, as its next event tells.
            return False
        if not arrived:
            self.close()
        return not arrived

    def reset_on_close(self) -> None:
        """Have the close show that the answer is cut."""
        self.transport.reset_on_close()

    def abort(self) -> None:
        """Close, so that the client sees that something is missing."""
        self.transport.reset_on_close()
        self.lose()

    def lose(self) -> None:
        """The client is gone, or as good as gone."""
        if self.phase is _OPEN:
            self.protocol.on_lost()
        self.close()

    def on_fault(self) -> None:
        """An error of ours: what the client has got is uncertain."""
        self.lose()

    def close(self) -> None:
        """End the connection."""
        if self.phase is _CLOSED:
            return
        self.phase = _CLOSED
        loop = self.loop
        loop.unwatch(self.transport.fileno())
        loop.forget(self)
        loop.bury(self.transport)
        if self.writer is not None:
            self.writer.close()
        self._on_close(self)
