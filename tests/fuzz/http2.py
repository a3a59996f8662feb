"""Fuzz target: what a client of HTTP/2 sends after the preface, by `Session`, and field lists, by
`translate_request_head`.

A stream of frames means the same however it is cut, and what the session sends are frames. Of any
fields comes a head that says exactly what they say, or none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame

from reactor_run.protocol.http2.request_head import Malformed, translate_request_head
from reactor_run.protocol.http2.session import NO_ERROR, PREFACE, Fields, Session, SessionLimits
from tests.fuzz.inputs import BYTEWISE, WHOLE, ends, split_input
from tests.protocol.http2.fields import CONNECT, GET, NAMES, PIECES, VALUES, check_head

LIMITS: Final = SessionLimits(5, 1000, 1000, 5000)
FIELDS: Final = 0x40
"""A bit of the control: the content is a field list."""
ENDED: Final = 0x80
"""A bit of the control of a field list: the request has no content."""
BETWEEN, WITHIN = b"\x1e", b"\x1f"
"""What separates the fields of a list, and a name from its value."""


def check(data: bytes) -> None:
    control, content = split_input(data)
    if control[0] & FIELDS:
        start = [[], GET, GET[:3], CONNECT][control[1] % 4]
        pairs = [each.partition(WITHIN) for each in content.split(BETWEEN)] if content else []
        fields = [*start, *((name, value) for name, _, value in pairs)]
        check_head(fields, bool(control[0] & ENDED), control[2] % 10 or None)
        return
    whole = Server(content, [len(content)])
    cut = Server(content, list(ends(control, len(content))))
    assert whole.told == cut.told, "the cuts decide what a stream means"
    assert (whole.session.over, whole.error) == (cut.session.over, cut.error)


class Server:
    """A session whose requests are answered. told: what has happened. error: of GOAWAY."""

    def __init__(self, content: bytes, cuts: list[int]) -> None:
        self.told: list[tuple[object, ...]] = []
        self.error: int | None = None
        self._open: set[int] = set()
        self._output = b""
        self.session = Session(self, LIMITS, 0.0)
        self.session.receive(PREFACE, 0.0)
        begin = 0
        for end in cuts:
            self.session.receive(content[begin:end], 0.0)
            begin = end
        # Not before: an answer that was sent makes room, which changes what later frames mean.
        self._send()
        self.session.end()
        self._send()

    def _send(self) -> None:
        while piece := self.session.output(1000):
            self._output += piece
        while len(self._output) >= 9:
            frame, size = Frame.parse_frame_header(memoryview(self._output[:9]))
            assert len(self._output) >= 9 + size, "a frame is cut"
            frame.parse_body(memoryview(self._output[9 : 9 + size]))
            self._output = self._output[9 + size :]
            if isinstance(frame, GoAwayFrame) and frame.error_code != NO_ERROR:
                self.error = frame.error_code
        assert not self._output

    def on_request(self, stream: int, fields: Fields, ended: bool) -> None:
        assert stream % 2
        assert stream not in self._open
        self._open.add(stream)
        self.told.append(("request", stream, tuple(fields), ended))
        try:
            translate_request_head(fields, ended)
        except Malformed:
            self.session.reset(stream, 1)
            return
        if ended:
            self._answer(stream)

    def _answer(self, stream: int) -> None:
        self.session.inform(stream, [(b":status", b"103")])
        self.session.respond(stream, [(b":status", b"200")], False)
        self.session.send(stream, b"hello", False)
        self.session.send_trailers(stream, [(b"x", b"y")])

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        assert stream in self._open
        last = self.told[-1]
        if last[:2] == ("data", stream):
            assert isinstance(last[2], bytes)
            self.told[-1] = ("data", stream, last[2] + data, ended)
        else:
            self.told.append(("data", stream, data, ended))
        self.session.acknowledge(stream, len(data))
        if ended:
            self._answer(stream)

    def on_closed(self, stream: int, error: int) -> None:
        # When it is closed depends on when the answer is sent.
        self._open.discard(stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def seeds() -> Iterator[bytes]:
    block = Encoder().encode(GET, huffman=False)
    settings = frame(4, 0, 0)
    get = settings + frame(1, 5, 1, block)
    post = settings + frame(1, 4, 1, block)
    streams = (
        get,
        get + frame(1, 5, 3, b"\x82\x87\xbf\xbe") + frame(4, 1, 0),
        post + frame(0, 0, 1, b"hel") + frame(0, 1, 1, b"lo"),
        post + frame(0, 8, 1, b"\x02hello\0\0") + frame(1, 5, 1, b"\x00\x01x\x01y"),
        post + frame(3, 0, 1, bytes(4)) + frame(0, 0, 1, b"late"),
        settings + frame(1, 1, 1, block[:5]) + frame(9, 4, 1, block[5:]),
        settings + frame(1, 0x2D, 1, b"\x01\0\0\0\0\x10" + block + b"\0"),
        get + frame(6, 0, 0, bytes(8)) + frame(6, 1, 0, bytes(8)),
        get + frame(8, 0, 0, b"\0\0\0\1") + frame(8, 0, 1, b"\x7f\xff\xff\xff"),
        settings + frame(4, 0, 0, b"\0\4\0\0\0\0\0\1\0\0\0\0"),
        get + frame(2, 0, 1, bytes(5)) + frame(16, 0, 0, b"\0\0\0\1u=1, i"),
        get + frame(7, 0, 0, bytes(8)),
        settings + frame(5, 4, 1, b"\0\0\0\2" + block),
        settings + frame(0x7A, 0, 1, b"any"),
        post + frame(0, 0, 1, bytes(900)) + frame(0, 0, 1, bytes(900)),
        frame(0, 0, 1, b"x"),
    )
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for stream in streams:
            yield control + stream
    lists = [[], *([name + WITHIN + value] for name in NAMES for value in VALUES[:4])]
    lists.append([b"x" + WITHIN + piece for piece in PIECES])
    lists += [[piece + WITHIN] for piece in PIECES]
    for number, each in enumerate(lists):
        kind = FIELDS | (ENDED if number % 2 else 0)
        yield bytes([kind, number % 4, number % 3, 0]) + BETWEEN.join(each)
