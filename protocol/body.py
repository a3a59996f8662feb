"""HTTP/1.1 message bodies: where a body ends and what it carries (RFC 9112 §6, §7).

A framing is one int: the bytes of Content-Length, or one of the two constants below. Each framing
has a reader. A reader is fed the stream in pieces of any size, and says where in a piece the body
ends. If it is given a list, it appends the content to that list.

The chunked coding is read strictly, because its two ends must agree on every boundary:

    expected    grammar                                           then
    SIZE        1*16HEXDIG extensions CRLF, at most               DATA, or TRAILER after size 0
                SIZE_LINE_MAX bytes before the CRLF
    DATA        that many bytes                                   DATA_END
    DATA_END    CRLF                                              SIZE
    TRAILER     field-line CRLF                                   TRAILER
                CRLF                                              complete

`extensions` are the chunk-ext of RFC 9112 §7.1.1, *( ";" token [ "=" ( token / quoted-string ) ] ).
White space may stand around ";" and "=", but not directly after the size. A body that breaks this
grammar is rejected; tests/corpus/chunked.txt gives the reasons.

Chunk extensions are dropped. A reader keeps the lines of trailer fields, and most callers drop them
too. Both have bounds of their own, because no limit on a body counts them:

- The trailer section has at most TRAILER_MAX bytes in TRAILER_FIELDS_MAX lines.
- The rest of the framing has at most OVERHEAD_FREE bytes plus OVERHEAD_RATIO for each byte of
  content so far. A chunk of one byte needs 5 bytes of framing, or 20 if its size has all 16 digits.
  So a sender can pad its sizes for the first 4,000 chunks, but not for longer.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Protocol, TypeVar

from reactor_run.protocol import policy
from reactor_run.protocol.fields import FIELD_LINE, QUOTED, TOKEN
from reactor_run.protocol.policy import Rejected

__all__ = [
    "CHUNKED",
    "CHUNK_TAIL",
    "LAST_CHUNK",
    "PIECES_MAX",
    "UNTIL_CLOSE",
    "BodyReader",
    "ChunkedReader",
    "LengthReader",
    "UntilCloseReader",
    "body_reader",
    "chunk_head",
]

CHUNKED: Final = -1
"""Framing of a body in the chunked transfer coding (RFC 9112 §7.1)."""

UNTIL_CLOSE: Final = -2
"""Framing of a response body that ends with its connection (RFC 9112 §6.3, rule 8)."""

CHUNK_TAIL: Final = b"\r\n"
"""The bytes after the content of a chunk."""

PIECES_MAX: Final = 64
"""Most chunks that one turn of a loop reads. A chunk of any size takes about 3 µs: without this
bound 64 KiB of one-byte chunks stall every other connection for 30 ms."""

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a chunked body without trailers."""

SIZE_LINE_MAX: Final = 256
"""Most bytes of a chunk's size with its extensions, without the line end."""

CHUNK_SIZE_MAX: Final = (1 << 63) - 1
"""Most bytes of one chunk: the largest signed 64-bit integer."""

OVERHEAD_FREE: Final = 16 * 1024
OVERHEAD_RATIO: Final = 16
TRAILER_MAX: Final = 8 * 1024
TRAILER_FIELDS_MAX: Final = 64

Piece = TypeVar("Piece", bytes, bytearray, memoryview)
"""A piece of the stream. Content is returned as slices of the same type. Slices are copies, with
two exceptions: a slice of a memoryview is a view, and a slice of all of a bytes object is that
object.
"""


class BodyReader(Protocol):
    """Finds the end of one body in a stream that arrives in pieces."""

    complete: bool
    """The body has ended. Later bytes belong to another message."""
    received: int
    """Bytes of content so far, without the framing."""

    def feed(
        self,
        data: Piece,
        start: int = 0,
        payload: list[Piece] | None = None,
        pieces_max: int | None = None,
    ) -> int:
        """Read `data` from index `start` on; return the index at which the body, or `data`, ends.

        The content is appended to `payload`, if there is one, in slices that are never empty. A
        complete reader reads nothing and returns `start`. `pieces_max`: chunks after which the
        reader stops before the end of `data`; the caller feeds the rest later. Raises `Rejected` if
        the bytes break the framing; do not use the reader after that.
        """
        ...

    def end_of_stream(self) -> bool:
        """Tell the reader that the stream has ended; return whether the body is complete."""
        ...


def body_reader(framing: int) -> BodyReader:
    """Return a reader for a framing: bytes of Content-Length, CHUNKED or UNTIL_CLOSE.

    Raises ValueError for any other number.
    """
    if framing >= 0:
        return LengthReader(framing)
    if framing == CHUNKED:
        return ChunkedReader()
    if framing == UNTIL_CLOSE:
        return UntilCloseReader()
    raise ValueError(f"no such framing: {framing}")


class LengthReader:
    """A reader for a body of exactly `length` bytes (RFC 9112 §6.2)."""

    __slots__ = ("_left", "complete", "received")

    def __init__(self, length: int) -> None:
        if length < 0:
            raise ValueError(f"no such length: {length}")
        self.complete = length == 0
        self.received = 0
        self._left = length

    def feed(
        self,
        data: Piece,
        start: int = 0,
        payload: list[Piece] | None = None,
        pieces_max: int | None = None,
    ) -> int:
        """See `BodyReader.feed`. It rejects nothing, and reads all of `data` as one piece."""
        left = self._left
        end = start + left
        size = len(data)
        if end > size:
            end = size
        taken = end - start
        if taken <= 0:
            return start
        self.received += taken
        self._left = left = left - taken
        if left == 0:
            self.complete = True
        if payload is not None:
            payload.append(data[start:end])
        return end

    def end_of_stream(self) -> bool:
        """See `BodyReader.end_of_stream`."""
        return self.complete


class UntilCloseReader:
    """A reader for a response body that ends with its connection (RFC 9112 §6.3, rule 8)."""

    __slots__ = ("complete", "received")

    def __init__(self) -> None:
        self.complete = False
        self.received = 0

    def feed(
        self,
        data: Piece,
        start: int = 0,
        payload: list[Piece] | None = None,
        pieces_max: int | None = None,
    ) -> int:
        """See `BodyReader.feed`. It rejects nothing, and reads all of `data` as one piece."""
        size = len(data)
        if self.complete or start >= size:
            return start
        self.received += size - start
        if payload is not None:
            payload.append(data[start:])
        return size

    def end_of_stream(self) -> bool:
        """See `BodyReader.end_of_stream`. The end of the stream completes this body."""
        self.complete = True
        return True


# What a ChunkedReader expects next.
class _Expected(Enum):
    """What a chunked body goes on with; see above."""

    SIZE = "a size line"
    DATA = "the bytes of a chunk"
    DATA_END = "the line end behind a chunk"
    TRAILER = "a trailer field, or the end"


_SIZE: Final = _Expected.SIZE
_DATA: Final = _Expected.DATA
_DATA_END: Final = _Expected.DATA_END
_TRAILER: Final = _Expected.TRAILER

_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)(?:(?=;)(?:[\t ]*+;[\t ]*+"
    + TOKEN
    + rb"(?:[\t ]*+=[\t ]*+(?:"
    + TOKEN
    + rb"|"
    + QUOTED
    + rb"))?+)*+)?+\r\n"
)
_SIZE_LINE_SO_FAR: Final = re.compile(rb"[0-9A-Fa-f]{1,16}+(?:;[\t -~\x80-\xff]*+)?+\r?+")
_SIZE_GOOD: Final = re.compile(rb"[0-9A-Fa-f]{1,16}+;")
_TRAILER_LINE: Final = re.compile(FIELD_LINE)


class ChunkedReader:
    """A reader for a body in the chunked transfer coding (RFC 9112 §7.1). See the grammar above.

    trailers: the lines of the trailer fields so far, each with its line end.
    """

    __slots__ = (
        "_expected",
        "_left",
        "_overhead",
        "_pending",
        "_trailer_size",
        "complete",
        "received",
        "trailers",
    )

    def __init__(self) -> None:
        self.complete = False
        self.received = 0
        self.trailers: list[bytes] = []
        self._expected: _Expected = _SIZE
        self._left = 0
        """Bytes of the current chunk's content that have not arrived."""
        self._overhead = 0
        """Bytes of framing so far, without trailers."""
        self._pending = bytearray()
        """The start of a line whose end has not arrived. The bounds on lines bound it too."""
        self._trailer_size = 0

    def feed(
        self,
        data: Piece,
        start: int = 0,
        payload: list[Piece] | None = None,
        pieces_max: int | None = None,
    ) -> int:
        """See `BodyReader.feed`."""
        position = start
        size = len(data)
        pieces = -1 if pieces_max is None else pieces_max
        while position < size and not self.complete:
            expected = self._expected
            if expected is _SIZE:
                if pieces == 0:
                    break
                pieces -= 1
                position = self._read_size_line(data, position)
            elif expected is _DATA:
                end = position + self._left
                if end > size:
                    end = size
                taken = end - position
                self.received += taken
                self._left -= taken
                if payload is not None:
                    payload.append(data[position:end])
                if self._left == 0:
                    self._expected = _DATA_END
                position = end
            elif expected is _DATA_END:
                position = self._read_data_end(data, position)
            else:
                position = self._read_trailer_line(data, position)
        return position

    def end_of_stream(self) -> bool:
        """See `BodyReader.end_of_stream`."""
        return self.complete

    def _read_size_line(self, data: bytes | bytearray | memoryview, position: int) -> int:
        pending = self._pending
        if not pending:
            line = _SIZE_LINE.match(data, position)
            if line is None:
                pending += data[position : position + SIZE_LINE_MAX + 2]
                _check_size_line_so_far(pending)
                return len(data)
            end = line.end()
            length = end - position
        else:
            before = len(pending)
            pending += data[position : position + SIZE_LINE_MAX + 2 - before]
            line = _SIZE_LINE.match(pending)
            if line is None:
                _check_size_line_so_far(pending)
                return len(data)
            length = line.end()
            end = position + length - before
            self._pending = bytearray()
        if length > SIZE_LINE_MAX + 2:
            raise Rejected(policy.CHUNK_EXTENSION)
        chunk = int(bytes(line[1]), 16)
        if chunk > CHUNK_SIZE_MAX:
            raise Rejected(policy.CHUNK_SIZE)
        self._overhead = overhead = self._overhead + length + 2
        if overhead > OVERHEAD_FREE + OVERHEAD_RATIO * self.received:
            raise Rejected(policy.CHUNK_OVERHEAD)
        self._left = chunk
        self._expected = _DATA if chunk else _TRAILER
        return end

    def _read_data_end(self, data: bytes | bytearray | memoryview, position: int) -> int:
        pending = self._pending
        end = position + 2 - len(pending)
        pending += data[position:end]
        if pending == b"\r\n":
            pending.clear()
            self._expected = _SIZE
            return end
        if pending != b"\r":
            raise Rejected(policy.CHUNK_END)
        return len(data)

    def _read_trailer_line(self, data: bytes | bytearray | memoryview, position: int) -> int:
        room = TRAILER_MAX - self._trailer_size
        piece = bytes(data[position : position + room])
        length = piece.find(b"\n") + 1
        if length == 0:
            if len(piece) == room:
                raise Rejected(policy.TRAILER_TOO_LARGE)
            self._trailer_size += len(piece)
            self._pending += piece
            return len(data)
        self._trailer_size += length
        line = bytes(self._pending) + piece[:length]
        self._pending.clear()
        if line == b"\r\n":
            self.complete = True
        elif _TRAILER_LINE.fullmatch(line) is None:
            raise Rejected(policy.TRAILER_MALFORMED)
        else:
            self.trailers.append(line)
            if len(self.trailers) > TRAILER_FIELDS_MAX:
                raise Rejected(policy.TRAILER_TOO_LARGE)
        return position + length


def _check_size_line_so_far(line: bytearray) -> None:
    """Raise `Rejected` if no further byte can make an unfinished size line valid."""
    good = _SIZE_LINE_SO_FAR.fullmatch(line) is not None
    if good and len(line) - line.endswith(b"\r") <= SIZE_LINE_MAX:
        return
    raise Rejected(policy.CHUNK_EXTENSION if _SIZE_GOOD.match(line) else policy.CHUNK_SIZE)


def chunk_head(length: int) -> bytes:
    """Return the bytes before `length` bytes of content; CHUNK_TAIL follows the content.

    Raises ValueError if `length` is below 1: a chunk of size 0 ends the body.
    """
    if length <= 0:
        raise ValueError(f"a chunk of {length} bytes would end the body")
    return b"%x\r\n" % length
