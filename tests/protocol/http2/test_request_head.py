"""Heads of HTTP/2 requests as heads of HTTP/1.1 (RFC 9113 §8.2, §8.3, RFC 8441)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.http2 import request_head
from reactor_run.protocol.http2.request_head import (
    Malformed,
    TranslatedHead,
    translate_request_head,
)
from reactor_run.protocol.names import FieldNameCache
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import parse_request_head
from tests.protocol.http2.fields import (
    ANY_SIZE,
    CONNECT,
    GET,
    NAMES,
    PIECES,
    VALUES,
    check_head,
)

Fields = list[tuple[bytes, bytes]]

METHOD, SCHEME, PATH, AUTHORITY = GET


def translate(
    *fields: tuple[bytes, bytes], ended: bool = True, size: int | None = None
) -> TranslatedHead:
    return translate_request_head(fields, ended, size)


def refuses(*fields: tuple[bytes, bytes], ended: bool = True, size: int | None = None) -> bool:
    try:
        translate(*fields, ended=ended, size=size)
    except Malformed:
        return True
    return False


def test_a_request() -> None:
    head = translate(*GET, (b"accept", b"*/*"), (b"x", b""))
    data = b"GET /a?b HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\nx: \r\n\r\n"
    assert head == TranslatedHead(data, b"GET", -1, False, False)


# Injection (RFC 9113 §8.2.1, §10.3)


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\0", b"\r\n", b"\r\nx: y", b"\r\n\r\nGET / "])
@pytest.mark.parametrize("name", [b"x", b"cookie", b"host", b"content-length", b"te", *dict(GET)])
def test_a_value_cannot_inject(name: bytes, bad: bytes) -> None:
    for value in bad, b"a" + bad, bad + b"a", b"a" + bad + b"a":
        fields = [(each, value if each == name else old) for each, old in GET]
        if name[:1] != b":":
            fields.append((name, value))
        assert refuses(*fields)


@pytest.mark.parametrize(
    "name",
    [
        *(b"", b" ", b"a b", b"a:", b":a", b"A", b"x-A", b"a\r\nb", b"a\n", b"a\0", b"a\t"),
        *(b"a\x7f", b"\xe4", b"a(b", b"a/b", b'"a"', b"a\r", b" a", b"a ", b":", b"::method"),
        b"a" * 70 + b":",
    ],
)
def test_a_name_is_a_token_in_lower_case(name: bytes) -> None:
    # Twice: the second look must not find it among the known names.
    assert refuses(*GET, (name, b"b"))
    assert refuses(*GET, (name, b"b"))


@pytest.mark.parametrize("name", [b":method", b":path", b":authority"])
def test_no_control_character_or_space_in_the_request_line(name: bytes) -> None:
    old = dict(GET)[name]
    for character in b" ", b"\t", b"\r", b"\n", b"\0", b"\x7f", b"\x01", b"\x0b":
        for value in character + old, old + character, old[:2] + character + old[2:]:
            assert refuses(*((each, value if each == name else right) for each, right in GET))


def test_names_are_forgotten() -> None:
    for number in range(3 * FieldNameCache.MAX_NAMES):
        translate(*GET, (b"x-%d" % number, b"y"))
        assert len(request_head._meanings) <= FieldNameCache.MAX_NAMES
    assert refuses(*GET, (b"connection", b"close"))
    translate(*GET, (b"x" * 1000, b"y"))
    assert b"x" * 1000 not in request_head._meanings


# Pseudo-header fields (RFC 9113 §8.3)


@pytest.mark.parametrize("field", GET)
def test_pseudo_header_fields_come_once(field: tuple[bytes, bytes]) -> None:
    assert refuses(*GET, field)
    assert refuses(field, *GET)
    assert refuses(*((name, b"" if name == field[0] else value) for name, value in GET))


@pytest.mark.parametrize("field", [METHOD, SCHEME, PATH])
def test_pseudo_header_fields_are_there(field: tuple[bytes, bytes]) -> None:
    assert refuses(*(each for each in GET if each != field))


@pytest.mark.parametrize(
    "field", [(b"x", b"y"), (b"cookie", b"a=b"), (b"host", b"a.example"), (b"content-length", b"0")]
)
def test_pseudo_header_fields_come_first(field: tuple[bytes, bytes]) -> None:
    assert refuses(METHOD, field, SCHEME, PATH, AUTHORITY)
    assert refuses(field, *GET)


def test_te_does_not_come_before_pseudo_header_fields() -> None:
    assert refuses((b"te", b"trailers"), *GET)


@pytest.mark.parametrize("name", [b":status", b":x", b":Method", b":", b":cookie"])
def test_unknown_pseudo_header_fields(name: bytes) -> None:
    assert refuses(*GET, (name, b"200"))


@pytest.mark.parametrize("path", [b"a", b"http://a.example/", b"a:80", b"?a", b"", b"**", b"*/"])
def test_path_is_in_origin_form(path: bytes) -> None:
    assert refuses(METHOD, SCHEME, (b":path", path), AUTHORITY)


def test_asterisk() -> None:
    head = translate((b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY)
    assert head.data.startswith(b"OPTIONS * HTTP/1.1\r\n")


# :authority and Host (RFC 9113 §8.3.1)


def test_host() -> None:
    alone = translate(METHOD, SCHEME, PATH, (b"host", b"a.example"))
    both = translate(*GET, (b"host", b"a.example"))
    assert alone.data == both.data == translate(*GET).data
    assert b"host: A.Example\r\n" in translate(*GET, (b"host", b"A.Example")).data
    assert b"host: \r\n" in translate(METHOD, SCHEME, PATH).data


@pytest.mark.parametrize(
    "hosts", [[b"b.example"], [b"a.example:80"], [b""], [b"a.example"] * 2, [b"a.example, b"]]
)
def test_a_host_that_differs(hosts: list[bytes]) -> None:
    assert refuses(*GET, *((b"host", host) for host in hosts))


# Other fields


def test_cookies_are_joined() -> None:
    head = translate(*GET, (b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d; e=f"))
    assert head.data.endswith(b"\r\nx: y\r\ncookie: a=b; c=d; e=f\r\n\r\n")


@pytest.mark.parametrize(
    "name", [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
)
def test_fields_of_a_connection(name: bytes) -> None:
    for value in b"", b"chunked", b"close", b"trailers":
        assert refuses(*GET, (name, value))


def test_te() -> None:
    for value in b"trailers", b"Trailers":
        assert not refuses(*GET, (b"te", value))
    for value in b"", b"gzip", b"trailers, gzip", b"trailers;q=1", b"chunked":
        assert refuses(*GET, (b"te", value))


# Content (RFC 9113 §8.1.1)


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1 ", b"1,1", b"0x1", b"1.0", b"\xb2", b"9" * 40]
)
def test_content_length_is_a_number(value: bytes) -> None:
    assert refuses(*GET, (b"content-length", value), ended=False)


def test_content_length_is_the_size_of_the_content() -> None:
    five = (b"content-length", b"5")
    assert translate(*GET, five, ended=True, size=5).length == 5
    assert translate(*GET, five, ended=False).length == 5
    assert refuses(*GET, five, five, ended=False)
    for size in None, 0, 4, 6:
        assert refuses(*GET, five, ended=True, size=size)


def test_content_without_a_length() -> None:
    head = translate(*GET, ended=False)
    assert head.chunked
    assert head.data.endswith(b"transfer-encoding: chunked\r\n\r\n")
    head = translate(*GET, ended=True, size=7)
    assert (head.chunked, head.length) == (False, 7)
    assert head.data.endswith(b"content-length: 7\r\n\r\n")
    assert b"content-length: 0\r\n" in translate(*GET, ended=True, size=0).data
    assert b"content-length" not in translate(*GET).data


# CONNECT (RFC 9113 §8.5, RFC 8441 §4)


def test_connect_is_for_the_policy() -> None:
    head = translate((b":method", b"CONNECT"), (b":authority", b"a:80"))
    assert head.data.startswith(b"CONNECT a:80 HTTP/1.1\r\n")
    with pytest.raises(Rejected) as rejected:
        parse_request_head(head.data, ANY_SIZE)
    assert rejected.value.rule.status == 501


def test_a_websocket() -> None:
    head = translate(*CONNECT, (b"sec-websocket-version", b"13"), ended=False)
    assert (head.tunnel, head.method, head.chunked, head.length) == (True, b"GET", False, -1)
    parsed = parse_request_head(head.data, ANY_SIZE)
    assert parsed is not None
    assert (parsed.target, parsed.upgrade, parsed.body) == (b"/chat", True, 0)
    assert head.data.count(b"sec-websocket-key: ") == 1


@pytest.mark.parametrize("name", [b":scheme", b":path"])
def test_a_websocket_has_all_pseudo_header_fields(name: bytes) -> None:
    assert refuses(*(each for each in CONNECT if each[0] != name), ended=False)


def test_a_protocol_needs_connect() -> None:
    assert refuses(*GET, (b":protocol", b"websocket"))


def test_a_websocket_has_no_content_of_a_length() -> None:
    """The head would say that bytes of the WebSocket are a body."""
    assert refuses(*CONNECT, (b"content-length", b"5"), ended=False)


# Any fields


@given(
    st.sampled_from([GET, CONNECT, GET[:3], [(b":method", b"POST"), *GET[1:]]])
    | st.permutations([*GET, (b"x", b"y")]),
    st.lists(
        st.tuples(
            st.sampled_from(NAMES) | st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
            st.sampled_from(VALUES) | st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join),
        ),
        max_size=5,
    ),
    st.booleans(),
    st.none() | st.integers(0, 9),
)
def test_the_head_says_what_the_fields_say(
    start: Fields, more: Fields, ended: bool, size: int | None
) -> None:
    check_head(start + more, ended, size)
