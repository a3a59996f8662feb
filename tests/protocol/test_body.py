from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol import body, policy
from reactor_run.protocol.body import (
    CHUNK_TAIL,
    CHUNKED,
    LAST_CHUNK,
    UNTIL_CLOSE,
    BodyReader,
    ChunkedReader,
    LengthReader,
    UntilCloseReader,
    body_reader,
    chunk_head,
)
from reactor_run.protocol.policy import Rejected, Rule
from tests.cases import loop_over

NEXT = b"GET /next HTTP/1.1\r\n"


def read_in_pieces(reader: BodyReader, data: bytes, cuts: list[int]) -> tuple[bytes, int]:
    """Return content and end of a body at the start of `data`, which arrives cut at these
    places."""
    content: list[bytes] = []
    begin = 0
    for end in [*sorted(cuts), len(data)]:
        piece = data[begin:end]
        stop = reader.feed(piece, 0, content)
        if reader.complete:
            return b"".join(content), begin + stop
        assert stop == len(piece)
        begin = end
    return b"".join(content), begin


def refusal(data: bytes, step: int) -> Rule | None:
    """Return the rule that rejects this chunked stream if it arrives `step` bytes at a time."""
    reader = ChunkedReader()
    try:
        for begin in range(0, len(data), step):
            reader.feed(data[begin : begin + step])
    except Rejected as rejected:
        return rejected.rule
    return None


# Every framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "kind"),
    [
        (0, LengthReader),
        (7, LengthReader),
        (CHUNKED, ChunkedReader),
        (UNTIL_CLOSE, UntilCloseReader),
    ],
)
def test_each_framing_has_its_reader(framing: int, kind: type) -> None:
    assert type(body_reader(framing)) is kind


def test_other_framings_do_not_exist() -> None:
    with pytest.raises(ValueError, match="-3"):
        body_reader(-3)
    with pytest.raises(ValueError, match="-1"):
        LengthReader(-1)


def test_length_reader_stops_at_its_length() -> None:
    reader = LengthReader(5)
    content: list[bytes] = []
    assert reader.feed(b"..abc", 2, content) == 5
    assert (reader.complete, reader.received, reader.end_of_stream()) == (False, 3, False)
    assert reader.feed(b"defg", 0, content) == 2
    assert (reader.complete, reader.received, reader.end_of_stream()) == (True, 5, True)
    assert content == [b"abc", b"de"]
    assert reader.feed(b"xyz", 1, content) == 1
    assert content == [b"abc", b"de"]


def test_empty_body_is_complete_at_once() -> None:
    reader = LengthReader(0)
    content: list[bytes] = []
    assert reader.complete
    assert reader.feed(NEXT, 3, content) == 3
    assert content == []


def test_until_close_reader_is_complete_when_the_stream_ends() -> None:
    reader = UntilCloseReader()
    content: list[bytes] = []
    assert reader.feed(b"..abc", 2, content) == 5
    assert reader.feed(b"", 0, content) == 0
    assert reader.feed(b"de", 0, content) == 2
    assert (reader.complete, reader.received) == (False, 5)
    assert reader.end_of_stream()
    assert reader.complete
    assert content == [b"abc", b"de"]
    assert reader.feed(b"late", 0, content) == 0
    assert content == [b"abc", b"de"]


@pytest.mark.parametrize("framing", [6, CHUNKED, UNTIL_CLOSE])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_content_has_the_type_of_the_piece(framing: int, kind: type) -> None:
    data = b"4\r\nwiki\r\n2\r\nba\r\n0\r\n\r\n" if framing == CHUNKED else b"wikiba"
    content: list[bytes] = []
    reader = body_reader(framing)
    assert reader.feed(kind(data), 0, content) == len(data)
    assert all(type(piece) is kind for piece in content)
    assert b"".join(content) == b"wikiba"
    for cut in range(len(data)):
        reader = body_reader(framing)
        content = []
        assert reader.feed(kind(data[:cut]), 0, content) == cut
        assert reader.feed(kind(data[cut:]), 0, content) == len(data) - cut
        assert b"".join(content) == b"wikiba"


def test_a_piece_that_is_all_content_is_not_copied() -> None:
    for reader in (LengthReader(10), UntilCloseReader(), within_chunk(100)):
        data = bytes(10)
        content: list[bytes] = []
        reader.feed(data, 0, content)
        assert content[0] is data


def within_chunk(size: int) -> ChunkedReader:
    reader = ChunkedReader()
    reader.feed(chunk_head(size))
    return reader


# Chunked: what is accepted ------------------------------------------------------------------------

ACCEPTED = [
    (b"0\r\n\r\n", b""),
    (b"0000000000000000\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n00\r\n\r\n", b"hello"),
    (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
    (b'1;a="q\xe9 \t;"; b\r\nx\r\n0\r\n\r\n', b"x"),
    (b"1;" + b"e" * 254 + b"\r\nx\r\n0\r\n\r\n", b"x"),
    (b"1\r\nx\r\n0\r\nx-sum: 1\r\nEmpty:\r\n\r\n", b"x"),
    (b"0\r\n" + b"t: \xe9\t.\r\n" * 64 + b"\r\n", b""),
    (b"0\r\nt: " + b"x" * (8192 - 7) + b"\r\n\r\n", b""),
]


@pytest.mark.parametrize(("data", "expected"), ACCEPTED)
def test_chunked_stream_cut_anywhere(data: bytes, expected: bytes) -> None:
    if len(data) > 1000:
        data_end = len(data)
        cuts = [*range(40), data_end // 2, *range(data_end - 40, data_end + 1)]
    else:
        cuts = list(range(len(data) + 1))
    for cut in cuts:
        reader = ChunkedReader()
        assert read_in_pieces(reader, data + NEXT, [cut]) == (expected, len(data)), cut
        assert reader.received == len(expected)
    assert read_in_pieces(ChunkedReader(), data + NEXT, list(range(len(data)))) == (
        expected,
        len(data),
    )


def test_chunked_is_complete_only_at_its_end() -> None:
    data = b"5\r\nhello\r\n0\r\nt: v\r\n\r\n"
    reader = ChunkedReader()
    for index in range(len(data)):
        assert not reader.complete
        assert not reader.end_of_stream()
        assert reader.feed(data[: index + 1], index) == index + 1
    assert reader.complete
    assert reader.end_of_stream()
    assert reader.feed(NEXT, 4) == 4


@st.composite
def chunked_streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A legal chunked stream, and its content."""
    text = st.binary(max_size=20).map(
        lambda raw: bytes(b if b >= 0x20 and b != 0x7F else 0x2E for b in raw)
    )
    quoted = text.map(lambda raw: raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"'))
    extension = st.one_of(
        st.sampled_from([b"", b";a", b"; a = b", b";a=b;c ;d"]),
        quoted.map(lambda raw: b';a="%b"' % raw),
    )
    contents = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
    stream = b""
    for content in contents:
        size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(content)
        stream += size + draw(extension) + b"\r\n" + content + b"\r\n"
    stream += draw(st.sampled_from([b"0", b"000"])) + draw(extension) + b"\r\n"
    for value in draw(st.lists(text, max_size=3)):
        stream += b"x-trailer:" + value + b"\r\n"
    return stream + b"\r\n", b"".join(contents)


@given(chunked_streams(), st.lists(st.integers(0, 500), max_size=12), st.binary(max_size=20))
def test_any_split_reads_the_same(
    stream: tuple[bytes, bytes], cuts: list[int], behind: bytes
) -> None:
    data, expected = stream
    cuts = [cut for cut in cuts if cut < len(data)]
    assert read_in_pieces(ChunkedReader(), data + behind, cuts) == (expected, len(data))


@given(
    st.one_of(
        chunked_streams().map(lambda stream: stream[0]),
        st.lists(st.sampled_from([b"0", b"3", b"a", b";", b"\r", b"\n", b"\r\n", b":", b" "])).map(
            b"".join
        ),
    ),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_framing_alone_agrees_with_reading_the_content(data: bytes, cuts: list[int]) -> None:
    reading, framing = ChunkedReader(), ChunkedReader()
    content: list[bytes] = []
    begin = 0
    for end in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        piece = data[begin:end]
        rules: list[Rule | None] = []
        stops: list[int] = []
        for reader, payload in ((reading, content), (framing, None)):
            try:
                stops.append(reader.feed(piece, 0, payload))
                rules.append(None)
            except Rejected as rejected:
                rules.append(rejected.rule)
        assert rules[0] == rules[1]
        if rules[0] is not None:
            return
        assert stops[0] == stops[1]
        assert reading.complete == framing.complete
        assert reading.received == framing.received == len(b"".join(content))
        begin = end


def test_start_leaves_what_is_before_it_alone() -> None:
    head = b"POST / HTTP/1.1\r\n\r\n"
    data = head + b"3\r\nabc\r\n0\r\n\r\n"
    content: list[bytes] = []
    assert ChunkedReader().feed(data + NEXT, len(head), content) == len(data)
    assert content == [b"abc"]


# Chunked: what is rejected ------------------------------------------------------------------------

REFUSED = [
    (policy.CHUNK_SIZE, b"\r\n"),
    (policy.CHUNK_SIZE, b"g\r\n"),
    (policy.CHUNK_SIZE, b"-1\r\n"),
    (policy.CHUNK_SIZE, b"+1\r\n"),
    (policy.CHUNK_SIZE, b"0x1\r\n"),
    (policy.CHUNK_SIZE, b"1_0\r\n"),
    (policy.CHUNK_SIZE, b" 1\r\n"),
    (policy.CHUNK_SIZE, b"1 \r\n"),
    (policy.CHUNK_SIZE, b"1\t\r\n"),
    (policy.CHUNK_SIZE, b"1 ;a\r\n"),
    (policy.CHUNK_SIZE, b";a\r\n"),
    (policy.CHUNK_SIZE, b"1\nx"),
    (policy.CHUNK_SIZE, b"1\rx"),
    (policy.CHUNK_SIZE, b"1\r\r\n"),
    (policy.CHUNK_SIZE, b"\xb2\r\n"),
    (policy.CHUNK_SIZE, b"1\0\r\n"),
    (policy.CHUNK_SIZE, b"00000000000000001"),
    (policy.CHUNK_SIZE, b"8000000000000000\r\n"),
    (policy.CHUNK_SIZE, b"ffffffffffffffff\r\n"),
    (policy.CHUNK_SIZE, b"1\r\nx\r\n\r\n"),
    (policy.CHUNK_SIZE, b"1\r\nx\r\nHTTP"),
    (policy.CHUNK_EXTENSION, b"1;a\nx"),
    (policy.CHUNK_EXTENSION, b"1;a\rb"),
    (policy.CHUNK_EXTENSION, b"1;a\0b\r\n"),
    (policy.CHUNK_EXTENSION, b"1;a\x7f\r\n"),
    (policy.CHUNK_EXTENSION, b"1;" + b"e" * 255),
    (policy.CHUNK_EXTENSION, b"1;" + b"e" * 255 + b"\r\nx\r\n"),
    (policy.CHUNK_EXTENSION, b"1;" + b"e" * 100_000),
    (policy.CHUNK_END, b"1\r\nxx"),
    (policy.CHUNK_END, b"1\r\nx\n"),
    (policy.CHUNK_END, b"1\r\nx\rx"),
    (policy.CHUNK_END, b"1\r\nx\r\r\n"),
    (policy.CHUNK_END, b"1\r\nx0\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\n\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt: v\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt: v\r\n folded\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt : v\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\n: v\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt: a\rb\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nt: a\0b\r\n\r\n"),
    (policy.TRAILER_MALFORMED, b"0\r\nGET / HTTP/1.1\r\n"),
    (policy.TRAILER_TOO_LARGE, b"0\r\n" + b"t: v\r\n" * 65),
    (policy.TRAILER_TOO_LARGE, b"0\r\nt: " + b"x" * 8192),
    (policy.TRAILER_TOO_LARGE, b"0\r\nt: " + b"x" * (8192 - 6) + b"\r\n\r\n"),
]


@loop_over("rule, data", REFUSED)
@loop_over("step", [1, 2, 3, 7, 1_000_000])
def test_bad_chunked_streams_are_rejected(rule: Rule, data: bytes, step: int) -> None:
    assert refusal(data, step) == rule


def test_largest_chunk_is_accepted() -> None:
    reader = ChunkedReader()
    reader.feed(b"7fffffffffffffff\r\nabc")
    assert reader.received == 3


@loop_over("byte", [b for b in range(256) if b not in b"0123456789abcdefABCDEF"])
def test_no_other_byte_begins_a_chunk(byte: int) -> None:
    assert refusal(bytes([byte]), 1) == policy.CHUNK_SIZE


# Chunked: bounds and cost -------------------------------------------------------------------------


def test_one_byte_a_chunk_for_a_long_time_is_legitimate() -> None:
    reader = ChunkedReader()
    for _ in range(100):
        reader.feed(b"01\r\nx\r\n" * 500)
    assert reader.received == 50_000
    reader.feed(LAST_CHUNK)
    assert reader.complete


def test_endless_extensions_are_rejected() -> None:
    piece = b"1;" + b"e" * 200 + b"\r\nx\r\n"
    assert refusal(piece * 1000, 1000) == policy.CHUNK_OVERHEAD
    # Each byte of content earns OVERHEAD_RATIO bytes of framing, on top of the free ones.
    enough = body.OVERHEAD_FREE // (len(piece) - 1)
    assert refusal(piece * enough, 1000) is None


def test_large_chunks_may_have_extensions_for_ever() -> None:
    reader = ChunkedReader()
    piece = b"400;chunk-signature=" + b"a" * 64 + b"\r\n" + bytes(1024) + b"\r\n"
    for _ in range(2000):
        reader.feed(piece)
    assert reader.received == 2000 * 1024


def test_framing_alone_keeps_no_content() -> None:
    reader = within_chunk(1 << 20)
    content = bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(16):
            reader.feed(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 15
    finally:
        tracemalloc.stop()


# Encoding -----------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_what_is_encoded_is_read_again(contents: list[bytes]) -> None:
    data = b"".join(chunk_head(len(c)) + c + CHUNK_TAIL for c in contents) + LAST_CHUNK
    assert read_in_pieces(ChunkedReader(), data + NEXT, []) == (b"".join(contents), len(data))


@pytest.mark.parametrize("length", [0, -1])
def test_an_empty_chunk_is_not_encoded(length: int) -> None:
    with pytest.raises(ValueError, match="end the body"):
        chunk_head(length)


def test_readers_have_the_interface() -> None:
    readers: list[BodyReader] = [LengthReader(1), ChunkedReader(), UntilCloseReader()]
    assert [reader.received for reader in readers] == [0, 0, 0]
