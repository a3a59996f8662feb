"""The opening handshake (RFC 6455 §4.2)."""

from __future__ import annotations

import pytest

from reactor_run.protocol.own_fields import ONLY_DATE, OwnFields
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, judge_request_head, parse_request_head
from reactor_run.protocol.response import ResponseError
from reactor_run.protocol.response_head import parse_response_head
from reactor_run.protocol.websocket.deflate import DeflateParameters
from reactor_run.protocol.websocket.handshake import (
    HandshakeError,
    encode_accept,
    read_handshake,
    wants_websocket,
)
from tests.cases import loop_over

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
USUAL = {
    b"Host": b"a",
    b"Connection": b"keep-alive, Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}


def head_of(
    *lines: bytes, line: bytes = b"GET /chat HTTP/1.1", **changed: bytes | None
) -> RequestHead:
    """Return the head of a usual request with these lines more, and these fields changed."""
    fields = dict(USUAL)
    for name, value in changed.items():
        key = next(each for each in USUAL if each.lower().endswith(name.encode()))
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    all_lines = [line, *[b"%b: %b" % field for field in fields.items()], *lines]
    data = b"\r\n".join(all_lines) + b"\r\n\r\n"
    native = parse_request_head(data, Limits())
    policy = judge_request_head(data, Limits())
    assert native is not None
    assert policy is not None
    assert wants_websocket(native) == wants_websocket(policy)
    return native


def test_usual_request() -> None:
    head = head_of()
    assert wants_websocket(head)
    handshake = read_handshake(head)
    assert handshake.key == KEY
    assert handshake.subprotocols == []
    assert handshake.offers == []


@loop_over(
    "wanted, head",
    [
        (True, head_of(connection=b"UPGRADE", upgrade=b"WebSocket")),
        (True, head_of(connection=b"upgrade", upgrade=b"h2c, websocket")),
        (True, head_of(b"Upgrade: h2c")),
        (False, head_of(connection=b"keep-alive")),
        (False, head_of(connection=None)),
        (False, head_of(upgrade=b"h2c")),
        (False, head_of(upgrade=b"websocket/13")),
        (False, head_of(upgrade=None)),
        (False, head_of(line=b"POST / HTTP/1.1")),
        (False, head_of(line=b"GET / HTTP/1.0")),
        (False, head_of(b"Content-Length: 1")),
        (False, head_of(b"Transfer-Encoding: chunked")),
    ],
    ids=lambda case: repr((case[0], case[1].fields)),
)
def test_what_asks_for_a_websocket(wanted: bool, head: RequestHead) -> None:
    assert wants_websocket(head) is wanted


@loop_over(
    "status, head",
    [
        (426, head_of(version=b"8")),
        (426, head_of(version=b"013")),
        (426, head_of(version=None)),
        (426, head_of(b"Sec-WebSocket-Version: 13")),
        (400, head_of(key=None)),
        (400, head_of(b"Sec-WebSocket-Key: " + KEY)),
        (400, head_of(key=b"")),
        (400, head_of(key=b"SGVsbG8sIHdvcmxkIQ==")),
        (400, head_of(key=b"no base64")),
        (400, head_of(key=KEY[:-1])),
        (400, head_of(b"Sec-WebSocket-Protocol: a b")),
        (400, head_of(b"Sec-WebSocket-Protocol: a, \xff")),
        (400, head_of(b"Sec-WebSocket-Extensions: a b")),
        (400, head_of(b"Sec-WebSocket-Extensions: a;")),
        (400, head_of(b"Sec-WebSocket-Extensions: ;a")),
        (400, head_of(b"Sec-WebSocket-Extensions: a; b=")),
        (400, head_of(b'Sec-WebSocket-Extensions: a; b="c d"')),
        (400, head_of(b'Sec-WebSocket-Extensions: a; b="c')),
    ],
    ids=lambda case: repr((case[0], case[1].fields)),
)
def test_bad_handshakes(status: int, head: RequestHead) -> None:
    assert wants_websocket(head)
    with pytest.raises(HandshakeError) as caught:
        read_handshake(head)
    assert caught.value.status == status
    assert (b"sec-websocket-version", b"13") in caught.value.fields or status == 400


def test_subprotocols_and_offers() -> None:
    handshake = read_handshake(
        head_of(
            b"Sec-WebSocket-Protocol: graphql-ws,, chat.v2",
            b"Sec-WebSocket-Protocol: other",
            b'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="1\\0" ; b , c',
            b"Sec-WebSocket-Extensions: ,d;e=f,",
            b"Sec-WebSocket-Extensions:",
        )
    )
    assert handshake.subprotocols == ["graphql-ws", "chat.v2", "other"]
    assert handshake.offers == [
        ("permessage-deflate", (("server_max_window_bits", "10"), ("b", None))),
        ("c", ()),
        ("d", (("e", "f"),)),
    ]


def test_accepting() -> None:
    handshake = read_handshake(head_of(b"Sec-WebSocket-Protocol: chat"))
    head = encode_accept(
        handshake,
        subprotocol="chat",
        fields=[(b"X-App", b" yes "), (b"Connection", b"close"), (b"X-Own", b"app's")],
        deflate=DeflateParameters(False, True, 10, 15, 3),
        date_field=b"date: today\r\n",
        own_fields=OwnFields([(b"x-own", b"ours"), (b"x-other", b"ours")]),
    )
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"upgrade: websocket\r\n"
        b"connection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"sec-websocket-protocol: chat\r\n"
        b"sec-websocket-extensions: permessage-deflate; client_no_context_takeover; "
        b"server_max_window_bits=10\r\n"
        b"x-app: yes\r\n"
        b"x-own: app's\r\n"
        b"date: today\r\n"
        b"server: reactor-run\r\n"
        b"x-other: ours\r\n"
        b"\r\n"
    )
    parsed = parse_response_head(head, b"GET")
    assert parsed is not None
    assert parsed.upgrade


@loop_over(
    "subprotocol, fields",
    [
        ("chat", []),
        ("", []),
        (None, [(b"Sec-WebSocket-Accept", b"a")]),
        (None, [(b"sec-websocket-protocol", b"a")]),
        (None, [(b"sec-websocket-extensions", b"a")]),
        (None, [(b"a", b"b\r\nc: d")]),
        (None, [(b"a b", b"c")]),
        (None, [("a", "b")]),
        (None, [(b"a",)]),
        (None, [(b"a", b"b" * 65536)]),
    ],
)
def test_what_an_app_must_not_set(subprotocol: str | None, fields: list) -> None:
    handshake = read_handshake(head_of(b"Sec-WebSocket-Protocol: other"))
    with pytest.raises(ResponseError):
        encode_accept(
            handshake,
            subprotocol=subprotocol,
            fields=fields,
            deflate=None,
            date_field=b"",
            own_fields=ONLY_DATE,
        )
