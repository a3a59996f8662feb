"""permessage-deflate (RFC 7692 §7)."""

from __future__ import annotations

import zlib

import pytest

from reactor_run.protocol.websocket import rules
from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.deflate import (
    DeflateParameters,
    Offer,
    PerMessageDeflate,
    negotiate,
)
from tests.cases import loop_over
from tests.protocol.websocket.frames import frame

NAME = "permessage-deflate"
PLAIN = DeflateParameters(False, False, 10, 10, 2)


def offer(*parameters: str) -> Offer:
    pairs = [parameter.partition("=") for parameter in parameters]
    return NAME, tuple((name, value if sign else None) for name, sign, value in pairs)


@loop_over(
    "parameters, agreed",
    [
        ((), (False, True, 10, 15)),
        (("client_max_window_bits",), (False, False, 10, 10)),
        (("client_max_window_bits=9",), (False, False, 10, 9)),
        (("client_max_window_bits=15",), (False, False, 10, 10)),
        (("server_max_window_bits=9",), (False, True, 9, 15)),
        (("server_max_window_bits=15",), (False, True, 10, 15)),
        (("server_no_context_takeover", "client_max_window_bits"), (True, False, 10, 10)),
        (("client_no_context_takeover", "client_max_window_bits"), (False, True, 10, 10)),
        (("server_max_window_bits=8",), None),
        (("server_max_window_bits",), None),
        (("server_max_window_bits=09",), None),
        (("server_max_window_bits=16",), None),
        (("client_max_window_bits=7",), None),
        (("client_max_window_bits=",), None),
        (("server_no_context_takeover=1",), None),
        (("client_no_context_takeover=x",), None),
        (("client_max_window_bits", "client_max_window_bits"), None),
        (("unknown",), None),
    ],
)
def test_negotiation(
    parameters: tuple[str, ...], agreed: tuple[bool, bool, int, int] | None
) -> None:
    found = negotiate([offer(*parameters)])
    assert found == (None if agreed is None else DeflateParameters(*agreed, 2))


def test_first_offer_that_can_be_met() -> None:
    offers = [("x-webkit-deflate-frame", ()), offer("unknown"), offer("client_max_window_bits=9")]
    found = negotiate(offers, window_bits=15, mem_level=8)
    assert found == DeflateParameters(False, False, 15, 9, 8)
    assert found.encode() == b"permessage-deflate; client_max_window_bits=9"
    assert negotiate([]) is None


def opened(parameters: DeflateParameters = PLAIN, message_max: int = 1 << 20) -> WebSocket:
    return WebSocket(message_max=message_max, deflate=PerMessageDeflate(parameters))


# RFC 7692 §7.2.3
@loop_over(
    "frames",
    [
        [frame(0xC1, bytes.fromhex("f248cdc9c90700"))],
        [frame(0x41, bytes.fromhex("f248cd")), frame(0x80, bytes.fromhex("c9c90700"))],
        [frame(0xC1, bytes.fromhex("000500faff48656c6c6f00"))],
        [frame(0xC1, bytes.fromhex("f348cdc9c9070000"))],
        [frame(0xC1, bytes.fromhex("f24805000000ffffcac9c90700"))],
        [frame(0x81, b"Hello")],
    ],
)
def test_the_examples_of_the_rfc(frames: list[bytes]) -> None:
    for step in (1, 2, 100):
        websocket = opened()
        for _ in range(3):
            data = b"".join(frames)
            for begin in range(0, len(data), step):
                websocket.receive(data[begin : begin + step])
        assert websocket.failed is None
        assert list(websocket.messages) == ["Hello"] * 3
        assert websocket.at_rest


def test_context_taken_over() -> None:
    websocket = opened()
    for payload in ("f248cdc9c90700", "f200110000"):
        websocket.receive(frame(0xC1, bytes.fromhex(payload)))
    assert list(websocket.messages) == ["Hello", "Hello"]
    forgetful = opened(PLAIN._replace(client_no_context_takeover=True))
    for payload in ("f248cdc9c90700", "f200110000"):
        forgetful.receive(frame(0xC1, bytes.fromhex(payload)))
    assert list(forgetful.messages) == ["Hello"]
    assert forgetful.failed is rules.DEFLATE


@pytest.mark.parametrize("forget", [False, True])
def test_sending(forget: bool) -> None:
    websocket = opened(PLAIN._replace(server_no_context_takeover=forget))
    inflater = zlib.decompressobj(-10)
    for message in ("Hello" * 9, "Hello" * 9, b"\0\1\2" * 400):
        sent = websocket.send(message)
        assert sent[0] == (0xC1 if isinstance(message, str) else 0xC2)
        size = sent[1]
        assert size == len(sent) - 2
        content = inflater.decompress(sent[2:] + b"\0\0\xff\xff")
        assert content == (message.encode() if isinstance(message, str) else message)
        if forget:
            inflater = zlib.decompressobj(-10)


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -10)
    return (deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_inflating_stops_at_the_limit() -> None:
    payload = deflated(bytes(1000))
    for size, fails in ((1000, False), (999, True)):
        websocket = opened(message_max=size)
        websocket.receive(frame(0xC2, payload))
        assert (websocket.failed is rules.TOO_BIG) is fails
        assert len(websocket.messages) == (not fails)


@pytest.mark.parametrize("forget", [False, True])
def test_payload_ends_with_a_block(forget: bool) -> None:
    whole = deflated(b"Hello, world! " * 9)
    for payload in (whole[:-1], whole[:-4], b"", whole + b"\0\0\xff\xff"):
        websocket = opened(PLAIN._replace(client_no_context_takeover=forget))
        websocket.receive(frame(0xC1, whole))
        websocket.receive(frame(0xC1, payload))
        assert websocket.failed is rules.DEFLATE
        assert websocket.messages[0] == "Hello, world! " * 9


@loop_over(
    "data, rule",
    [
        (frame(0xC1, b"\xff\xff"), rules.DEFLATE),
        (frame(0xC1, deflated(b"\xff")), rules.TEXT),
        (frame(0x41, deflated(b"a")) + frame(0xC0), rules.RESERVED_BITS),
        (frame(0xC9), rules.RESERVED_BITS),
        (frame(0xE1), rules.RESERVED_BITS),
        (frame(0xC1, b"\x03\x00" * 70), rules.DEFLATE),
    ],
)
def test_violations(data: bytes, rule: rules.Close) -> None:
    websocket = opened()
    websocket.receive(data)
    assert websocket.failed is rule
