"""Lanes: one socketpair each, one exchange at a time, raw HTTP/1.1.

A lane that the front end opened carries requests here and their answers back. One that this
reactor opened carries only the answer of an exchange that came on the express lane and outgrew it.

Lanes are registered edge-triggered for reading, because a socket at its end stays readable for
ever; `readable` remembers an edge until a read finds nothing more. Writing is watched only while
the kernel would block.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from reactor_run.outgoing import Outgoing

__all__ = ["LANE_READ", "LaneEnd", "LaneLoop", "LaneUser"]

_SEND_BUFFER = 1 << 20
"""Bytes asked for as the kernel's buffer of what is sent: the more, the fewer times both processes
are woken for a large answer. Linux gives twice as much, for its bookkeeping, and no more than
`net.core.wmem_max` allows."""
LANE_READ = 65536
"""Bytes taken from a lane at once. More, and malloc would map and unmap memory for each read."""

_IN = select.EPOLLIN
_ENDS = select.EPOLLHUP | select.EPOLLERR
READ_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_IOV_MAX = 64
_JOIN_MAX = 16384
"""Bytes up to which it is cheaper to join pieces than to hand them over apart."""


class LaneUser(Protocol):
    """An exchange, as its lane knows it."""

    def on_read_ready(self) -> None:
        """The lane has bytes, or its end."""

    def on_write_ready(self) -> None:
        """The lane takes bytes again."""

    def on_gone(self) -> None:
        """The client is gone."""


U = TypeVar("U", bound=LaneUser)
U_contra = TypeVar("U_contra", bound=LaneUser, contravariant=True)


class LaneLoop(Protocol[U_contra]):
    """The reactor's loop, as lanes know it."""

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the epoll events of `fd` as they come."""

    def modify(self, fd: int, events: int) -> None:
        """Change what is listened to."""

    def unwatch(self, fd: int) -> None:
        """Listen no more."""

    def bury(self, sock: socket.socket) -> None:
        """Close a socket later."""

    def give_up(self, exchange: U_contra) -> None:
        """The front end has closed the lane of an exchange: the client is gone."""

    def cancel(self, exchange: U_contra) -> None:
        """End the app of an exchange."""


class LaneEnd(Generic[U]):
    """This reactor's end of a lane."""

    __slots__ = (
        "__weakref__",
        "_ending",
        "_half_closing",
        "_on_close",
        "_on_request",
        "_watching",
        "closed",
        "exchange",
        "fd",
        "number",
        "opened_here",
        "out",
        "partial",
        "reactor",
        "readable",
        "reading",
        "slot",
        "sock",
        "writing",
    )

    def __init__(
        self,
        reactor: LaneLoop[U],
        sock: socket.socket,
        number: int,
        slot: int = 0,
        *,
        on_request: Callable[[LaneEnd[U]], None] | None,
        on_close: Callable[[LaneEnd[U]], None],
    ) -> None:
        """`on_request` is called when bytes come and no exchange is under way; a lane without it
        was opened by this reactor, for answers. `slot`: where the front end looks whether an
        exchange on this lane has begun."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.reactor = reactor
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number
        self.slot = slot
        self.opened_here = on_request is None
        self._on_request = on_request
        self._on_close = on_close
        self.exchange: U | None = None
        self.partial = b""
        """Bytes of a request that is not whole yet, or of a body that nobody asked for yet."""
        self.readable = False
        self._ending = False
        """The front end has sent FIN, behind whatever else is to be read."""
        self.closed = False
        self.reading = threading.Lock()
        self.writing = threading.Lock()
        """Held by a thread that reads or writes for a WSGI app, also while it waits."""
        self.out = Outgoing()
        """What the kernel has not taken yet."""
        self._watching = False
        self._half_closing = False
        reactor.watch(self.fd, READ_EVENTS, self.on_events)

    def on_events(self, events: int) -> None:
        """The loop's word that something happened on this lane."""
        exchange = self.exchange
        if events == _IN and exchange is None and self._on_request is not None:
            # By far the most frequent: the next request.
            self.readable = True
            self._on_request(self)
            return
        if events & _ENDS:
            # The front end closed its end: the client is gone, or the lane is no longer wanted.
            self.readable = self._ending = True
            if exchange is None:
                self.close()
            else:
                self.reactor.give_up(exchange)
            return
        if events & select.EPOLLOUT and self._watching:
            self.flush()
            if exchange is not None and not self.closed:
                exchange.on_write_ready()
        if events & (select.EPOLLIN | select.EPOLLRDHUP):
            self.readable = True
            if events & select.EPOLLRDHUP:
                self._ending = True
            if exchange is not None:
                exchange.on_read_ready()
            elif self._on_request is None:
                self.end()
            else:
                self._on_request(self)

    def read(self) -> bytes | None:
        """The next bytes; b"" at the end, None when there is nothing now."""
        if not self.readable:
            return None
        try:
            data = self.sock.recv(LANE_READ)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            return b""
        # A stream socket that gives less than asked for has no more, except for its end (epoll(7)).
        if len(data) < LANE_READ and not self._ending:
            self.readable = False
        return data

    def write(self, pieces: list[bytes]) -> None:
        """Send what the kernel takes of `pieces`, keep the rest. Raises OSError if nobody reads."""
        if not self.out.size and sum(map(len, pieces)) <= _JOIN_MAX:
            # Small, and nothing waits before it: by far the most frequent.
            whole = b"".join(pieces)
            try:
                sent = self.sock.send(whole)
            except BlockingIOError:
                sent = 0
            if sent == len(whole):
                return
            pieces = [whole[sent:]]
        for piece in pieces:
            self.out.add(piece)
        if not self._watching:
            self._send()

    def flush(self) -> None:
        """Go on with what was kept; called when the kernel takes bytes again."""
        try:
            self._send()
        except OSError:
            if self.exchange is not None:
                self.exchange.on_gone()
            else:
                self.close()

    def _send(self) -> None:
        try:
            while self.out.size:
                self.out.send(self.sock)
        except BlockingIOError:
            if not self._watching:
                self._watching = True
                self.reactor.modify(self.fd, READ_EVENTS | select.EPOLLOUT)
            return
        if self._watching:
            self._watching = False
            self.reactor.modify(self.fd, READ_EVENTS)
        if self._half_closing:
            self.sock.shutdown(socket.SHUT_WR)

    # For WSGI: the app's thread waits in the kernel, not in the loop ---------------------------

    def read_blocking(self, size: int) -> bytes:
        """The next bytes, at most `size`; b"" at the end. Raises OSError."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def write_blocking(self, pieces: list[bytes]) -> None:
        """Write all of `pieces`. Raises OSError if nobody reads any more."""
        views = [memoryview(piece) for piece in pieces if piece]
        while views:
            try:
                sent = self.sock.sendmsg(views[:_IOV_MAX])
            except BlockingIOError:
                self._wait(select.POLLOUT)
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send `count` bytes of a file. Raises OSError, and EOFError if the file ends before."""
        while count:
            try:
                sent = os.sendfile(self.fd, fd, offset, count)
            except BlockingIOError:
                self._wait(select.POLLOUT)
                continue
            if not sent:
                raise EOFError("the file ended before its declared size")
            offset += sent
            count -= sent

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self.fd, events)
        poll.poll()

    @property
    def in_use(self) -> bool:
        """A thread is within one of the above, or about to find that its exchange has ended."""
        return self.reading.locked() or self.writing.locked()

    def interrupt(self) -> None:
        """Wake the threads that wait for this lane, and close it. Closed alone, it would stay open
        for them, and for the front end (close(2), "Multithreaded processes and close")."""
        if not self.closed or self.sock.fileno() >= 0:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.close()

    # The end -----------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Take no further request, and tell nobody of the lane's end. What still comes is the rest
        of a request, or beyond one: a client chose it, and it must not be taken for a request.
        """
        self._on_request = self._on_close = _ignore

    def half_close(self) -> None:
        """End an answer that lasts until the connection closes, once all of it has gone.

        This end stays open: closed too, it would look like an answer that was cut.
        """
        self._half_closing = True
        if not self.out.size:
            self._send()

    def end(self) -> None:
        """The front end sends nothing more, and no exchange is under way: close this end.

        Unless the last answer is still on its way: then the front end closes its own, when it has
        all of it, and that hang-up ends this one.
        """
        if not self.out.size:
            self.close()

    def close(self) -> None:
        """Close this end. An answer that was not complete is thereby seen to be cut."""
        if not self.closed:
            self.closed = True
            self.out.clear()
            self.reactor.unwatch(self.fd)
            self.reactor.bury(self.sock)
            self._on_close(self)


def _ignore(lane: object) -> None:
    """What comes on a lane that was given up stays in the kernel until the lane is closed."""
