"""The byte stream of one HTTP/2 stream: a request of HTTP/1.1 comes in, an answer goes out.

request   a head, and content as it arrives. What was read makes room in the windows of the
          client (RFC 9113 §5.2), so an app that does not read holds its client up
answer    translated back, and queued in the session. While too much is queued, the transport
          takes no more. Then the rest waits as on any connection (response_writer.py)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from reactor_run.frontend.clients.transport import Transport
from reactor_run.protocol.body import CHUNK_TAIL, LAST_CHUNK, chunk_head
from reactor_run.protocol.http2.answer import AnswerTranslator, Fields
from reactor_run.protocol.http2.session import CANCEL, INTERNAL_ERROR, PROTOCOL_ERROR, Session
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.response_head import BadResponse

__all__ = ["ALL_QUEUED_MAX", "PIECE", "SessionOwner", "StreamTransport"]

_QUEUED_MAX: Final = 65536
"""The bytes of one answer in the session, beyond which the transport takes no more."""
PIECE: Final = 131072
"""The most bytes that it takes at once."""
_LEAST: Final = 1024
"""The bytes of one answer that it takes while the queue is full."""
ALL_QUEUED_MAX: Final = 262144
"""The same for all answers of one connection."""


class SessionOwner(Protocol):
    """The connection that has the session of the stream."""

    session: Session

    def stir(self) -> None:
        """Send the session's output, and look after the streams, at the end of the batch."""

    def answered(self, number: int) -> None:
        """Reset the stream `number` without an error when all of its answer was sent: the rest of
        the request is of no use (RFC 9113 §8.1)."""


class StreamTransport(Transport):
    """The byte stream of one stream: a request of HTTP/1.1 comes in, an answer goes out.

    number: of the stream; 0: it has ended.
    arrived: bytes of content that have arrived and were not read.
    ready: bytes, or the end of a tunnel, can be read.
    sent: bytes of content that the session was given.
    """

    encrypted = True
    """Only this process can write to the client: the answer is translated here."""

    __slots__ = (
        "_broken",
        "_chunked",
        "_fresh",
        "_inbox",
        "_left",
        "_owner",
        "_session",
        "_translator",
        "arrived",
        "number",
        "ready",
        "request_ended",
        "sent",
    )

    def __init__(self, owner: SessionOwner) -> None:
        self.shared = False
        self._owner = owner
        self._session = owner.session
        self._inbox: deque[tuple[memoryview, int]] = deque()
        """What was not read: bytes, and how many bytes of content the client may send for them."""
        self._fresh = bytearray()
        """The content that follows the inbox. A client may send it byte by byte: a piece for each
        would take a hundred times as much memory."""
        self._translator = AnswerTranslator(self, b"")
        self.begin(0)

    # The request ---------------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """Serve the stream `number`, whose content may arrive before `open`."""
        self.number = number
        self._resets = False
        self._broken = False
        """The client is to see that bytes are missing."""
        self._chunked = False
        self._left = -1
        """Bytes of content that are to come by Content-Length; -1: it has none."""
        self.arrived = 0
        self.sent = 0
        self.request_ended = False
        """The client has sent all of the request."""
        self.ready = False

    def put(self, data: bytes, ended: bool) -> None:
        """Take content that has arrived. `ended`: it is the last one."""
        size = len(data)
        if self._left >= 0:
            self._left -= size
            if self._left < 0 or (ended and self._left):
                # The library refuses this too. If it did not, the rest would be another request.
                self.refuse(PROTOCOL_ERROR)
                return
        if size:
            self.arrived += size
            self._fresh += data
            self.ready = True
        if ended:
            self.request_ended = True
            if self._chunked:
                self._settle()
                self._inbox.append((memoryview(LAST_CHUNK), 0))
            self.ready = bool(self._inbox or self._fresh) or self._translator.tunnel

    def _settle(self) -> None:
        """Move what has arrived since the last read to the inbox, in one piece."""
        size = len(self._fresh)
        if not size:
            return
        piece, self._fresh = memoryview(self._fresh), bytearray()
        if self._chunked:
            self._inbox.append((memoryview(chunk_head(size)), 0))
            self._inbox.append((piece, size))
            self._inbox.append((memoryview(CHUNK_TAIL), 0))
        else:
            self._inbox.append((piece, size))

    def open(self, method: bytes, length: int, chunked: bool) -> bytes:
        """Begin to serve the request; return the content that has arrived, if it is all of it.

        `method`, `length`, `chunked`: see `TranslatedHead`.
        """
        self._translator.restart(method)
        if self.request_ended:
            if not self._fresh:
                return b""
            data = bytes(self._fresh)
            self.drop()
            return data
        if length >= 0:
            self._left = length - self.arrived
        self._chunked = chunked
        return b""

    def peek(self) -> bytes:
        """Return the content that has arrived before `open`."""
        return bytes(self._fresh)

    def refuse(self, error: int) -> None:
        """Reset the stream, and serve it no more."""
        self._session.reset(self.number, error)
        self.drop()
        self.number = 0
        self._owner.stir()

    def drop(self) -> None:
        """Drop what has arrived, and let the client send as much."""
        if self.arrived:
            self._session.acknowledge(self.number, self.arrived)
            self.arrived = 0
            self._owner.stir()
        self._inbox.clear()
        self._fresh.clear()
        self.ready = False

    def recv_into(self, space: memoryview, size: int = 0) -> int:
        """Read at most `size` bytes; return how many; 0: the client has ended a tunnel.

        Raises BlockingIOError if there are none.
        """
        size = size or len(space)
        end = 0
        taken = 0
        self._settle()
        inbox = self._inbox
        while inbox and end < size:
            piece, content = inbox[0]
            part = piece[: size - end]
            space[end : end + len(part)] = part
            end += len(part)
            if len(part) == len(piece):
                inbox.popleft()
                taken += content
            else:
                inbox[0] = piece[len(part) :], content
        if taken:
            self.arrived -= taken
            self._session.acknowledge(self.number, taken)
            self._owner.stir()
        if end:
            self.ready = bool(inbox) or (self.request_ended and self._translator.tunnel)
            return end
        self.ready = False
        if self.request_ended and self._translator.tunnel:
            return 0
        raise BlockingIOError

    def recv(self, size: int) -> bytes:
        """Do what `recv_into` does; return the bytes."""
        space = memoryview(bytearray(size))
        return bytes(space[: self.recv_into(space)])

    @property
    def has_arrived(self) -> bool:
        """Whether something goes on: the client must not be taken for idle."""
        return bool(self.number)

    # The answer ----------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Take bytes of `data`; return how many. Raises BlockingIOError while too much is queued.

        A head is taken whole.
        """
        number = self.number
        if not number:
            raise ConnectionResetError
        session = self._session
        queued = session.queued()
        room = PIECE if queued < _QUEUED_MAX else self._room(queued)
        if room <= 0:
            raise BlockingIOError
        if len(data) > room:
            if not self._translator.begun:
                room += bytes(data).find(b"\r\n\r\n") + 4
            data = data[:room]
        try:
            self._translator.feed(data)
        except (BadResponse, Rejected) as error:
            raise ConnectionAbortedError(f"an answer cannot be translated: {error}") from error
        if self.request_ended and self._translator.tunnel:
            # The client has ended a WebSocket before its answer.
            self.ready = True
        self._owner.stir()
        return len(data)

    def _room(self, queued: int) -> int:
        """Return how many bytes the session may be given, which has `queued` bytes."""
        mine = self._session.queued(self.number)
        if queued < ALL_QUEUED_MAX:
            return PIECE if mine < _QUEUED_MAX else 0
        # The clients of other streams may not take theirs. What can be sent at once does not wait
        # for them. A stream that waits has something in the queue, so that its turn comes.
        room = 0
        if queued < ALL_QUEUED_MAX + PIECE + _QUEUED_MAX:
            room = min(self._session.window(self.number), _QUEUED_MAX) - mine
        return room if mine else max(room, _LEAST)

    def sendmsg(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Take several pieces; see `send`."""
        taken = 0
        try:
            for piece in pieces:
                size = self.send(piece)
                taken += size
                if size < len(piece):
                    break
        except BlockingIOError:
            if not taken:
                raise
        return taken

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Take at most `count` bytes of a file; see `send`."""
        return self.send(os.pread(fd, min(count, _QUEUED_MAX), offset))

    @property
    def unacknowledged(self) -> int:
        """The bytes that wait for the client to open its window, or for their turn."""
        return self._session.queued(self.number) if self.number else 0

    @property
    def tunnel(self) -> bool:
        """Whether it carries a WebSocket."""
        return self._translator.tunnel

    # What the translator makes of the answer. It is called through `send`.

    def inform(self, fields: Fields) -> None:
        """See `StreamSink`."""
        self._session.inform(self.number, fields)

    def answer(self, fields: Fields, content: bytes) -> None:
        """See `StreamSink`."""
        self.sent += len(content)
        self._session.answer(self.number, fields, content)

    def respond(self, fields: Fields, ended: bool) -> None:
        """See `StreamSink`."""
        self._session.respond(self.number, fields, ended)

    def content(self, data: bytes | memoryview, ended: bool) -> None:
        """See `StreamSink`."""
        self.sent += len(data)
        self._session.send(self.number, data, ended)

    def trailers(self, fields: Fields) -> None:
        """See `StreamSink`."""
        self._session.send_trailers(self.number, fields)

    # The end -------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End the answer, if nothing but the end of the connection delimits it."""
        self._translator.end()
        self._owner.stir()

    def cut(self) -> None:
        """Reset the stream at the close, so that the client sees that bytes are missing."""
        self._broken = True

    def close(self) -> None:
        """End the stream. If its answer is incomplete, the client sees that."""
        number = self.number
        if not number:
            return
        self.drop()
        self._owner.stir()
        if self._resets:
            self._session.reset(number, CANCEL)
        elif self._broken or not self._translator.end():
            self._session.reset(number, INTERNAL_ERROR)
        elif not self.request_ended:
            self._owner.answered(number)
        self.number = 0

    def ended(self) -> bool:
        """Note that the stream is over; return whether its answer was complete."""
        if self.arrived or self._inbox:
            self.drop()
        self.number = 0
        return self._translator.complete
