"""Reads one answer after another from the bytes of a connection: status, framing, its end."""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.I)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.I)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close", re.I)
_RETRY: Final = re.compile(rb"\r\nretry-after:[ \t]*\S", re.I)


class Garbled(Exception):
    """These bytes are no answer."""


class Reply:
    """One answer; a new object for the next."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_left",
        "_until_close",
        "begun",
        "closes",
        "is_whole",
        "retry",
        "status",
    )

    def __init__(self) -> None:
        self.begun = False
        """Whether any byte has come."""
        self.is_whole = False
        self.status = 0
        """0 until the head is whole."""
        self.closes = False
        self.retry = False
        """Whether it has a Retry-After field."""
        self._buffer = b""
        self._left = 0
        self._chunked = False
        self._until_close = False

    def feed(self, data: bytes) -> bool:
        """Take what has come; whether the answer is whole. Raises Garbled."""
        self.is_whole = self._take(data)
        return self.is_whole

    def _take(self, data: bytes) -> bool:
        self.begun = True
        if not self.status:
            self._buffer += data
            head, found, data = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return False
            self._read_head(head)
            self._buffer = b""
            if self.status < 200:
                self.status = 0
                return self._take(data)
        if self._chunked:
            self._buffer += data
            return self._read_chunks()
        if self._until_close:
            return False
        self._left -= len(data)
        if self._left < 0:
            raise Garbled("bytes beyond the answer")
        return self._left == 0

    def eof(self) -> bool:
        """Whether the answer is whole now that the connection has ended."""
        return self._until_close

    def _read_head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise Garbled(repr(head[:40]))
        self.status = int(head[9:12])
        self.closes = _CLOSE.search(head) is not None or head.startswith(b"HTTP/1.0")
        self.retry = _RETRY.search(head) is not None
        length = _LENGTH.search(head)
        if _CHUNKED.search(head):
            self._chunked = True
        elif length:
            self._left = int(length[1])
        elif self.status >= 200 and self.status not in (204, 304):
            self._until_close = self.closes = True

    def _read_chunks(self) -> bool:
        while True:
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return False
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise Garbled(f"chunk size {line[:20]!r}") from None
            # Chunks have no trailers here, so the last one is followed by an empty line.
            if len(rest) < size + 2:
                return False
            self._buffer = rest[size + 2 :]
            if size == 0:
                return True
