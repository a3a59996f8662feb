from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol import response
from reactor_run.protocol.body import (
    CHUNKED,
    LAST_CHUNK,
    TRAILER_FIELDS_MAX,
    TRAILER_MAX,
    UNTIL_CLOSE,
    ChunkedReader,
)
from reactor_run.protocol.own_fields import ONLY_DATE, OwnFields, read_own_field
from reactor_run.protocol.response import (
    HEAD_MAX,
    ResponseError,
    encode_early_hints,
    encode_response_head,
    encode_trailers,
    insert_connection,
    simple_response,
)
from reactor_run.protocol.response_head import (
    BadResponse,
    KnownResponseHeads,
    ResponseHead,
    parse_response_head,
)
from tests.cases import loop_over

DATE = b"date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"
SERVER = b"server: reactor-run\r\n"
Fields = list[tuple[bytes, bytes]]


def encode(
    fields: Any = (),
    status: Any = 200,
    *,
    method: bytes = b"GET",
    minor_version: int = 1,
    length: int | None = None,
    date_field: bytes = b"",
    own_fields: OwnFields = ONLY_DATE,
    reason: Any = None,
) -> tuple[bytes, int]:
    return encode_response_head(
        status,
        fields,
        method=method,
        minor_version=minor_version,
        length=length,
        date_field=date_field,
        own_fields=own_fields,
        reason=reason,
    )


def lines(head: bytes) -> list[bytes]:
    """Return the field lines of a head."""
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")[1:]


def parsed(data: bytes, method: bytes = b"GET", start: int = 0) -> ResponseHead:
    head = parse_response_head(data, method, start)
    assert head is not None
    return head


# Encoding: the status line ------------------------------------------------------------------------


@loop_over("status", [s for s in HTTPStatus if s >= 200])
def test_known_statuses_have_their_phrase(status: HTTPStatus) -> None:
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    assert encode(status=status)[0].startswith(line)
    assert encode(status=int(status), minor_version=0)[0].startswith(line)


def test_unknown_status_has_an_empty_phrase() -> None:
    assert encode(status=299, length=0)[0] == b"HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"
    assert encode(status=999, length=0)[0] == b"HTTP/1.1 999 \r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("reason", [b"", b"Fine", b"Tr\xe8s bien", b"a\tb"])
def test_reason_of_the_app(reason: bytes) -> None:
    assert encode(reason=reason)[0].startswith(b"HTTP/1.1 200 " + reason + b"\r\n")


@pytest.mark.parametrize(
    "status", [0, -1, 99, 100, 101, 103, 199, 1000, 200.0, "200", b"200", None, True, [200]]
)
def test_status_is_rejected(status: object) -> None:
    with pytest.raises(ResponseError, match="status must be an int from 200 to 999"):
        encode(status=status)


@pytest.mark.parametrize("reason", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\x7f"])
def test_reason_with_control_characters_is_rejected(reason: bytes) -> None:
    with pytest.raises(ResponseError, match="reason has a control character"):
        encode([(b"a", b"b")], reason=reason)


def test_reason_must_be_bytes() -> None:
    with pytest.raises(ResponseError, match="reason must be bytes, not str"):
        encode(reason="OK")


# Encoding: the fields -----------------------------------------------------------------------------


def test_whole_head() -> None:
    head, framing = encode(
        [(b"Content-Type", b"text/plain"), (b"X-One", b"1")],
        length=13,
        date_field=DATE,
        own_fields=OwnFields(),
    )
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-one: 1\r\ncontent-length: 13\r\n"
        + DATE
        + SERVER
        + b"\r\n"
    )
    assert framing == 13


def test_order_and_repetition_are_kept() -> None:
    fields = [
        (b"set-cookie", b"a=1"),
        (b"x", b"1"),
        (b"Set-Cookie", b"b=2"),
        (b"set-cookie", b"a=1"),
    ]
    assert lines(encode(fields, length=0)[0])[:-1] == [
        b"set-cookie: a=1",
        b"x: 1",
        b"set-cookie: b=2",
        b"set-cookie: a=1",
    ]


@pytest.mark.parametrize("fields", [[], (), iter([]), [[b"a", b"b"]], iter([(b"a", b"b")])])
def test_any_iterable_of_pairs_will_do(fields: Any) -> None:
    assert encode(fields, length=0)[1] == 0


@pytest.mark.parametrize(
    "name",
    b"connection keep-alive proxy-connection te transfer-encoding upgrade".split(),
)
@pytest.mark.parametrize("spelling", [bytes.lower, bytes.title, bytes.upper])
def test_fields_of_one_hop_are_dropped(name: bytes, spelling: Any) -> None:
    head, framing = encode([(spelling(name), b"chunked, close")], length=3)
    assert lines(head) == [b"content-length: 3"]
    assert framing == 3


def test_upgrade_is_sent_where_it_is_required() -> None:
    """RFC 9110 §15.5.22."""
    fields = [(b"Upgrade", b" websocket "), (b"Connection", b"close")]
    head, _ = encode(fields, status=426, length=0)
    assert lines(head) == [b"connection: upgrade", b"upgrade: websocket", b"content-length: 0"]
    with pytest.raises(ResponseError, match="upgrade"):
        encode([(b"upgrade", "websocket")], status=426)


def test_an_app_announces_its_trailers() -> None:
    """RFC 9110 §6.6.2. It is no field of one hop (§7.6.1)."""
    head, _ = encode([(b"Trailer", b"x-md5")])
    assert lines(head)[0] == b"trailer: x-md5"


@pytest.mark.parametrize("name", [b"date", b"Date", b"DATE"])
def test_date_of_the_app_takes_the_place_of_ours(name: bytes) -> None:
    head, _ = encode([(name, b"then")], length=0, date_field=DATE, own_fields=OwnFields())
    assert lines(head) == [b"date: then", b"content-length: 0", SERVER[:-2]]


def test_fields_that_the_operator_has_chosen() -> None:
    own = OwnFields([(b"X-A", b"1"), (b"x-b", b""), (b"X-A", b"2")])
    head, _ = encode([(b"x-c", b"3")], length=0, date_field=DATE, own_fields=own)
    assert lines(head) == [
        b"x-c: 3",
        b"content-length: 0",
        DATE[:-2],
        SERVER[:-2],
        b"x-a: 1",
        b"x-b: ",
        b"x-a: 2",
    ]
    head, _ = encode([(b"x-A", b"3"), (b"Server", b"4")], length=0, own_fields=own)
    assert lines(head) == [b"x-a: 3", b"server: 4", b"content-length: 0", b"x-b: "]


def test_a_response_without_server_and_date() -> None:
    head, _ = encode(length=0, date_field=DATE, own_fields=OwnFields(server=False, dated=False))
    assert lines(head) == [b"content-length: 0"]
    mine = [(b"date", b"then"), (b"server", b"mine")]
    head, _ = encode(mine, length=0, own_fields=OwnFields(server=False, dated=False))
    assert lines(head) == [b"date: then", b"server: mine", b"content-length: 0"]


@pytest.mark.parametrize("server", [True, False])
def test_a_chosen_server_replaces_ours(server: bool) -> None:
    head, _ = encode(length=0, own_fields=OwnFields([(b"SERVER", b"x")], server=server))
    assert lines(head) == [b"content-length: 0", b"server: x"]


def test_heads_of_servers_with_other_fields_are_not_mixed_up() -> None:
    for value in b"1", b"2":
        own = OwnFields([(b"x-a", value)], server=False)
        head, _ = encode(length=0, own_fields=own)
        assert lines(head) == [b"content-length: 0", b"x-a: " + value]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"X-A:1", (b"X-A", b"1")),
        (b"x-a: \t1: 2 \t", (b"x-a", b"1: 2")),
        (b"X-A:", (b"X-A", b"")),
        (b"x-a:caf\xc3\xa9", (b"x-a", b"caf\xc3\xa9")),
    ],
)
def test_a_field_as_an_operator_writes_it(text: bytes, field: tuple[bytes, bytes]) -> None:
    assert read_own_field(text) == field


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "expected NAME:VALUE"),
        (b"X-A", "expected NAME:VALUE"),
        (b":1", "expected a name"),
        (b"X A:1", "expected a name"),
        (b"X-A :1", "expected a name"),
        (b"X-\xc3\xa4:1", "expected a name"),
        (b"X\r\nA:1", "expected a name"),
        (b"X-A:1\r\nX-B:2", "a line end"),
        (b"X-A:1\n", "a line end"),
        (b"X-A:\x00", "control character"),
        (b"X-A:\x7f", "control character"),
        (b"content-length:0", "content-length, because it frames"),
        (b"Transfer-Encoding: chunked", "Transfer-Encoding, because it frames"),
        (b"connection:close", "connection, because it frames"),
        (b"Keep-Alive:1", "Keep-Alive, because it frames"),
        (b"Upgrade:x", "Upgrade, because it frames"),
        (b"Trailer:x", "Trailer, because it frames"),
        (b"Date:now", "--no-date-header"),
    ],
)
def test_fields_that_an_operator_cannot_choose(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_own_field(text)


@pytest.mark.parametrize("name", [b"server", b"Server"])
def test_server_of_the_app_takes_the_place_of_ours(name: bytes) -> None:
    head, _ = encode([(name, b"mine")], length=0, date_field=DATE, own_fields=OwnFields())
    assert lines(head) == [b"server: mine", b"content-length: 0", DATE[:-2]]


@pytest.mark.parametrize("value", [b" a b", b"a b ", b"\t a b\t \t"])
def test_white_space_around_values_is_stripped(value: bytes) -> None:
    assert b"\r\nx: a b\r\n" in encode([(b"x", value)])[0]


@pytest.mark.parametrize("value", [b"", b" ", b"a\tb", b"\x80\xff", "é".encode(), b": ;=\"'<>"])
def test_values_that_are_accepted(value: bytes) -> None:
    assert b"\r\nx: " + value.strip() + b"\r\n" in encode([(b"x", value)])[0]


@loop_over("byte", [b for b in range(32) if b != 9] + [127])
@loop_over("form", [b"a%cb", b"%ca", b"a%c", b"%c"])
@loop_over("name", [b"location", b"x-odd", b"Date"])
def test_control_characters_in_values_are_rejected(byte: int, form: bytes, name: bytes) -> None:
    value = form % byte
    with pytest.raises(ResponseError, match="control character") as caught:
        encode([(b"a", b"good"), (name, value), (b"z", b"good")])
    assert repr(name.lower()) in str(caught.value)
    assert repr(value) in str(caught.value)


@loop_over("byte", [b for b in range(256) if chr(b) not in "!#$%&'*+-.^_`|~"])
def test_names_must_be_tokens(byte: int) -> None:
    name = b"x%cx" % byte
    if bytes([byte]).isalnum():
        assert b"\r\n" + name.lower() + b": v\r\n" in encode([(name, b"v")])[0]
        return
    for _ in range(2):
        with pytest.raises(ResponseError, match="is not a token") as caught:
            encode([(name, b"v")])
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [b"", b" ", b"content-type ", b" content-type", b"content-type:"])
def test_near_names_are_rejected(name: bytes) -> None:
    with pytest.raises(ResponseError, match="is not a token"):
        encode([(name, b"v")])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (("x", b"v"), "field name 'x' must be bytes, not str"),
        ((bytearray(b"x"), b"v"), r"field name bytearray\(b'x'\) must be bytes"),
        ((memoryview(b"x"), b"v"), "field name <memory at .*> must be bytes, not memoryview"),
        ((1, b"v"), "field name 1 must be bytes, not int"),
        ((None, b"v"), "field name None must be bytes"),
        ((b"x", "v"), "value of field b'x' must be bytes, not str"),
        ((b"x", 1), "value of field b'x' must be bytes, not int"),
        ((b"x", None), "value of field b'x' must be bytes, not NoneType"),
        ((b"x", bytearray(b"v")), "value of field b'x' must be bytes, not bytearray"),
        ((b"content-length", 5), "value of field b'content-length' must be bytes, not int"),
        ((b"a", b"b", b"c"), "pairs of a name and a value: too many values"),
        ((b"a",), "pairs of a name and a value: not enough values"),
        (7, "pairs of a name and a value: cannot unpack"),
        (b"ab", "field name 97 must be bytes"),
    ],
)
def test_fields_must_be_pairs_of_bytes(field: Any, message: str) -> None:
    with pytest.raises(ResponseError, match=message):
        encode([(b"good", b"good"), field])


def test_fields_must_be_iterable() -> None:
    with pytest.raises(ResponseError, match="pairs"):
        encode(None)


def test_messages_are_truncated() -> None:
    with pytest.raises(ResponseError) as caught:
        encode([(b"x" * 1000 + b" ", b"v")])
    assert len(str(caught.value)) < 200
    with pytest.raises(ResponseError) as caught:
        encode([(b"x" * 1000, b"v" * 1000 + b"\n")])
    assert len(str(caught.value)) < 300


def test_head_too_large() -> None:
    overhead = len(encode([(b"x", b"")])[0])
    head, _ = encode([(b"x", b"v" * (HEAD_MAX - overhead))])
    assert len(head) == HEAD_MAX
    assert parsed(head).size == HEAD_MAX
    with pytest.raises(ResponseError, match="more than 65536 bytes"):
        encode([(b"x", b"v" * (HEAD_MAX - overhead + 1))])


@pytest.fixture
def _spellings_as_new() -> Iterator[None]:
    yield
    response._starts.clear()
    response._starts.update(response._COMMON)
    response._meanings.clear()
    response._meanings.update(response._MEANINGS)


@pytest.mark.usefixtures("_spellings_as_new")
def test_spellings_are_learnt_and_bounded() -> None:
    for number in range(3000):
        name = b"X-%d" % number
        for _ in range(2):
            assert lines(encode([(name, b"v")], length=0)[0])[0] == name.lower() + b": v"
        assert len(response._starts) + len(response._meanings) <= 1024
    assert lines(encode([(b"Content-Type", b"v"), (b"TE", b"v")], length=0)[0]) == [
        b"content-type: v",
        b"content-length: 0",
    ]


@pytest.mark.usefixtures("_spellings_as_new")
def test_spellings_of_framing_are_bounded_too() -> None:
    for number in range(1 << 11):
        name = bytes(
            c ^ 0x20 if 97 <= c <= 122 and number >> i & 1 else c
            for i, c in enumerate(b"content-length")
        )
        assert encode([(name, b"7")])[1] == 7
        assert len(response._starts) + len(response._meanings) <= 1024


@pytest.mark.usefixtures("_spellings_as_new")
def test_long_names_are_not_remembered() -> None:
    name = b"x" * 257
    before = len(response._starts)
    assert name + b": v" in encode([(name, b"v")])[0]
    assert len(response._starts) == before


# Encoding: framing --------------------------------------------------------------------------------

L5 = (b"Content-Length", b"5")
WIRE_5 = b"content-length: 5"
WIRE_CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize(
    ("method", "status", "minor_version", "fields", "length", "wire", "framing"),
    [
        # The app's length, then the caller's, then none.
        (b"GET", 200, 1, [L5], None, [WIRE_5], 5),
        (b"GET", 200, 1, [L5], 9, [WIRE_5], 5),
        (b"GET", 200, 0, [L5], None, [WIRE_5], 5),
        (b"GET", 200, 1, [], 5, [WIRE_5], 5),
        (b"GET", 200, 0, [], 5, [WIRE_5], 5),
        (b"GET", 200, 1, [], 0, [b"content-length: 0"], 0),
        (b"POST", 404, 1, [], None, [WIRE_CHUNKED], CHUNKED),
        (b"GET", 200, 0, [], None, [], UNTIL_CLOSE),
        (b"GET", 205, 1, [], 0, [b"content-length: 0"], 0),
        # Transfer-Encoding of the app says nothing.
        (b"GET", 200, 1, [(b"transfer-encoding", b"gzip")], 5, [WIRE_5], 5),
        (b"GET", 200, 1, [L5, (b"transfer-encoding", b"chunked")], None, [WIRE_5], 5),
        # HEAD: the length of the body of GET, if it is known.
        (b"HEAD", 200, 1, [L5], None, [WIRE_5], 0),
        (b"HEAD", 200, 1, [L5], 0, [WIRE_5], 0),
        (b"HEAD", 200, 1, [], 5, [WIRE_5], 0),
        (b"HEAD", 200, 1, [], 0, [], 0),
        (b"HEAD", 200, 1, [], None, [], 0),
        (b"HEAD", 200, 0, [], None, [], 0),
        (b"HEAD", 204, 1, [L5], None, [], 0),
        (b"HEAD", 304, 1, [L5], None, [WIRE_5], 0),
        (b"HEAD", 304, 1, [], 5, [], 0),
        # Statuses without a body.
        (b"GET", 204, 1, [], None, [], 0),
        (b"GET", 204, 1, [], 5, [], 0),
        (b"GET", 204, 1, [L5], 5, [], 0),
        (b"GET", 304, 1, [], None, [], 0),
        (b"GET", 304, 1, [], 0, [], 0),
        (b"GET", 304, 1, [L5], 0, [WIRE_5], 0),
        (b"GET", 304, 0, [], None, [], 0),
    ],
)
def test_framing(
    method: bytes,
    status: int,
    minor_version: int,
    fields: Fields,
    length: int | None,
    wire: list[bytes],
    framing: int,
) -> None:
    head, got = encode(fields, status, method=method, minor_version=minor_version, length=length)
    assert (lines(head), got) == (wire, framing)
    assert parsed(head, method).body == framing


def test_lengths_that_agree_are_merged() -> None:
    fields = [(b"content-length", b" 5"), (b"x", b"1"), (b"Content-Length", b"05 ")]
    head, framing = encode(fields)
    assert lines(head) == [b"x: 1", WIRE_5]
    assert framing == 5


def test_lengths_that_differ_are_rejected() -> None:
    with pytest.raises(ResponseError, match="content-length is both 5 and 6"):
        encode([L5, (b"content-length", b"6")])


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", b"-1", b"+5", b"5, 5", b"5 5", b"0x5", b"5.0", b"1_0", b"\xb2", b"five"),
        *(b"5\r\n", b"1" * 19, b"9" * 5000),
    ],
)
@pytest.mark.parametrize("status", [200, 204, 304])
def test_length_that_is_no_number_is_rejected(value: bytes, status: int) -> None:
    with pytest.raises(ResponseError, match="field content-length must be a number of bytes"):
        encode([(b"Content-Length", value)], status)


def test_largest_length() -> None:
    head, framing = encode([(b"Content-Length", b"9" * 18)])
    assert framing == parsed(head).body == 10**18 - 1


# Encoding, then reading ---------------------------------------------------------------------------

names = st.one_of(
    st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12).map(str.encode),
    st.sampled_from([b"Content-Type", b"date", b"Server", b"Connection", b"transfer-encoding"]),
)
values = st.binary(max_size=30)


@given(
    status=st.integers(200, 999),
    fields=st.lists(st.tuples(names, values), max_size=6),
    method=st.sampled_from([b"GET", b"HEAD", b"POST"]),
    minor_version=st.integers(0, 1),
    length=st.one_of(st.none(), st.integers(0, 1 << 40)),
    app_length=st.one_of(st.none(), st.integers(0, 1 << 40)),
    reason=st.one_of(st.none(), values),
    body=st.binary(max_size=10),
)
def test_what_is_encoded_is_read_again(
    status: int,
    fields: Fields,
    method: bytes,
    minor_version: int,
    length: int | None,
    app_length: int | None,
    reason: bytes | None,
    body: bytes,
) -> None:
    if app_length is not None:
        fields = [*fields, (b"content-length", b"%d" % app_length)]
    try:
        head, framing = encode(
            fields,
            status,
            method=method,
            minor_version=minor_version,
            length=length,
            date_field=DATE,
            own_fields=OwnFields(),
            reason=reason,
        )
    except ResponseError:
        texts = [value.strip(b" \t") for _, value in fields] + [reason or b""]
        assert any((c < 32 and c != 9) or c == 127 for text in texts for c in text)
        return
    read = parsed(head + body, method)
    assert (read.status, read.size, read.body) == (status, len(head), framing)
    assert (read.interim, read.upgrade, read.minor_version) == (False, False, 1)
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r")


@given(
    status=st.sampled_from([200, 204, 206, 304, 404, 500]),
    fields=st.lists(
        st.tuples(st.sampled_from([b"X-A", b"content-type", b"Set-Cookie"]), st.just(b"v, w")),
        max_size=4,
    ),
    method=st.sampled_from([b"GET", b"HEAD"]),
    length=st.one_of(st.none(), st.integers(1, 1000)),
)
def test_another_parser_agrees(
    status: int, fields: Fields, method: bytes, length: int | None
) -> None:
    head, framing = encode(fields, status, method=method, length=length, date_field=DATE)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head)
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    sent = [(name.lower(), value) for name, value in fields]
    framing_names = (b"date", b"content-length", b"transfer-encoding")
    assert [(n, v) for n, v in event.headers if n not in framing_names] == sent
    ended = isinstance(client.next_event(), h11.EndOfMessage)
    assert ended == (framing == 0)


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "head", "expected"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 5),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length:5\r\n\r\n", 5),
        (b"GET", b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: \t 5 \t\r\n\r\n", 5),
        (b"GET", b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 5\r\nc: d\r\n\r\n", 5),
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0),
        (b"GET", b"HTTP/1.0 200 OK\r\ncontent-length: 005\r\n\r\n", 5),
        (b"GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNKED),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:Chunked \r\n\r\n", CHUNKED),
        (b"GET", b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.0 200 \r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 200 OK\r\nx-content-length: 5\r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length-x: 5\r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 200 OK\r\nx: content-length: 5\r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 200 content-length: 5\r\n\r\n", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 0),
        (b"GET", b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 0),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 0),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", 0),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 0),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 0),
        (b"HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n", 0),
    ],
)
def test_framing_of_a_head_that_is_read(method: bytes, head: bytes, expected: int) -> None:
    for rest in (b"", b"x", b"\r\n", b"HTTP/1.1 500 E\r\ncontent-length: 7\r\n\r\n"):
        read = parsed(head + rest, method)
        assert (read.body, read.size) == (expected, len(head))
        assert (read.interim, read.upgrade) == (False, False)
        assert (read.status, read.minor_version) == (int(head[9:12]), int(head[7:8]))
        read = parsed(b"before" + head + rest, method, 6)
        assert (read.body, read.size) == (expected, len(head))


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_heads(status: int) -> None:
    head = b"HTTP/1.1 %d \r\nlink: </a>\r\n\r\n" % status
    read = parsed(head + b"HTTP/1.1 200 OK\r\n\r\n")
    assert (read.interim, read.upgrade, read.body, read.size) == (True, False, 0, len(head))


def test_a_tunnel() -> None:
    read = parsed(b"HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert (read.upgrade, read.interim, read.body) == (True, False, UNTIL_CLOSE)


def test_incomplete_heads() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\n"
    for end in range(len(head)):
        assert parse_response_head(head[:end], b"GET") is None
        assert parse_response_head(b"." * 7 + head[:end], b"GET", 7) is None
    assert parsed(head).body == 5


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("not a response", b"GET / HTTP/1.1\r\n\r\n"),
        ("not a response", b"H2"),
        ("not a response", b"HTTP/2 200\r\n\r\n"),
        ("not a response", b"http/1.1 200 OK\r\n\r\n"),
        ("not a response", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("not a response", b" HTTP/1.1 200 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.2 200 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 200\r\n\r\n"),
        ("not a status line", b"HTTP/1.1  200 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 +20 OK\r\n\r\n"),
        ("not a status line", b"HTTP/1.1 200 O\0K\r\n\r\n"),
        ("CR LF", b"HTTP/1.1 200 OK\n\n"),
        ("CR LF", b"HTTP/1.1 200 OK\n"),
        ("CR LF", b"HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n"),
        ("CR LF", b"HTTP/1.1 200 OK\r\na: b\r\n\n"),
        ("CR LF", b"HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n"),
        ("CR LF", b"HTTP/1.1 200 OK\r\na: b\r\r\n\r\n"),
        ("folded", b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"),
        ("folded", b"HTTP/1.1 200 OK\r\na: b\r\n\tcontent-length: 5\r\n\r\n"),
        ("folded", b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\na : b\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\n: b\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\nab\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\na: \x7f\r\n\r\n"),
        ("not a field", b"HTTP/1.1 200 OK\r\n\xe9: a\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: 5x\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ncontent-length: " + b"1" * 19 + b"\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked;q=1\r\n\r\n"),
        ("framing", b"HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\n"),
        (
            "framing",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "framing",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "framing",
            b"HTTP/1.1 304 NM\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        ),
        ("Transfer-Encoding", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding", b"HTTP/1.1 204 NC\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding", b"HTTP/1.1 100 C\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding", b"HTTP/1.1 101 S\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("more than", b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_MAX),
        ("more than", b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_MAX + b"\r\n\r\n"),
        ("more than", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 11_000 + b"\r\n"),
    ],
)
def test_bad_responses(message: str, data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        with pytest.raises(BadResponse, match=message):
            parse_response_head(data, method)
        with pytest.raises(BadResponse, match=message):
            parse_response_head(b"....." + data, method, 5)


heads = st.lists(
    st.sampled_from(
        [
            *(b"HTTP/1.1 200 OK", b"HTTP/1.0 204 ", b"\r\n", b"\r", b"\n", b" ", b":", b"a: b"),
            *(b"Content-Length", b"content-length: 5", b"transfer-encoding: ", b"chunked", b"7"),
        ]
    ),
    max_size=12,
).map(b"".join)


@given(heads)
def test_a_head_that_is_not_accepted_is_incomplete_or_bad(tail: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + tail
    try:
        head = parse_response_head(data, b"GET")
    except BadResponse:
        return
    end = data.find(b"\r\n\r\n")
    assert (head is None) == (end < 0)
    assert head is None or head.size == end + 4


def outcome(parse: Any, *args: Any) -> Any:
    """Return what a parser makes of its arguments, to be compared."""
    try:
        head = parse(*args)
    except BadResponse as bad:
        return str(bad)
    return head and [getattr(head, name) for name in ResponseHead.__slots__]


@given(heads, st.sampled_from([b"GET", b"HEAD", b"POST"]), st.integers(0, 3))
def test_a_head_that_is_known_is_read_as_before(tail: bytes, method: bytes, start: int) -> None:
    known = KnownResponseHeads()
    data = b"HTTP"[:start] + b"HTTP/1.1 200 OK\r\n" + tail
    for each in (b"GET", method, b"GET", method):
        expected = outcome(parse_response_head, data, each, start)
        assert outcome(known.parse, data, each, start) == expected


def test_the_cache_of_heads_is_bounded_and_has_no_long_ones() -> None:
    known = KnownResponseHeads()
    for number in range(3 * known.MAX):
        assert known.parse(b"HTTP/1.1 200 OK\r\na: %d\r\n\r\n" % number, b"GET")
        assert len(known._heads) <= known.MAX
    before = len(known._heads)
    long = b"HTTP/1.1 200 OK\r\na: " + b"x" * known.SIZE + b"\r\n\r\n"
    assert known.parse(long, b"GET") is not known.parse(long, b"GET")
    assert len(known._heads) == before


@given(st.binary(max_size=60))
def test_noise_is_never_taken_for_a_head(noise: bytes) -> None:
    # Hypothesis learns to make heads. At least these bytes must not be one.
    noise = noise.replace(b"\r\n\r\n", b"")
    try:
        head = parse_response_head(noise, b"GET")
    except BadResponse:
        return
    assert head is None
    assert noise.startswith(b"HTTP/1."[: len(noise)])


# Responses of the server itself -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_insert_connection(kind: Any) -> None:
    message = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\r\n"
    assert insert_connection(kind(message), b"keep-alive") == (
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n\r\n"
    )


def test_insert_connection_where_there_are_no_fields() -> None:
    assert insert_connection(b"HTTP/1.1 204 \r\n\r\n", b"close") == (
        b"HTTP/1.1 204 \r\nconnection: close\r\n\r\n"
    )
    with pytest.raises(ValueError, match="no start line"):
        insert_connection(b"HTTP/1.1 200 OK", b"close")


def test_simple_response() -> None:
    message = simple_response(
        503, b"busy\n", fields=[(b"Retry-After", b"1")], date_field=DATE, close=True
    )
    phrase = HTTPStatus.SERVICE_UNAVAILABLE.phrase.encode()
    assert message == (
        b"HTTP/1.1 503 " + phrase + b"\r\nconnection: close\r\n"
        b"content-type: text/plain; charset=utf-8\r\nretry-after: 1\r\ncontent-length: 5\r\n"
        + DATE
        + b"\r\nbusy\n"
    )


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 502, 503, 504, 505])
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("body", [b"", b"no\n"])
def test_simple_responses_delimit_themselves(status: int, close: bool, body: bytes) -> None:
    message = simple_response(status, body, date_field=DATE, close=close)
    read = parsed(message)
    assert (read.status, read.body) == (status, len(body))
    assert message[read.size :] == body
    assert (b"\r\nconnection: close\r\n" in message) == close


def test_simple_response_to_head() -> None:
    message = simple_response(404, b"none\n", date_field=b"", close=False, head_only=True)
    assert lines(message)[-1] == b"content-length: 5"
    assert parsed(message, b"HEAD").body == 0


@pytest.mark.parametrize(
    ("fields", "is_stream"),
    [
        (b"content-type: text/event-stream\r\ntransfer-encoding: chunked", True),
        (b"Transfer-Encoding: chunked\r\nContent-Type:\ttext/Event-Stream ;charset=utf-8", True),
        (b"content-type: text/event-stream", True),
        (b"content-type: text/event-stream\r\ncontent-length: 5", False),
        (b"content-type: text/event-streams", False),
        (b"x-content-type: text/event-stream", False),
        (b"content-type: text/plain\r\nx: text/event-stream", False),
    ],
)
def test_event_streams_are_known_by_their_type(fields: bytes, is_stream: bool) -> None:
    head = parse_response_head(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n", b"GET")
    assert head is not None
    assert head.event_stream is is_stream


# Early hints


def test_early_hints_are_a_103_with_the_app_s_fields() -> None:
    hints = encode_early_hints([(b"Link", b" </a>; rel=preload "), (b"link", b"</b>"), (b"x", b"")])
    assert hints == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\nx: \r\n\r\n"
    )
    head = parse_response_head(hints, b"GET")
    assert head is not None
    assert (head.status, head.interim, head.size) == (103, True, len(hints))


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"Connection", b"date"])
def test_early_hints_have_no_fields_of_the_server(name: bytes) -> None:
    assert encode_early_hints([(name, b"1")]) == b""
    assert encode_early_hints([(name, b"1"), (b"link", b"</a>")]) == encode_early_hints(
        [(b"link", b"</a>")]
    )


@pytest.mark.parametrize(
    "fields",
    [
        [(b"link", b"</a>\r\nset-cookie: a=b")],
        [(b"li nk", b"</a>")],
        [(b"", b"</a>")],
        [("link", b"</a>")],
        [(b"link", "</a>")],
        [(b"link", b"x" * HEAD_MAX)],
        [b"link"],
    ],
    ids=lambda fields: repr(fields)[:20],
)
def test_early_hints_that_cannot_be_sent(fields: Any) -> None:
    with pytest.raises(ResponseError):
        encode_early_hints(fields)


def test_trailers_end_a_chunked_body() -> None:
    end = encode_trailers([(b"X-Md5", b" abc "), (b"transfer-encoding", b"x"), (b"te", b"y")])
    assert end == b"0\r\nx-md5: abc\r\n\r\n"
    assert encode_trailers([]) == LAST_CHUNK
    for bad in ([(b"a", b"\n")], [(b"a", b"x" * TRAILER_MAX)], [(b"a", b"")] * 65, [(b"a:", b"")]):
        with pytest.raises(ResponseError):
            encode_trailers(bad)
    most = encode_trailers([(b"a", b"x" * 100)] * TRAILER_FIELDS_MAX)
    reader = ChunkedReader()
    assert reader.feed(most) == len(most)
    assert reader.complete
