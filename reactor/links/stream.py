"""One exchange on the express lane that does not fit into one message each way.

The body of the request arrives in pieces (stream_body.py), or the answer leaves in pieces. The
answer has a window: it stops after WINDOW bytes that the front end has not credited.

The first piece of an answer goes to the front end, with the head. The rest takes one of two ways:

    state     the rest of the answer
    UNSENT    nothing was sent yet
    ASKED     it waits: the front end was asked whether this reactor may write it
    GRANTED   it is written to the client's socket
    RELAYED   it goes to the front end as BYTES, which it credits
    ENDED     the answer is complete, cut, or not wanted any more
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

from reactor_run.outgoing import Outgoing
from reactor_run.protocol.express import (
    ABORT,
    ASK,
    BEGIN,
    BLOCKED,
    BYTES,
    END,
    EXPRESS_MAX,
    GIVE_BACK,
    INTERIM,
    MOVES,
    PART,
    PIECE_MAX,
    WINDOW,
    WRITTEN,
    pack_message,
    pack_number,
)
from reactor_run.reactor.links import answer_file
from reactor_run.reactor.links.answer_file import TURN_MAX, AnswerFile, ShortFileError
from reactor_run.reactor.links.client_sockets import ClientDuplicate
from reactor_run.reactor.links.stream_body import BodyLoop, BodyPort, StreamBody
from reactor_run.reactor.log import limited

__all__ = ["StreamEnd", "StreamLoop", "StreamPort", "StreamUser"]

_FIRST_MAX: Final = 2048
"""Bytes of an answer that go to the front end first, with its head, if the rest may go to the
client directly. The front end copies them, so they are few."""


class StreamUser(Protocol):
    """The part of an exchange that its stream uses."""

    @property
    def name(self) -> str:
        """The method and target of the request, for the log."""

    def on_read_ready(self) -> None:
        """Handle that a piece of the body has arrived, or FIN."""

    def on_write_ready(self) -> None:
        """Handle that fewer bytes wait."""

    def on_gone(self) -> None:
        """Handle that the client is gone."""


class StreamPort(BodyPort, Protocol):
    """The part of the express port that streams use."""

    streams: dict[int, StreamEnd]

    def gather_piece(self, number: int, kind: int, piece: bytes | memoryview) -> None:
        """Gather a piece of an answer. The caller may reuse its memory."""

    def take_offer(self, number: int) -> ClientDuplicate | None:
        """Return the client if the answer of an exchange may be written to it. Then it must be."""

    def refuse_offer(self, number: int) -> None:
        """Let the front end write the answer of an exchange."""


class StreamLoop(BodyLoop, Protocol):
    """The part of the reactor's loop that streams use."""

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with each epoll event mask of `fd`."""

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call `function` in a later turn of the loop."""


class _State(Enum):
    UNSENT = "unsent"
    ASKED = "asked"
    GRANTED = "granted"
    RELAYED = "relayed"
    ENDED = "ended"


_UNSENT: Final = _State.UNSENT
_ASKED: Final = _State.ASKED
_GRANTED: Final = _State.GRANTED
_RELAYED: Final = _State.RELAYED
_ENDED: Final = _State.ENDED


class StreamEnd:
    """The pieces of one exchange. It belongs to the loop's thread."""

    __slots__ = (
        "_answer_credit",
        "_asks",
        "_client",
        "_closing",
        "_file",
        "_finishing",
        "_frames",
        "_loop",
        "_number",
        "_port",
        "_state",
        "_watching",
        "_written",
        "body",
        "closed",
        "exchange",
        "out",
    )

    keeps_grant: bool = True
    """It waits until the client takes more. If false, the front end gets what the client does not
    take, so that neither the app nor its memory waits for a slow client."""

    def __init__(
        self,
        loop: StreamLoop,
        port: StreamPort,
        number: int,
        exchange: StreamUser | None,
        *,
        asks: bool,
    ) -> None:
        """`exchange`: None until it is made. `asks`: ask to write to the client directly."""
        self.exchange = exchange
        self.out = Outgoing()
        """Bytes of the answer that neither the kernel nor the link has taken."""
        self.closed = False
        """Nothing more of the answer is sent."""
        self._loop = loop
        self._port = port
        self._number = number
        self._asks = asks
        self._state = _UNSENT
        self._answer_credit = WINDOW
        """Bytes that may be sent as BYTES."""
        self._client: ClientDuplicate | None = None
        self._written = 0
        """Bytes written to the client since the grant."""
        self._watching = False
        """The client takes no more now; epoll will report when it does."""
        self._file: AnswerFile | None = None
        """What follows the bytes in `out`, and ends the answer."""
        self._finishing = False
        """The answer is complete after the bytes in `out` and the file."""
        self._frames = False
        """It carries a WebSocket, and other frames may follow those that are written."""
        self._closing = False
        """It carries a WebSocket, and the last frame was written."""
        self.body = StreamBody(loop, port, number)
        """The body of the request."""
        port.streams[number] = self

    # The body of the request ---------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Take a piece of the body from the front end."""
        self.body.arrived(data)
        self._read_ready()

    def on_fin(self) -> None:
        """Note the client's FIN. It counts after the pieces that have arrived."""
        self.body.fin = True
        self._read_ready()

    def _read_ready(self) -> None:
        if self.exchange is not None:
            self.exchange.on_read_ready()

    def read(self) -> bytes | None:
        """Return the next piece of the body; b"" after FIN; None if none has arrived."""
        data = self.body.take()
        if data:
            self.body.taken(len(data))
        return data

    def wait_begins(self) -> None:
        """Show the front end that the app waits for more of the body."""
        self.body.wait_begins()

    def wait_ends(self) -> None:
        """Show the front end that the app waits no longer."""
        self.body.wait_ends()

    # The answer ----------------------------------------------------------------------------------

    def send_interim(self, head: bytes) -> None:
        """Send a 1xx answer before the answer begins. The front end writes both, in order."""
        self._port.refuse_offer(self._number)
        self._port.gather(pack_message(self._number, INTERIM, len(head)), head)
        self._loop.flush_soon()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Send `pieces` of the answer, and keep in `out` what cannot be sent now.

        The first piece of an answer is its head. Raises OSError once the client is gone.
        """
        if self.closed:
            raise BrokenPipeError("the client is gone")
        for piece in pieces:
            self.out.add(piece)
        self._send()

    def switch_protocols(self, head: bytes) -> None:
        """Send the head of a 101 answer. What follows are frames of a WebSocket."""
        self._port.gather(pack_message(self._number, BEGIN, len(head)), head)
        self._state = _RELAYED
        self._frames = True

    def write_frame(self, frame: bytes) -> None:
        """Send a whole frame of a WebSocket. Raises OSError once the client is gone."""
        if self.closed:
            raise BrokenPipeError("the client is gone")
        size = len(frame)
        if self.out.size or size > self._answer_credit or size > PIECE_MAX:
            self.out.add(frame)
            self._send()
        else:
            self._answer_credit -= size
            self._port.gather(pack_message(self._number, BYTES, size), frame)

    def write_close_frame(self, frame: bytes) -> None:
        """Send the last frame of a WebSocket. Raises OSError once the client is gone.

        It is a PART, so that the front end adds no close frame of its own if this reactor dies.
        """
        if self.closed:
            raise BrokenPipeError("the client is gone")
        self._closing = True
        self.out.add(frame)
        self._send()

    def send_file(self, file: AnswerFile) -> None:
        """Send a part of a file after the bytes in `out`, as the end of the body, and close it."""
        if self.closed:
            file.close()
        else:
            self._file = file

    def write_whole(
        self, pieces: Iterable[bytes], client: ClientDuplicate | None, written: int
    ) -> None:
        """Send a whole answer. `client`: it may be written there, and has `written` bytes of it."""
        for piece in pieces:
            self.out.add(piece)
        self._finishing = True
        if client is not None:
            self.out.drop(written)
            self._client = client
            self._written = written
            self._state = _GRANTED
        self._go_on()

    def finish(self, *, until_close: bool) -> None:
        """Complete the answer, after the bytes that wait."""
        if not self._finishing and not self.closed:
            self._finishing = True
            self._send()

    @property
    def waiting(self) -> bool:
        """Whether bytes of the answer wait in this process."""
        return bool(self.out.size) or self._file is not None

    def _send(self) -> None:
        """Send what the client or the window allows. Raises OSError once the client is gone."""
        if self._watching or self._state is _ASKED or self._state is _ENDED:
            return
        if self._state is _UNSENT and self._begin() is _ASKED:
            return
        turn_ends = self._written + TURN_MAX
        try:
            while self.waiting:
                if self._written >= turn_ends:
                    self._loop.call_soon(self._go_on)
                    return
                self._send_some()
        except BlockingIOError:
            if self._state is _GRANTED:
                self._blocked()
            return
        except OSError:
            self.close()
            raise
        if self._finishing:
            self._complete()

    def _begin(self) -> _State:
        """Send the head, with the first bytes of the body; return the next state."""
        if self._asks:
            self._client = self._port.take_offer(self._number)
            if self._client is not None:
                head = self.out.first_until(b"\r\n\r\n")
                self._port.gather(pack_message(self._number, ASK, len(head)), head)
                self._state = _GRANTED
                return self._state
        size = _FIRST_MAX if self._asks else EXPRESS_MAX
        first = self.out.take(max(size, self.out.first_size))
        kind = ASK if self._asks else BEGIN
        self._port.gather(pack_message(self._number, kind, len(first)), first)
        self._state = _ASKED if self._asks else _RELAYED
        return self._state

    def _send_some(self) -> None:
        """Send once. Raises BlockingIOError if nothing can be sent now."""
        client = self._client
        if self.out.size:
            sent = self.out.send(self if client is None else client)
        else:
            assert self._file is not None
            sent = self._send_file_piece(self._file)
        if client is not None:
            self._written += sent

    def _send_file_piece(self, file: AnswerFile) -> int:
        if self._client is not None:
            size = min(file.left, answer_file.PIECE_MAX)
            sent = self._client.send_file(file.fd, file.offset, size)
        elif not self._answer_credit:
            raise BlockingIOError
        else:
            piece = file.read(min(PIECE_MAX, self._answer_credit))
            sent = self.send(piece) if piece else 0
        try:
            file.sent(sent)
        except ShortFileError as error:
            limited.error("%s; the answer is aborted", error, kind=str(error))
            raise
        if not file.left:
            self._close_file()
        return sent

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # As the `Writable` of `out`, while the answer is relayed.

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a piece as BYTES; return how many bytes the window took.

        A piece that does not end with a whole frame of a WebSocket is a PART.
        """
        size = min(len(data), PIECE_MAX, self._answer_credit)
        if not size:
            raise BlockingIOError
        self._answer_credit -= size
        kind = PART if self._closing or (self._frames and size < len(data)) else BYTES
        self._port.gather_piece(self._number, kind, data[:size])
        return size

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send several pieces as one message of BYTES."""
        return self.send(b"".join(buffers))

    # What the front end says ---------------------------------------------------------------------

    def granted(self, client: ClientDuplicate | None) -> None:
        """Write the rest to the client. None: there is no descriptor, so it goes over the link."""
        if self._state is not _ASKED:
            return
        self._state = _GRANTED
        self._client = client
        if client is None:
            self._give_back()
        self._go_on()

    def relayed(self) -> None:
        """Send the rest as BYTES: the front end does not grant that this reactor writes it."""
        if self._state is _ASKED:
            self._state = _RELAYED
            self._go_on()

    def credited(self, count: int) -> None:
        """Send more BYTES: the front end has taken `count` bytes."""
        self._answer_credit += count
        if self._state is _RELAYED:
            self._go_on()

    def _go_on(self) -> None:
        """Send on, and tell the exchange. The loop calls this, so nothing is raised."""
        try:
            self._send()
        except OSError:
            if self.exchange is not None:
                self.exchange.on_gone()
            return
        self._write_ready()

    def _write_ready(self) -> None:
        if self.exchange is not None:
            self.exchange.on_write_ready()

    # The client's socket -------------------------------------------------------------------------

    def _blocked(self) -> None:
        """The client takes no more now: wait for it, or let the front end wait for it."""
        if not self.keeps_grant and self._file is None:
            self._give_back()
            self._send()
            return
        assert self._client is not None
        self._watching = True
        self._client.unwatch = self._unwatch
        self._loop.watch(self._client.fileno(), select.EPOLLOUT, self._on_client)
        self._port.gather(pack_number(self._number, BLOCKED, self._written))

    def _on_client(self, _: int) -> None:
        """The client takes bytes again, or its connection has ended."""
        self._unwatch()
        self._go_on()
        if not self._watching and not self.closed:
            self._port.gather(pack_number(self._number, MOVES, self._written))

    def _unwatch(self) -> None:
        if self._watching:
            assert self._client is not None
            self._watching = False
            self._client.unwatch = None
            self._loop.unwatch(self._client.fileno())

    def _give_back(self) -> None:
        """Give the grant back. The rest goes over the link."""
        self._port.gather(pack_number(self._number, GIVE_BACK, self._written))
        self._client = None
        self._state = _RELAYED

    # The end -------------------------------------------------------------------------------------

    def _complete(self) -> None:
        if self._state is _GRANTED:
            self._port.gather(pack_number(self._number, WRITTEN, self._written))
        else:
            self._port.gather(pack_message(self._number, END))
        self._over()

    def close(self) -> None:
        """Abort the answer, unless it is complete, so that the client sees that it is cut."""
        if not self.closed:
            if self._state is not _UNSENT:
                self._port.gather(pack_message(self._number, ABORT))
                self._loop.flush_soon()
            self._over()

    def drop(self) -> None:
        """Send and take nothing more: the client is gone, or the exchange is given back."""
        if not self.closed:
            self._over()
        self._forget()
        self.on_fin()

    def release(self) -> None:
        """Forget the exchange: its app is done. Bytes that wait are still sent."""
        self.exchange = None
        self.body.drop()
        if self.closed or self._state is _UNSENT:
            self.closed = True
            self._forget()

    def _over(self) -> None:
        """End the answer. The body may still arrive."""
        self._unwatch()
        self._state = _ENDED
        self.closed = True
        self.out.clear()
        self._close_file()
        self._client = None
        if self.exchange is None:
            self._forget()

    def _forget(self) -> None:
        """Take no more messages for this exchange.

        If a thread of a WSGI app sends early hints while the answer is completed, the answer has a
        stream of its own. That one goes on.
        """
        if self._port.streams.get(self._number) is self:
            del self._port.streams[self._number]
