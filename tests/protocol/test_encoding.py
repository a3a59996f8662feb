"""The encoder in C (protocol/_response.c): what it encodes, Python encodes to the same bytes.

tests/fuzz/encoding.py compares the two on anything. Here stands what must be encoded, so that it is
fast, and what must be left to Python.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from reactor_run.protocol._response import copy_fields, encode_head, encode_text
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.response import (
    HEAD_MAX,
    STATUS_LINES,
    encode_response_head,
    encode_text_head,
    judge_response_head,
)
from tests.fuzz.encoding import check_fields, check_head, compare

DATE = b"date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"
OWN = OwnFields()
USUAL = [(b"content-type", b"text/plain"), (b"content-length", b"13")]

ENCODED: dict[str, tuple[Any, dict[str, Any]]] = {
    "the usual": (USUAL, {}),
    "a tuple of lists": (tuple(list(pair) for pair in USUAL), {}),
    "nothing": ([], {}),
    "a length that the app does not tell": ([], {"length": 13}),
    "an empty body": ([], {"length": 0}),
    "the app's length before ours": (USUAL, {"length": 5}),
    "zeros before a length": ([(b"content-length", b" 0013\t")], {}),
    "a long length": ([(b"content-length", b"9" * 18)], {}),
    "chunked": ([], {"length": None}),
    "until close": ([], {"length": None, "minor_version": 0}),
    "HEAD": ([], {"method": b"HEAD", "length": 13}),
    "HEAD with a length": (USUAL, {"method": b"HEAD"}),
    "HEAD of an empty body": ([], {"method": b"HEAD", "length": 0}),
    "204": (USUAL, {"status": 204, "length": 0}),
    "304": ([], {"status": 304, "length": 13}),
    "304 with a length": (USUAL, {"status": 304}),
    "426 without Upgrade": (USUAL, {"status": 426}),
    "an unknown status": (USUAL, {"status": 299}),
    "a reason": (USUAL, {"reason": b"All \xff Right"}),
    "no reason": (USUAL, {"reason": b""}),
    "no date": (USUAL, {"date": b""}),
    "the app's date and server": ([(b"Date", b"now"), (b"SERVER", b"mine")], {}),
    "any name": ([(b"!#$%&'*+-.^_`|~09azAZ", b"x"), (b"X" * 300, b"y")], {}),
    "any value": ([(b"x", b""), (b"x", b" \t\x80\xff~!\ta "), (b"x", b" \t ")], {}),
    "repeated": ([(b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d")], {}),
    "names like those of a connection": (
        [(b"content_length", b"5"), (b"trailer", b"x"), (b"upgrades", b"y"), (b"tea", b"z")],
        {},
    ),
    "64 fields": ([(b"x", b"y")] * 64, {}),
    "as large as it may be": ([(b"x", b"y" * (HEAD_MAX - 200))], {}),
}

LEFT: dict[str, tuple[Any, dict[str, Any]]] = {
    "a generator": ((pair for pair in USUAL), {}),
    "a dict": ({b"a": b"b"}, {}),
    "65 fields": ([(b"x", b"y")] * 65, {}),
    "text": ([("x", b"y")], {}),
    "a value of another type": ([(b"x", bytearray(b"y"))], {}),
    "no pair": ([(b"x",)], {}),
    "three in a pair": ([(b"x", b"y", b"z")], {}),
    "bytes as a pair": ([b"xy"], {}),
    "no name": ([(b"", b"x")], {}),
    "no token": ([(b"a b", b"x")], {}),
    "a line end in a name": ([(b"a\r\nb", b"x")], {}),
    "a line end in a value": ([(b"x", b"a\r\nb: c")], {}),
    "a control character": ([(b"x", b"\x7f")], {}),
    "a control character in the reason": (USUAL, {"reason": b"a\r\nb"}),
    "a reason as text": (USUAL, {"reason": "OK"}),
    "two lengths": ([*USUAL, (b"Content-Length", b"13")], {}),
    "no number": ([(b"content-length", b"+5")], {}),
    "an empty length": ([(b"content-length", b"")], {}),
    "a length that is too long": ([(b"content-length", b"1" * 19)], {}),
    "a negative length": ([], {"length": -1}),
    "a length beyond 63 bits": ([], {"length": 1 << 63}),
    "1xx": (USUAL, {"status": 101}),
    "a status of four digits": (USUAL, {"status": 1000}),
    "a status of another type": (USUAL, {"status": 200.0}),
    "too large": ([(b"x", b"y" * HEAD_MAX)], {}),
    **{
        name: ([(name.encode(), b"x")], {})
        for name in (
            "connection", "Keep-Alive", "proxy-connection", "TE", "transfer-encoding", "UPGRADE",
        )
    },
}  # fmt: skip


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `check_head` after the fields."""
    usual = {"status": 200, "method": b"GET", "minor_version": 1, "length": 13, "date": DATE}
    return {**usual, "own": OWN, "reason": None, **options}


def encode(fields: Any, options: dict[str, Any]) -> tuple[bytes, int] | None:
    status, method, minor_version, length, date, own, reason = given(options).values()
    return encode_head(
        STATUS_LINES, status, fields, method, minor_version, length, date, own.server, reason
    )


@pytest.mark.parametrize("name", ENCODED)
def test_heads_that_are_encoded(name: str) -> None:
    fields, options = ENCODED[name]
    assert check_head(fields, **given(options))


@pytest.mark.parametrize("name", LEFT)
def test_heads_that_are_left_to_python(name: str) -> None:
    assert encode(*LEFT[name]) is None


def test_a_generator_is_left_as_it_is() -> None:
    fields = (pair for pair in USUAL)
    assert encode(fields, {}) is None
    head, framing = encode_response_head(200, fields, b"GET", 1, None, DATE, OWN)
    assert (head, framing) == judge_response_head(200, USUAL, b"GET", 1, None, DATE, OWN, None)


def test_chosen_fields_are_left_to_python() -> None:
    own = OwnFields([(b"X-A", b"z")])
    head, _ = encode_response_head(200, USUAL, b"GET", 1, None, DATE, own)
    assert b"\r\nx-a: z\r\n" in head


WSGI_ENCODED: dict[str, Any] = {
    "the usual": [("Content-Type", "text/plain"), ("Content-Length", "13")],
    "nothing": [],
    "any name": [("!#$%&'*+-.^_`|~09azAZ", "x"), ("X" * 300, "y")],
    "any value": [("x", ""), ("x", " \t\x80\xff~!\ta "), ("x", "\xa0")],
    "fields of a connection": [("Connection", "close"), ("Upgrade", "x"), ("TE", "x")],
    "zeros before a length": [("content-length", "0013")],
    "a long length": [("CONTENT-LENGTH", "9" * 18)],
    "many": [("x", "y")] * 500,
}

WSGI_LEFT: dict[str, Any] = {
    "a tuple": (("a", "b"),),
    "a list as a pair": [["a", "b"]],
    "bytes": [(b"a", "b")],
    "a value of bytes": [("a", b"b")],
    "a number": [("Content-Length", 13)],
    "text beyond latin-1": [("a", "\u20ac")],
    "a name that is no token": [("a b", "c")],
    "no name": [("", "c")],
    "a name that is not ASCII": [("\xe4", "c")],
    "a line end in a value": [("a", "b\r\nc: d")],
    "a control character": [("a", "\x7f")],
    "white space around a length": [("Content-Length", " 13")],
    "two lengths": [("Content-Length", "13"), ("content-length", "13")],
    "a length that is too long": [("Content-Length", "1" * 19)],
    "other digits": [("Content-Length", "\xb2")],
    "three in a pair": [("a", "b", "c")],
    "no pair": ["ab"],
}


@pytest.mark.parametrize("name", WSGI_ENCODED)
def test_fields_of_wsgi_that_are_accepted(name: str) -> None:
    assert check_fields(WSGI_ENCODED[name])


@pytest.mark.parametrize("name", WSGI_LEFT)
def test_fields_of_wsgi_that_are_left_to_python(name: str) -> None:
    assert copy_fields(WSGI_LEFT[name]) is None


@pytest.mark.parametrize(
    "fields",
    [
        (("Content-Type", "text/plain"), ("Content-Length", "13")),
        (("X", "\xe4 \xff"), ("Set-Cookie", " a=b\t")),
        (("Connection", "close"), ("X", "y")),
    ],
)
@pytest.mark.parametrize("own", [OWN, OwnFields([(b"X-A", b"z")]), OwnFields(dated=False)])
def test_text_is_encoded_as_its_bytes_are(
    fields: tuple[tuple[str, str], ...], own: OwnFields
) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    encoded = encode_text_head(200, "Tr\xe8s bien", fields, b"GET", 1, 13, DATE, own)
    assert encoded == judge_response_head(200, raw, b"GET", 1, 13, DATE, own, b"Tr\xe8s bien")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (((b"a", b"b"),), "OK"),
        ((("a", b"b"),), "OK"),
        ((("a", "\u20ac"),), "OK"),
        ((("a", "b"),), "\u20ac"),
        ((("a", "b"),), b"OK"),
        ((("a", "b"),), "a\r\nb"),
        ((("a", "b\nc"),), "OK"),
    ],
)
def test_text_that_is_left_to_python(fields: Any, reason: Any) -> None:
    assert encode_text(STATUS_LINES, 200, fields, b"GET", 1, 13, DATE, b"", reason) is None


def test_the_fields_of_wsgi_are_a_copy() -> None:
    headers = [("A", "b")]
    copied = copy_fields(headers)
    assert copied == ((("A", "b"),), None)
    assert copied[0][0] is headers[0]


def test_what_is_made_from_a_seed() -> None:
    compared, encoded = compare(60.0, 5000, seed=1)
    assert compared == 5000
    assert 1000 < encoded < 4000


@pytest.mark.parametrize(
    "arguments", [(), (STATUS_LINES, 200, USUAL), (None, 200, USUAL, b"GET", 1, 0, b"", b"", None)]
)
def test_wrong_arguments(arguments: Any) -> None:
    with pytest.raises(TypeError):
        encode_head(*arguments)


def test_nothing_is_leaked() -> None:
    cases = [*ENCODED.values(), *(LEFT[name] for name in LEFT if name != "a generator")]
    of_wsgi = [*WSGI_ENCODED.values(), *WSGI_LEFT.values()]
    for fields, options in cases * 10:
        encode(fields, options)
        for headers in of_wsgi:
            copy_fields(headers)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for fields, options in cases * 20:
            encode(fields, options)
            for headers in of_wsgi:
                copy_fields(headers)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
