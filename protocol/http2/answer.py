"""Answers of HTTP/1.1 as answers of HTTP/2: heads become fields, and framing falls away.

The bytes come as the front end writes them to a client of HTTP/1.1: interim heads, a final head,
and a body that Content-Length, chunks or the end of the connection delimit. After 101 bytes of a
WebSocket follow, in both directions: then the status is 200 (RFC 8441 §5).

The translator in C (_http2.c) is asked first. It takes the common case, an answer that is here as a
whole, with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from reactor_run.native import split_answer
from reactor_run.protocol.body import UNTIL_CLOSE, BodyReader, ChunkedReader, body_reader
from reactor_run.protocol.response_head import ResponseHead, parse_response_head

__all__ = ["AnswerTranslator", "StreamSink"]

_NOT_SENT: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"sec-websocket-accept",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that an answer of HTTP/2 must not have (RFC 9113 §8.2.2, RFC 8441 §5)."""

Fields = Sequence[tuple[bytes, bytes]]


class StreamSink(Protocol):
    """Takes an answer of HTTP/2."""

    def inform(self, fields: Fields) -> None:
        """Take an interim answer."""

    def answer(self, fields: Fields, content: bytes) -> None:
        """Take the final head and all content: the answer is complete."""

    def respond(self, fields: Fields, ended: bool) -> None:
        """Take the final head. `ended`: the answer has no body."""

    def content(self, data: bytes | memoryview, ended: bool) -> None:
        """Take content, whose memory is reused after the call. `ended`: the answer is complete."""

    def trailers(self, fields: Fields) -> None:
        """Take the trailers: the answer is complete."""


class AnswerTranslator:
    """Translates the answer to one request.

    begun: the final head was taken. complete: the answer was.
    tunnel: what follows is not HTTP: the answer was 101.
    """

    __slots__ = ("_method", "_pending", "_reader", "_sink", "begun", "complete", "tunnel")

    def __init__(self, sink: StreamSink, method: bytes) -> None:
        """`method`: of the request."""
        self._sink = sink
        self.restart(method)

    def restart(self, method: bytes) -> None:
        """Translate the answer to another request."""
        self._method = method
        self._pending = b""
        """The beginning of a head."""
        self._reader: BodyReader | None = None
        self.begun = self.complete = self.tunnel = False

    def feed(self, data: bytes | memoryview) -> None:
        """Translate the next bytes. Raises BadResponse and Rejected if they are no answer."""
        if self.begun:
            self._body(data)
            return
        if not self._pending and self._method != b"HEAD" and isinstance(data, bytes):
            whole = split_answer(data)
            if whole is not None:
                self.begun = self.complete = True
                self._sink.answer(*whole)
                return
        data = self._pending + bytes(data)
        self._pending = b""
        while True:
            head = parse_response_head(data, self._method)
            if head is None:
                self._pending = data
                return
            fields = _translate(data[: head.size])
            data = data[head.size :]
            if not head.interim:
                self._begin(head, fields, data)
                return
            self._sink.inform(fields)

    def _begin(self, head: ResponseHead, fields: list[tuple[bytes, bytes]], rest: bytes) -> None:
        self.begun = True
        if head.upgrade:
            self.tunnel = True
            fields[0] = (b":status", b"200")
        elif head.body == 0 or head.body == len(rest):
            # By far the most frequent case: the answer is here as a whole.
            self.complete = True
            self._sink.answer(fields, rest if head.body else b"")
            return
        self._sink.respond(fields, False)
        if not self.tunnel and head.body != UNTIL_CLOSE:
            self._reader = body_reader(head.body)
        if rest:
            self._body(rest)

    def _body(self, data: bytes | memoryview) -> None:
        reader = self._reader
        if reader is None:
            if not self.complete:
                self._sink.content(data, False)
            return
        parts: list[bytes | memoryview] = []
        reader.feed(data, 0, parts)  # type: ignore[type-var]
        self.complete = reader.complete
        trailers = _fields(reader.trailers) if isinstance(reader, ChunkedReader) else []
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if not self.complete or not trailers:
            if content or self.complete:
                self._sink.content(content, self.complete)
            if self.complete:
                self._reader = None
            return
        if content:
            self._sink.content(content, False)
        self._reader = None
        self._sink.trailers(trailers)

    def end(self) -> bool:
        """End an answer whose body ends with the connection; return whether it is complete."""
        if self.begun and not self.complete and self._reader is None:
            self.complete = True
            self._sink.content(b"", True)
        return self.complete


def _translate(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of a head that is correct."""
    lines = head[:-4].split(b"\r\n")
    return [(b":status", lines[0][9:12]), *_fields(lines[1:])]


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the fields of correct lines, without those of the connection."""
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _NOT_SENT:
            fields.append((name, value.strip(b"\t \r\n")))
    return fields
