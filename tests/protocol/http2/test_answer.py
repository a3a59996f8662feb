"""Answers of HTTP/1.1 as answers of HTTP/2, however their bytes are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.http2.answer import AnswerTranslator, Fields
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.response_head import BadResponse

STATUS_200 = (b":status", b"200")


@dataclass
class Sink:
    """Takes an answer, and checks that it is told in order."""

    heads: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    body: bytes = b""
    end: list[tuple[bytes, bytes]] = field(default_factory=list)
    begun: bool = False
    ended: bool = False

    def inform(self, fields: Fields) -> None:
        assert not self.begun
        assert fields[0][1][:1] == b"1"
        self.heads.append(list(fields))

    def answer(self, fields: Fields, content: bytes) -> None:
        self.respond(fields, not content)
        if content:
            self.content(content, True)

    def respond(self, fields: Fields, ended: bool) -> None:
        assert not self.begun
        self.begun, self.ended = True, ended
        self.heads.append(list(fields))

    def content(self, data: bytes | memoryview, ended: bool) -> None:
        assert self.begun
        assert not self.ended
        assert data or ended, "a frame without a purpose"
        self.body += data
        self.ended = ended

    def trailers(self, fields: Fields) -> None:
        assert self.begun
        assert not self.ended
        self.ended, self.end = True, list(fields)


def translate(*pieces: bytes, method: bytes = b"GET", close: bool = False) -> Sink:
    """Return what comes of it, by the translator in C if it is there; Python must agree."""
    views = [memoryview(piece) for piece in pieces]
    sink = translate_each(*pieces, method=method, close=close)
    assert sink == translate_each(*views, method=method, close=close)
    return sink


def translate_each(*pieces: bytes | memoryview, method: bytes, close: bool) -> Sink:
    sink = Sink()
    translator = AnswerTranslator(sink, method)
    for piece in pieces:
        translator.feed(piece)
        assert translator.begun is sink.begun
        assert translator.complete is sink.ended
    if close:
        assert translator.end() is sink.ended
    return sink


HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "empty": HEAD + b"Content-Length: 0\r\n\r\n",
    "length": HEAD + b"Content-Length: 5\r\nX-A:  b \t\r\n\r\nhello",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
    "chunked without content": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\nY: \r\n\r\n",
    "trailers alone": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2
    + HEAD
    + b"Content-Length: 1\r\n\r\n!",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "fields of a connection": HEAD
    + b"Connection: close\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n"
    + b"Content-Length: 0\r\n\r\n",
    "repeated": HEAD + b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
}


def shown(name: str) -> Sink:
    return translate(ANSWERS[name])


def test_what_comes_of_them() -> None:
    assert shown("empty") == Sink([[STATUS_200, (b"content-length", b"0")]], b"", [], True, True)
    assert shown("length").heads == [[STATUS_200, (b"content-length", b"5"), (b"x-a", b"b")]]
    assert shown("length").body == b"hello"
    assert shown("chunked") == Sink([[STATUS_200]], b"hello!", [], True, True)
    assert shown("chunked without content") == Sink([[STATUS_200]], b"", [], True, True)
    trailers = [(b"x-sum", b"1"), (b"y", b"")]
    assert shown("trailers") == Sink([[STATUS_200]], b"ab", trailers, True, True)
    assert shown("trailers alone") == Sink([[STATUS_200]], b"", trailers[:1], True, True)
    hint = [(b":status", b"103"), (b"link", b"</a>")]
    assert shown("interim").heads[:2] == [hint, hint]
    assert [head[0][1] for head in shown("continue").heads] == [b"100", b"204"]
    assert shown("not modified").heads == [[(b":status", b"304"), (b"content-length", b"5")]]
    assert shown("fields of a connection") == shown("empty")
    assert shown("repeated").heads[0][1:3] == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]
    for name in ANSWERS:
        assert shown(name).ended


@pytest.mark.parametrize("name", ANSWERS)
def test_byte_by_byte(name: str) -> None:
    data = ANSWERS[name]
    assert translate(*(data[i : i + 1] for i in range(len(data)))) == shown(name)


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 200), max_size=5))
def test_any_split(name: str, cuts: list[int]) -> None:
    data = ANSWERS[name]
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(ends) if a < b]
    assert translate(*pieces) == shown(name)


def test_an_answer_to_head() -> None:
    for answer in HEAD + b"Content-Length: 5\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n":
        sink = translate(answer, method=b"HEAD")
        assert (sink.body, sink.ended) == (b"", True)


def test_until_the_connection_closes() -> None:
    sink = translate(HEAD + b"\r\n", b"hel", b"lo")
    assert (sink.body, sink.ended) == (b"hello", False)
    sink = translate(HEAD + b"\r\nhel", b"lo", close=True)
    assert (sink.body, sink.ended) == (b"hello", True)


@pytest.mark.parametrize("size", range(1, len(ANSWERS["trailers"])))
def test_an_end_too_early(size: int) -> None:
    """The client must see that the rest is missing."""
    sink = translate(ANSWERS["trailers"][:size], close=True)
    assert not sink.ended


def test_a_websocket() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    head += b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    sink = Sink()
    translator = AnswerTranslator(sink, b"GET")
    translator.feed(head + b"\x81")
    translator.feed(b"\x01a")
    assert translator.tunnel
    assert sink.heads == [[STATUS_200, (b"sec-websocket-protocol", b"chat")]]
    assert (sink.body, sink.ended) == (b"\x81\x01a", False)
    assert translator.end()
    assert sink.ended


def test_it_can_begin_anew() -> None:
    sink = Sink()
    translator = AnswerTranslator(sink, b"HEAD")
    translator.feed(ANSWERS["length"][:-5])
    assert translator.complete
    translator.restart(b"GET")
    assert not translator.begun
    assert not translator.complete


def test_nothing_follows_the_end() -> None:
    """However the rest is cut off: the front end has counted these bytes already."""
    whole = ANSWERS["length"]
    for rest in b"!", b"HTTP/1.1 200 OK\r\n\r\n":
        assert translate(whole + rest) == shown("length")
        assert translate(whole, rest) == shown("length")
        assert translate(whole[:-1], whole[-1:], rest) == shown("length")


def test_trailers_have_no_fields_of_a_connection() -> None:
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    sink = translate(start + b"Connection: close\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert sink.end == [(b"x", b"y")]
    sink = translate(start + b"Connection: close\r\n\r\n")
    assert (sink.end, sink.ended) == ([], True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        HEAD + b"X: a\rb\r\n\r\n",
        HEAD + b"X : a\r\n\r\n",
        HEAD + b"X: a\r\n b\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n",
        HEAD + b"X: " + b"a" * 70_000,
    ],
)
def test_bad_answers(answer: bytes) -> None:
    with pytest.raises((BadResponse, Rejected)):
        translate(answer)
    with pytest.raises((BadResponse, Rejected)):
        translate(*(answer[i : i + 1000] for i in range(0, len(answer), 1000)))
