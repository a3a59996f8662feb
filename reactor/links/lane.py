"""The reactor's end of a plain lane.

A lane is one socketpair. It carries one exchange at a time, in raw HTTP/1.1.

Lanes are registered edge-triggered for reading, because a socket at its end stays readable for
ever. `readable` remembers an edge until a read finds no more bytes. Writing is watched only while
the kernel's buffer is full.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from reactor_run.outgoing import Outgoing
from reactor_run.pulse import BEGUN, WAITS, Pulse
from reactor_run.reactor.links.answer_file import PIECE_MAX, TURN_MAX, AnswerFile, ShortFileError
from reactor_run.reactor.log import limited

__all__ = ["CONTINUE", "LANE_READ", "LaneEnd", "LaneLoop", "LaneUser"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""RFC 9110 §10.1.1."""

_SEND_BUFFER = 1 << 20
"""Bytes of the kernel's send buffer that a lane asks for (SO_SNDBUF). A large buffer wakes both
processes less often during a large answer. Linux doubles the value for its own records, and limits
it to `net.core.wmem_max`."""
LANE_READ = 65536
"""Most bytes that one read takes from a lane. With more, malloc would map and unmap memory for each
read."""

_IN = select.EPOLLIN
_ENDS = select.EPOLLHUP | select.EPOLLERR
READ_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_IOV_MAX = 64
_JOIN_MAX = 16384
"""Bytes up to which joining the pieces of an answer costs less than sending them as a list."""


class LaneUser(Protocol):
    """The part of an exchange that its lane uses."""

    def on_read_ready(self) -> None:
        """Read the lane: it has bytes, or its end."""

    def on_write_ready(self) -> None:
        """Go on writing: the lane takes bytes again."""

    def on_gone(self) -> None:
        """Tell the app that the client is gone."""


U = TypeVar("U", bound=LaneUser)
U_contra = TypeVar("U_contra", bound=LaneUser, contravariant=True)


class LaneLoop(Protocol[U_contra]):
    """The part of the reactor's loop that lanes use."""

    pulse: Pulse

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with each epoll event mask of `fd`."""

    def modify(self, fd: int, events: int) -> None:
        """Change the epoll events that are watched on `fd`."""

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`."""

    def bury(self, sock: socket.socket) -> None:
        """Close a socket at the next flush."""

    def give_up(self, exchange: U_contra) -> None:
        """Tell the app that the client is gone: the front end has closed the lane."""

    def cancel(self, exchange: U_contra) -> None:
        """Cancel the app of an exchange."""


class LaneEnd(Generic[U]):
    """The reactor's end of one plain lane."""

    __slots__ = (
        "__weakref__",
        "_ending",
        "_file",
        "_half_closing",
        "_on_close",
        "_on_request",
        "_watching",
        "closed",
        "exchange",
        "fd",
        "number",
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
        on_request: Callable[[LaneEnd[U]], None],
        on_close: Callable[[LaneEnd[U]], None],
    ) -> None:
        """`on_request` is called when bytes arrive and the lane has no exchange. `on_close` is
        called when this end is closed. `slot`: the byte of the pulse that shows whether the
        exchange on this lane has begun."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.reactor = reactor
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number
        self.slot = slot
        self._on_request = on_request
        self._on_close = on_close
        self.exchange: U | None = None
        self.partial = b""
        """The first bytes of a request whose head is not complete yet."""
        self.readable = False
        """A read may find bytes, or the end."""
        self._ending = False
        """The front end has sent FIN. Bytes before the FIN may still be unread."""
        self.closed = False
        self.reading = threading.Lock()
        """A thread holds this lock while it reads for a WSGI app, also while it waits."""
        self.writing = threading.Lock()
        """A thread holds this lock while it writes for a WSGI app, also while it waits."""
        self.out = Outgoing()
        """Output that the kernel has not taken yet."""
        self._file: AnswerFile | None = None
        """What follows the bytes in `out`, and ends the answer."""
        self._watching = False
        self._half_closing = False
        reactor.watch(self.fd, READ_EVENTS, self.on_events)

    def on_events(self, events: int) -> None:
        """Handle the epoll events of this lane."""
        exchange = self.exchange
        if events == _IN and exchange is None:
            # The next request is by far the most frequent event.
            self.readable = True
            self._on_request(self)
            return
        if events & _ENDS:
            # The front end closed its end: the client is gone, or the lane is not needed any more.
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
            else:
                self._on_request(self)

    def read(self) -> bytes | None:
        """Read at most LANE_READ bytes. Returns b"" at the end, and None if no byte is there
        now."""
        if not self.readable:
            return None
        try:
            data = self.sock.recv(LANE_READ)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            return b""
        # A stream socket that returns fewer bytes than asked for has no more bytes now, apart from
        # its end (epoll(7)).
        if len(data) < LANE_READ and not self._ending:
            self.readable = False
        return data

    def wait_begins(self) -> None:
        """Show in the pulse that the app waits for more of the body."""
        self.reactor.pulse.lanes[self.slot] = WAITS

    def wait_ends(self) -> None:
        """Show in the pulse that the app waits no longer."""
        self.reactor.pulse.lanes[self.slot] = BEGUN

    def send_interim(self, head: bytes) -> None:
        """Send a 1xx answer before the answer begins. Thread-safe. Raises OSError."""
        self.write([head])

    def switch_protocols(self, head: bytes) -> None:
        """Send the head of a 101 answer. What follows are frames of a WebSocket. Raises OSError."""
        self.write([head])

    def write_frame(self, frame: bytes) -> None:
        """Send a frame of a WebSocket. Raises OSError."""
        self.write([frame])

    def write_close_frame(self, frame: bytes) -> None:
        """Send the last frame of a WebSocket. Raises OSError."""
        self.write([frame])

    def finish(self, *, until_close: bool) -> None:
        """Complete the answer. `until_close`: it ends with its connection."""
        if until_close:
            self._half_close()

    def write(self, pieces: list[bytes]) -> None:
        """Send as much of `pieces` as the kernel takes, and keep the rest in `out`.

        Raises OSError if the front end has closed its end.
        """
        if not self.out.size and self._file is None and sum(map(len, pieces)) <= _JOIN_MAX:
            # By far the most frequent case: few bytes, and no earlier bytes wait in `out`.
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

    def send_file(self, file: AnswerFile) -> None:
        """Send a part of a file after the next `write`, as the end of the body, and close it."""
        if self.closed:
            file.close()
        else:
            self._file = file

    def flush(self) -> None:
        """Send what waits: `out`, then the file. Called when the kernel takes bytes again."""
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
            if self._file is not None:
                self._send_file(self._file)
        except BlockingIOError:
            # If the events are watched already, this has epoll report again that the lane takes
            # bytes, should it take them now.
            if not self._watching or self._file is not None:
                self._watching = True
                self.reactor.modify(self.fd, READ_EVENTS | select.EPOLLOUT)
            return
        if self._watching:
            self._watching = False
            self.reactor.modify(self.fd, READ_EVENTS)
        if self._half_closing:
            self.sock.shutdown(socket.SHUT_WR)

    def _send_file(self, file: AnswerFile) -> None:
        """Send the file. Raises BlockingIOError if more of it is left for another turn."""
        turn_ends = file.offset + TURN_MAX
        try:
            while file.left:
                if file.offset >= turn_ends:
                    raise BlockingIOError
                file.sent(os.sendfile(self.fd, file.fd, file.offset, min(file.left, PIECE_MAX)))
        except BlockingIOError:
            raise
        except OSError as error:
            if isinstance(error, ShortFileError):
                limited.error("%s; the answer is aborted", error, kind=str(error))
            self.close()
            raise
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # For WSGI: the app's thread waits in the kernel, not in the loop ---------------------------

    def read_blocking(self, size: int) -> bytes:
        """Wait for bytes, and return at most `size`. Returns b"" at the end. Raises OSError."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def write_blocking(self, pieces: list[bytes]) -> None:
        """Write all of `pieces`. Raises OSError if the front end has closed its end."""
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

    def send_file_blocking(self, fd: int, offset: int, count: int) -> None:
        """Send `count` bytes of file descriptor `fd`, from byte `offset`, by sendfile(2).

        Raises OSError if the front end has closed its end, and EOFError if the file ends early.
        """
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
        """Whether a thread holds `reading` or `writing`."""
        return self.reading.locked() or self.writing.locked()

    def interrupt(self) -> None:
        """Wake the threads that wait for this lane, and close it.

        `close` alone would not be enough: the kernel keeps the socket open while a thread waits in
        it (close(2), "Multithreaded processes and close()").
        """
        if not self.closed or self.sock.fileno() >= 0:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.close()

    # The end -----------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Take no further request, and do not report the lane's end.

        Bytes that still arrive belong to an old request, or follow it. A client chose them, so they
        must never be read as a request.
        """
        self._on_request = self._on_close = _ignore

    def _half_close(self) -> None:
        """Send FIN after the last byte of an answer that ends with its connection.

        This end stays open for reading. If it were closed too, the answer would look aborted.
        """
        self._half_closing = True
        if not self.out.size:
            self._send()

    def end(self) -> None:
        """Close this end after the front end's FIN, when the lane has no exchange.

        While bytes of the last answer wait, nothing happens. The front end closes its own
        end when it has read them, and this closes the lane.
        """
        if not self.out.size and self._file is None:
            self.close()

    def close(self) -> None:
        """Close this end. The front end sees an incomplete answer as aborted."""
        if not self.closed:
            self.closed = True
            self.out.clear()
            self._close_file()
            self.reactor.unwatch(self.fd)
            self.reactor.bury(self.sock)
            self._on_close(self)


def _ignore(lane: object) -> None:
    """Do nothing: bytes on a lane that was given up stay in the kernel until it is closed."""
