"""The translator in C (protocol/_http2.c): what it translates, Python translates the same way.

tests/fuzz/translation.py compares the two on any bytes. Here stands what must be translated, so
that it is fast, and what must be left to Python.
"""

from __future__ import annotations

import tracemalloc

import pytest

from reactor_run.protocol._http2 import split_answer, write_request
from reactor_run.protocol.http2.request_head import Malformed, translate_fields
from reactor_run.protocol.response import HEAD_MAX
from tests.fuzz.translation import Pairs, check_answer, check_request, compare
from tests.protocol.http2.fields import CONNECT, GET

METHOD, SCHEME, PATH, AUTHORITY = GET

TRANSLATED: dict[str, tuple[Pairs, bool, int | None]] = {
    "nothing else": (GET, True, None),
    "any order": (GET[::-1], True, None),
    "http": ([METHOD, (b":scheme", b"http"), PATH], True, None),
    "any path": ([METHOD, SCHEME, (b":path", b"/\xff~!?%zz#")], True, None),
    "any method": ([(b":method", b"M-SEARCH!"), SCHEME, PATH], True, None),
    "any name": ([*GET, (b"!#$%&'*+-.^_`|~09az", b"x")], True, None),
    "any value": ([*GET, (b"x", b""), (b"x", b" \t\x01\x7f\xff ")], True, None),
    "a browser": (
        [
            *GET,
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0"),
            (b"accept-encoding", b"gzip, deflate, br, zstd"),
            (b"cookie", b"session=0a1b2c"),
            (b"sec-fetch-mode", b"navigate"),
            (b"cookie", b"theme=dark; a=b"),
            (b"te", b"trailers"),
        ],
        True,
        None,
    ),
    "host alone": ([METHOD, SCHEME, PATH, (b"host", b"a.example")], True, None),
    "host and :authority": ([*GET, (b"host", b"a.example")], True, None),
    "names like those of a connection": (
        [*GET, (b"upgrades", b"a"), (b"keep_alive", b"b"), (b"content_length", b"c")],
        True,
        None,
    ),
    "content": ([*GET, (b"content-length", b"005")], True, 5),
    "content to come": ([*GET, (b"content-length", b"5")], False, 2),
    "no content": ([*GET, (b"content-length", b"0")], True, None),
    "a large length": ([*GET, (b"content-length", b"9" * 18)], False, None),
    "content of unknown length": (GET, False, None),
    "content without a length": (GET, True, 1 << 40),
}

LEFT: dict[str, tuple[Pairs, bool, int | None]] = {
    "a WebSocket": (CONNECT, False, None),
    "CONNECT": ([(b":method", b"CONNECT"), AUTHORITY], True, None),
    "another scheme": ([METHOD, (b":scheme", b"ftp"), PATH], True, None),
    "asterisk": ([(b":method", b"OPTIONS"), SCHEME, (b":path", b"*")], True, None),
    "another spelling of the host": ([*GET, (b"host", b"A.example")], True, None),
    "another host": ([*GET, (b"host", b"b.example")], True, None),
    "two hosts": ([*GET, (b"host", b"a.example"), (b"host", b"a.example")], True, None),
    "an empty host": ([METHOD, SCHEME, PATH, (b"host", b"")], True, None),
    "another te": ([*GET, (b"te", b"gzip")], True, None),
    "two lengths": ([*GET, *[(b"content-length", b"5")] * 2], False, None),
    "no number": ([*GET, (b"content-length", b"+5")], False, None),
    "an empty length": ([*GET, (b"content-length", b"")], False, None),
    "a long number": ([*GET, (b"content-length", b"0" * 19)], True, None),
    "too much content": ([*GET, (b"content-length", b"5")], False, 6),
    "too little content": ([*GET, (b"content-length", b"5")], True, 4),
    "too little content, none": ([*GET, (b"content-length", b"5")], True, None),
    "nothing": ([], True, None),
    "no method": (GET[1:], True, None),
    "no path": ([METHOD, SCHEME, AUTHORITY], True, None),
    "no scheme": ([METHOD, PATH, AUTHORITY], True, None),
    "a late pseudo-header field": ([METHOD, SCHEME, (b"x", b"y"), PATH], True, None),
    "a late one after a cookie": ([METHOD, SCHEME, (b"cookie", b"y"), PATH], True, None),
    "a late one after host": ([METHOD, SCHEME, (b"host", b"a"), PATH], True, None),
    "a repeated one": ([*GET, PATH], True, None),
    "an empty one": ([*GET[:3], (b":authority", b"")], True, None),
    "an unknown one": ([*GET, (b":status", b"200")], True, None),
    "a space in the path": ([METHOD, SCHEME, (b":path", b"/a b")], True, None),
    "a space in the method": ([(b":method", b"GET "), SCHEME, PATH], True, None),
    "a space in the host": ([METHOD, SCHEME, PATH, (b"host", b"a ")], True, None),
    "a host beyond ASCII": ([METHOD, SCHEME, PATH, (b"host", b"\xe4")], True, None),
    "an empty name": ([*GET, (b"", b"a")], True, None),
    "an upper case name": ([*GET, (b"X", b"a")], True, None),
    "too many fields": ([*GET, *[(b"x", b"y")] * 253], True, None),
    **{
        name.decode(): ([*GET, (name, b"trailers")], True, None)
        for name in (
            *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"),
        )
    },
    **{
        f"{character!r} in a value": ([*GET, (b"x", b"a" + character + b"b")], True, None)
        for character in (b"\r", b"\n", b"\0")
    },
    **{
        f"{character!r} in a cookie": ([*GET, (b"cookie", character)], True, None)
        for character in (b"\r", b"\n", b"\0")
    },
    **{
        f"{character!r} in a name": ([*GET, (b"a" + character, b"b")], True, None)
        for character in (b"\r", b"\n", b"\0", b":", b" ", b"(", b"\x7f", b"\xff")
    },
}


@pytest.mark.parametrize("request_", TRANSLATED.values(), ids=TRANSLATED)
def test_requests_that_are_translated(request_: tuple[Pairs, bool, int | None]) -> None:
    assert check_request(*request_)


@pytest.mark.parametrize("request_", LEFT.values(), ids=LEFT)
def test_requests_that_are_left_to_python(request_: tuple[Pairs, bool, int | None]) -> None:
    assert not check_request(*request_)


def test_only_a_tuple_of_pairs_of_bytes_is_translated() -> None:
    wrong: list[object] = [GET, (*GET, (b"a",)), (*GET, [b"a", b"b"]), (*GET, ("a", b"b")), None]
    wrong += [(*GET, (b"a", "b")), (*GET, (b"a", b"b", b"c")), (*GET, (b"a", bytearray(b"b")))]
    for fields in wrong:
        assert write_request(fields, True, None) is None  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_request(tuple(GET), 1, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_request(tuple(GET), True, "5")  # type: ignore[arg-type]


HEAD = b"HTTP/1.1 200 OK\r\n"
SPLIT = {
    "content": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "no content": HEAD + b"content-length: 0\r\n\r\n",
    "lines in the content": HEAD + b"Content-Length: 8\r\n\r\na: b\r\n\r\n",
    "no reason": b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    "any status": b"HTTP/1.1 999 \xff\tx\r\nContent-Length: 0\r\n\r\n",
    "white space": HEAD + b"X: \t a\t b \t\r\nContent-Length:\t0 \r\nY:\r\n\r\n",
    "any text": HEAD + b"!#$%&'*+-.^_`|~09azAZ: \x80\xff~!\r\nContent-Length: 0\r\n\r\n",
    "fields of a connection": HEAD + b"Connection: a\r\nKeep-Alive: b\r\nProxy-Connection: c\r\n"
    b"Upgrade: d\r\nSec-WebSocket-Accept: e\r\nContent-Length: 0\r\n\r\n",
    "a large head": HEAD
    + b"X: "
    + b"x" * (HEAD_MAX - len(HEAD) - 26)
    + b"\r\nContent-Length: 0\r\n\r\n",
}
LEFT_ANSWERS = {
    "nothing": b"",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "no space": b"HTTP/1.1 2000\r\nContent-Length: 0\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 \x01\r\nContent-Length: 0\r\n\r\n",
    "until the end": HEAD + b"\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "more content": HEAD + b"Content-Length: 4\r\n\r\nhello",
    "less content": HEAD + b"Content-Length: 6\r\n\r\nhello",
    "no number": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a long number": HEAD + b"Content-Length: 0000000000000000005\r\n\r\nhello",
    "no name": HEAD + b": x\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": HEAD + b"X : y\r\nContent-Length: 0\r\n\r\n",
    "a folded value": HEAD + b"X: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    "a lone CR": HEAD + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "a lone LF": HEAD + b"X: a\nContent-Length: 0\r\n\r\n",
    "NUL": HEAD + b"X: \0\r\nContent-Length: 0\r\n\r\n",
    "too large a head": SPLIT["a large head"].replace(b"X: ", b"X: x"),
    "too many fields": HEAD + b"X: y\r\n" * 257 + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", SPLIT.values(), ids=SPLIT)
def test_answers_that_are_split(data: bytes) -> None:
    assert check_answer(data)


@pytest.mark.parametrize("data", LEFT_ANSWERS.values(), ids=LEFT_ANSWERS)
def test_answers_that_are_left_to_python(data: bytes) -> None:
    assert not check_answer(data)


@pytest.mark.parametrize("name", SPLIT)
def test_an_answer_in_part_is_left_to_python(name: str) -> None:
    data = SPLIT[name][-300:] if name == "a large head" else SPLIT[name]
    for size in range(len(data)):
        assert split_answer(data[:size]) is None
    assert split_answer(bytearray(data)) is None  # type: ignore[arg-type]


def test_what_is_made_from_a_seed() -> None:
    compared, translated = compare(seconds=30, count=5000, seed=1)
    assert compared > translated > compared / 10


@pytest.mark.parametrize(
    "planted", [(b"te", b"trailers"), (b"cookie", b"a=b"), (b"x", b"")], ids=["te", "cookie", "x"]
)
def test_a_planted_error_is_found(
    planted: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A translator that loses a field."""

    def careless(fields: tuple[tuple[bytes, bytes], ...], ended: bool, size: int | None) -> object:
        return write_request(tuple(each for each in fields if each != planted), ended, size)

    monkeypatch.setattr("tests.fuzz.translation.write_request", careless)
    with pytest.raises(AssertionError):
        compare(seconds=30, count=20_000, seed=1)


def test_a_planted_error_in_an_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(data: bytes) -> object:
        return split_answer(data.replace(b"\n ", b"\n"))

    monkeypatch.setattr("tests.fuzz.translation.split_answer", careless)
    with pytest.raises(AssertionError):
        compare(seconds=30, count=20_000, seed=1)


def test_it_loses_no_memory() -> None:
    requests = [(tuple(fields), ended, size) for fields, ended, size in TRANSLATED.values()]
    requests += [(tuple(fields), ended, size) for fields, ended, size in LEFT.values()]
    answers = (*SPLIT.values(), *LEFT_ANSWERS.values())

    def run(times: int) -> None:
        for _ in range(times):
            for request in requests:
                write_request(*request)
            for data in answers:
                split_answer(data)

    run(2)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(20)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2000


def test_python_knows_what_is_malformed() -> None:
    """The cases that are left are of both kinds."""
    malformed = 0
    for fields, ended, size in LEFT.values():
        try:
            translate_fields(fields, ended, size)
        except Malformed:
            malformed += 1
    assert 0 < malformed < len(LEFT)
