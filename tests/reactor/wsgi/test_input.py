"""wsgi.input of a body that arrives in pieces, compared with io.BytesIO of the whole body."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.reactor.wsgi.input import ClientGone, LaneInput


class Arriving:
    """A read_some that returns one piece at a call, or a part of it if the call asks for less."""

    def __init__(self, *pieces: bytes, error: OSError | None = None) -> None:
        self.pieces = list(pieces)
        self.error = error
        self.asked: list[int] = []

    def __call__(self, size: int) -> bytes:
        assert size > 0
        self.asked.append(size)
        if not self.pieces:
            if self.error is not None:
                raise self.error
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


sizes = st.one_of(st.none(), st.integers(-1, 40))
calls = st.one_of(
    st.tuples(st.sampled_from(["read", "readline"]), st.tuples(sizes)),
    st.tuples(st.sampled_from(["read", "readline", "readlines", "__next__"]), st.just(())),
)
bodies = st.lists(st.text("ab\n", min_size=1, max_size=30).map(str.encode), max_size=6)


@given(bodies, st.lists(calls, max_size=8))
def test_every_method_returns_what_a_file_would(pieces, operations):
    ours = LaneInput(Arriving(*pieces))
    theirs = io.BytesIO(b"".join(pieces))
    for name, args in operations:
        try:
            expected = getattr(theirs, name)(*args)
        except StopIteration:
            with pytest.raises(StopIteration):
                getattr(ours, name)(*args)
        else:
            assert getattr(ours, name)(*args) == expected


@given(bodies)
def test_iteration_yields_the_lines(pieces):
    assert list(LaneInput(Arriving(*pieces))) == list(io.BytesIO(b"".join(pieces)))


def test_readlines_stops_after_about_as_many_bytes_as_the_hint():
    body = Arriving(b"1234\n", b"5678\n", b"9\n", b"never\n")
    assert LaneInput(body).readlines(8) == [b"1234\n", b"5678\n"]
    assert body.pieces == [b"9\n", b"never\n"]


def test_readinto_fills_the_buffer_or_ends_with_the_body():
    stream = LaneInput(Arriving(b"ab", b"cd", b"e"))
    buffer = bytearray(4)
    assert stream.readinto(buffer) == 4
    assert buffer == b"abcd"
    assert stream.readinto(buffer) == 1
    assert buffer[:1] == b"e"
    assert stream.readinto(buffer) == 0


def test_nothing_is_read_before_the_app_asks():
    body = Arriving(b"x")
    LaneInput(body)
    assert body.asked == []


def test_readline_returns_when_the_line_has_arrived():
    """The app does not wait for bytes that it has not asked for."""
    body = Arriving(b"one\ntwo\n", error=OSError("asked again"))
    stream = LaneInput(body)
    assert [stream.readline(), stream.readline()] == [b"one\n", b"two\n"]
    assert len(body.asked) == 1


def test_the_end_of_the_body_is_read_once():
    body = Arriving(b"x")
    stream = LaneInput(body)
    assert stream.read() == b"x"
    asked = len(body.asked)
    assert [stream.read(), stream.read(5), stream.readline()] == [b"", b"", b""]
    assert len(body.asked) == asked


def test_a_large_read_joins_the_pieces_that_arrive():
    pieces = [bytes([number]) * 700_000 for number in range(4)]
    whole = b"".join(pieces)
    stream = LaneInput(Arriving(*pieces))
    assert stream.read(2_000_000) == whole[:2_000_000]
    assert stream.read(2_000_000) == whole[2_000_000:]


@pytest.mark.parametrize("size", [1 << 40, (1 << 63) - 1, 1 << 70])
def test_memory_grows_with_the_bytes_that_arrived(size):
    stream = LaneInput(Arriving(b"short"))
    tracemalloc.start()
    try:
        assert stream.read(size) == b"short"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_readline_with_a_size_holds_no_more_than_that():
    line = b"x" * (64 << 20)
    stream = LaneInput(lambda size: line[:size])
    tracemalloc.start()
    try:
        for _ in range(100):
            assert len(stream.readline(1000)) == 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("size", [-1, 10, 5 << 20])
def test_after_the_client_is_gone_every_read_raises(size):
    body = Arriving(b"half", error=ConnectionResetError(104, "Connection reset by peer"))
    stream = LaneInput(body)
    for _ in range(3):
        with pytest.raises(ClientGone, match="Connection reset"):
            stream.read(size)
    assert len(body.asked) == 2


def test_bytes_from_before_the_client_left_can_be_read():
    stream = LaneInput(Arriving(b"line\nhal", error=ConnectionResetError()))
    assert stream.readline() == b"line\n"
    with pytest.raises(ClientGone):
        stream.readline()
