"""Fuzz target: chunked bodies and their trailers, by `ChunkedReader` and `LengthReader`.

A body has the same content, end or broken rule however it arrives, and in every kind of buffer. A
reader keeps few bytes of it. h11 reads a body that we accept as we do. We read back a body that we
encode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import h11

from reactor_run.protocol.body import (
    CHUNK_TAIL,
    CHUNKED,
    LAST_CHUNK,
    SIZE_LINE_MAX,
    TRAILER_MAX,
    BodyReader,
    LengthReader,
    body_reader,
    chunk_head,
)
from reactor_run.protocol.policy import Rejected, Rule
from tests.corpus.loader import load
from tests.fuzz.inputs import BYTEWISE, WHOLE, ends, split_input

HEAD: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
KINDS: Final = (bytes, bytearray, memoryview)

Outcome = tuple[bytes, int | Rule | None]
"""The content, and one of: the end of the body, the rule that it breaks, or None while it is
incomplete."""


def check(data: bytes) -> None:
    control, content = split_input(data)
    whole = read(body_reader(CHUNKED), content, [len(content)])
    cut = read(body_reader(CHUNKED), content, list(ends(control, len(content))), control[3] % 3)
    assert cut[1] == whole[1], "the cuts decide where a body ends"
    # A piece with a fault gives less of its content than two pieces.
    assert cut[0] == whole[0] or isinstance(whole[1], Rule)
    check_h11(content, whole)
    check_encoded(control, whole[0])
    length = control[2]
    counted = read(LengthReader(length), content, list(ends(control, len(content))))
    assert counted == (content[:length], length if len(content) >= length else None)


def read(reader: BodyReader, content: bytes, cuts: list[int], kind: int = 0) -> Outcome:
    payload: list[bytes] = []
    begin = 0
    try:
        for end in cuts:
            piece = KINDS[kind](content[begin:end])
            stop = reader.feed(piece, 0, payload)  # type: ignore[misc]
            assert 0 <= stop <= end - begin
            if reader.complete:
                assert reader.end_of_stream()
                assert reader.feed(b"more") == 0
                return content_of(reader, payload), begin + stop
            assert stop == end - begin
            kept = len(getattr(reader, "_pending", b""))
            assert kept <= max(SIZE_LINE_MAX + 2, TRAILER_MAX), "an endless line is kept"
            begin = end
    except Rejected as rejected:
        return b"".join(payload), rejected.rule
    assert not reader.end_of_stream()
    return content_of(reader, payload), None


def content_of(reader: BodyReader, payload: list[bytes]) -> bytes:
    assert all(payload), "an empty piece"
    content = b"".join(payload)
    assert reader.received == len(content)
    return content


def check_h11(content: bytes, ours: Outcome) -> None:
    """Check that h11 rejects the body, or reads what we read, as far as we do."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(HEAD + content)
    theirs = b""
    try:
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Data):
                theirs += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
    except h11.RemoteProtocolError:
        return
    body, end = ours
    if isinstance(end, Rule):
        return
    assert theirs == body
    if end is None:
        assert event is h11.NEED_DATA
    else:
        assert event is not h11.NEED_DATA
        assert len(content) - len(parser.trailing_data[0]) == end


def check_encoded(control: bytes, content: bytes) -> None:
    """Check that the content is read back if it is encoded in chunks of some size."""
    size = 1 + control[1]
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    coded = b"".join([chunk_head(len(chunk)) + chunk + CHUNK_TAIL for chunk in chunks])
    coded += LAST_CHUNK
    assert read(body_reader(CHUNKED), coded + b"x", [len(coded) + 1]) == (content, len(coded))


def seeds() -> Iterator[bytes]:
    for case in load():
        if case.file in ("chunked.txt", "trailers.txt") and not case.large:
            yield WHOLE + case.data.partition(b"\r\n\r\n")[2]
    contents = (
        b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\nGET /", b"5\r\nhello0\r\n\r\n", b"5\nhello\r\n",
        b"A;a=b\r\n0123456789\r\n000\r\nX: y\r\n\r\n", b"1\r\na\r\n" * 9 + LAST_CHUNK,
        b"0\r\nX : y\r\n\r\n", b"0\r\n folded\r\n\r\n", b"0\r\nA: b\r\n" * 3, b"5\r\nhel",
        b"ffffffffffffffff\r\n", b"0x5\r\nhello\r\n", b"0000000000000001\r\na\r\n",
        b"1;" + b"a" * 260 + b"\r\n", b"1 \r\na\r\n", b"1;\xff\t\r\na\r\n",
    )  # fmt: skip
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for content in contents:
            yield control + content
