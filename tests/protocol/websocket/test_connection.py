"""A WebSocket after its handshake (RFC 6455 §5 to §8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor_run.native import NATIVE
from reactor_run.protocol.websocket import connection, rules
from reactor_run.protocol.websocket.connection import FRAMES_MAX, ClosedError, WebSocket
from reactor_run.protocol.websocket.masking import xor_mask
from reactor_run.protocol.websocket.rules import Close
from tests.cases import loop_over
from tests.protocol.websocket.frames import frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
MAX = 1 << 20

MESSAGES: list[tuple[bytes, list[str | bytes]]] = [
    (frame(TEXT, "Hello"), ["Hello"]),
    (frame(TEXT), [""]),
    (frame(BINARY, bytes(range(256))), [bytes(range(256))]),
    (frame(BINARY, b"x" * 65536), [b"x" * 65536]),
    (frame(0x01, "Hel") + frame(0x80, "lo"), ["Hello"]),
    (frame(0x02, b"a") + frame(0x00) + frame(0x80, b"b"), [b"ab"]),
    (frame(0x01) + frame(0x80), [""]),
    (frame(0x01, "κόσμε".encode()[:3]) + frame(0x80, "κόσμε".encode()[3:]), ["κόσμε"]),
    (frame(0x01, "a") + frame(PING, b"p") + frame(PONG) + frame(0x80, "b"), ["ab"]),
    (frame(TEXT, "one") + frame(BINARY, b"two") + frame(TEXT, "three"), ["one", b"two", "three"]),
    (frame(TEXT, "zero mask", mask=bytes(4)), ["zero mask"]),
]

VIOLATIONS: list[tuple[bytes, Close]] = [
    (frame(0xC1, "a"), rules.RESERVED_BITS),
    (frame(0xA1, "a"), rules.RESERVED_BITS),
    (frame(0x91, "a"), rules.RESERVED_BITS),
    (frame(0xC9), rules.RESERVED_BITS),
    (frame(0x01, "a") + frame(0xC0, "a"), rules.RESERVED_BITS),
    *[(frame(0x80 | opcode), rules.OPCODE) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    (frame(TEXT, "a", mask=None), rules.UNMASKED),
    (frame(CLOSE, mask=None), rules.UNMASKED),
    (frame(BINARY, b"a" * 125, wide=2), rules.LENGTH),
    (frame(BINARY, b"a" * 65535, wide=8), rules.LENGTH),
    (b"\x82\xff" + b"\x80" + bytes(7), rules.LENGTH),
    (frame(PING, b"a" * 126), rules.CONTROL_LENGTH),
    (frame(CLOSE, b"\x03\xe8" + b"a" * 124), rules.CONTROL_LENGTH),
    (frame(0x09), rules.CONTROL_FRAGMENT),
    (frame(0x08), rules.CONTROL_FRAGMENT),
    (frame(0x80), rules.CONTINUATION),
    (frame(0x00), rules.CONTINUATION),
    (frame(TEXT) + frame(0x80), rules.CONTINUATION),
    (frame(0x01, "a") + frame(TEXT), rules.INTERLEAVED),
    (frame(0x02, b"a") + frame(0x02), rules.INTERLEAVED),
    (frame(TEXT, b"\xff"), rules.TEXT),
    (frame(TEXT, "κ".encode()[:1]), rules.TEXT),
    (frame(TEXT, b"\xed\xa0\x80"), rules.TEXT),
    (frame(0x01, "κ".encode()[:1]) + frame(0x80), rules.TEXT),
    (frame(CLOSE, b"\x03"), rules.CLOSE_LENGTH),
    *[
        (frame(CLOSE, code.to_bytes(2, "big")), rules.CLOSE_CODE)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ],
    (frame(CLOSE, b"\x03\xe8\xff"), rules.CLOSE_REASON),
    # Its first two bytes are enough.
    *[(bytes((first, 0xFF)), rules.OPCODE) for first in (0x83, 0x07)],
    (b"\x80\xfe", rules.CONTINUATION),
    (b"\x89\xfe", rules.CONTROL_LENGTH),
    (frame(BINARY, b"a" * (MAX + 1)), rules.TOO_BIG),
    (b"\x82\xff" + (MAX + 1).to_bytes(8, "big"), rules.TOO_BIG),
    (frame(0x02, b"a" * MAX) + b"\x00\x81", rules.TOO_BIG),
]


def fed(data: bytes, step: int = 1 << 30, message_max: int = MAX) -> WebSocket:
    """Return a WebSocket that has got `data` in pieces of `step` bytes."""
    websocket = WebSocket(message_max=message_max)
    for begin in range(0, len(data), step):
        websocket.receive(data[begin : begin + step])
        while websocket.pending:
            websocket.go_on()
    return websocket


@loop_over("data, messages", MESSAGES)
@loop_over("step", [1, 2, 3, 7, 1 << 30])
def test_messages(data: bytes, messages: list[str | bytes], step: int) -> None:
    websocket = fed(data, step)
    assert list(websocket.messages) == messages
    assert websocket.at_rest
    assert websocket.failed is None
    assert websocket.closed_by_peer is None


@loop_over("data, rule", VIOLATIONS)
@loop_over("step", [1 << 30, 997])
def test_violations(data: bytes, rule: Close, step: int) -> None:
    websocket = fed(data + frame(TEXT, "ignored"), step)
    assert websocket.failed is rule
    reply = rule.code.to_bytes(2, "big") + rule.reason.encode()
    assert websocket.out == [bytes((CLOSE, len(reply))) + reply]
    assert websocket.close_sent
    websocket.receive(frame(TEXT, "ignored") + frame(CLOSE))
    assert "ignored" not in websocket.messages
    assert websocket.closed_by_peer is None
    with pytest.raises(ClosedError):
        websocket.send("late")


def outcome(websocket: WebSocket) -> tuple:
    """Return all that an owner sees."""
    return (
        list(websocket.messages),
        websocket.out,
        websocket.failed,
        websocket.closed_by_peer,
        websocket.at_rest,
        websocket.pongs,
    )


@loop_over("data", [case[0] for case in (*MESSAGES, *VIOLATIONS) if len(case[0]) < 300])
def test_every_place_to_cut(data: bytes) -> None:
    data += frame(PING, b"ping") + frame(CLOSE, b"\x03\xe8bye")
    whole = outcome(fed(data))
    for place in range(len(data)):
        websocket = fed(data[:place])
        websocket.receive(data[place:])
        assert outcome(websocket) == whole


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.one_of(st.text(max_size=200), st.binary(max_size=200)), st.integers(1, 80)),
        max_size=6,
    ),
    st.integers(1, 400),
    st.binary(min_size=4, max_size=4),
)
def test_any_messages_in_any_fragments(
    messages: list[tuple[str | bytes, int]], step: int, mask: bytes
) -> None:
    stream = b""
    pings = 0
    for message, size in messages:
        payload = message.encode() if isinstance(message, str) else message
        opcode = 1 if isinstance(message, str) else 2
        places = range(0, len(payload), size) or [0]
        for at in places:
            final = 0x80 if at == places[-1] else 0
            stream += frame(final | opcode, payload[at : at + size], mask=mask)
            stream += frame(PING, mask=mask)
            pings += 1
            opcode = 0
    websocket = fed(stream, step)
    assert list(websocket.messages) == [message for message, _ in messages]
    assert websocket.out == [b"\x8a\x00"] * pings
    assert websocket.at_rest


def test_mask_is_removed_without_the_function_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "apply_mask", xor_mask)
    monkeypatch.setattr(connection, "take_messages", lambda *_: 0)
    for data, messages in MESSAGES:
        for step in (1, 7, 1 << 30):
            assert list(fed(data, step).messages) == messages


def only_in_python(data: bytes) -> bytes:
    """Return what C does not take of some messages."""
    messages: list[str | bytes] = []
    return data[connection.take_messages(data, 1000, 3, messages) :]


@pytest.mark.skipif(not NATIVE, reason="in Python it takes none")
def test_c_takes_whole_correct_messages_alone() -> None:
    text = frame(TEXT, "κόσμε")
    messages: list[str | bytes] = []
    both = text + frame(BINARY, b"\xff")
    assert connection.take_messages(both, 1000, 3, messages) == len(both)
    assert messages == ["κόσμε", b"\xff"]
    assert connection.take_messages(text * 5, 1000, 3, messages) == len(text) * 3
    for rest in (
        b"",
        text[:-1],
        frame(BINARY, b"a" * 1001),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(0x01, "a"),
        frame(0x80, "a"),
        frame(0xC1, "a"),
        frame(PING),
        frame(TEXT, "a", mask=None),
        frame(TEXT, "a", wide=2),
        frame(TEXT, "a", wide=8),
        frame(BINARY, b"a" * 1000)[:7],
        frame(BINARY, b"a" * 65536)[:9],
    ):
        assert only_in_python(rest) == rest
        assert only_in_python(text + rest) == rest
    for right in frame(BINARY, b"a" * 126), frame(BINARY, b"a" * 1000), frame(TEXT), frame(BINARY):
        assert only_in_python(right) == b""
    long: list[str | bytes] = []
    for size in 65536, 65535:
        for kind in TEXT, BINARY:
            data = frame(kind, b"a" * size)
            assert connection.take_messages(data, 65536, 1, long) == len(data)
    assert [len(each) for each in long] == [65536, 65536, 65535, 65535]


@pytest.mark.skipif(not NATIVE, reason="only the function in C checks it")
def test_c_refuses_wrong_arguments() -> None:
    take_messages: Any = connection.take_messages
    wrong: list[Any] = [(bytearray(b"a"), 1, 1, []), (b"a", 1, 1, ()), (b"a", -1, 1, []), (b"a", 1)]
    for arguments in wrong:
        with pytest.raises((TypeError, OverflowError)):
            take_messages(*arguments)


def test_every_code_has_its_place() -> None:
    valid = [code for code in range(65536) if rules.may_be_sent(code)]
    registered = [1000, 1001, 1002, 1003, *range(1007, 1015)]
    assert valid == [*registered, *range(3000, 5000)]


def test_ping_is_answered_at_once() -> None:
    websocket = fed(frame(0x01, "a") + frame(PING, b"one") + frame(PING))
    assert websocket.out == [b"\x8a\x03one", b"\x8a\x00"]
    assert not websocket.at_rest


@loop_over(
    "payload, close",
    [
        (b"", Close(1005, "")),
        (b"\x03\xe8", Close(1000, "")),
        (b"\x0b\xb8bye", Close(3000, "bye")),
        (b"\x03\xe9" + b"a" * 123, Close(1001, "a" * 123)),
    ],
)
def test_close_is_echoed(payload: bytes, close: Close) -> None:
    websocket = fed(frame(TEXT, "a") + frame(CLOSE, payload) + frame(TEXT, "b") + frame(PING))
    assert websocket.closed_by_peer == close
    assert websocket.out == [bytes((CLOSE, len(payload))) + payload]
    assert list(websocket.messages) == ["a"]
    assert websocket.failed is None
    assert websocket.at_rest
    assert websocket.close(1000) == b""
    assert websocket.ping() == b""


def test_messages_after_our_close_are_dropped() -> None:
    websocket = fed(frame(0x01, "a"))
    assert websocket.close(1001, "away") == b"\x88\x06\x03\xe9away"
    websocket.receive(frame(0x80, b"\xff") + frame(TEXT, "b" * 300) + frame(PING) + frame(PONG))
    assert not websocket.messages
    assert websocket.out == []
    assert websocket.pongs == 1
    assert websocket.at_rest
    websocket.receive(frame(CLOSE, b"\x03\xe9"))
    assert websocket.closed_by_peer == Close(1001, "")
    assert websocket.out == []


def test_no_more_frames_at_once_than_the_bound() -> None:
    websocket = WebSocket(message_max=MAX)
    websocket.receive(frame(TEXT, "a") * (2 * FRAMES_MAX + 1) + b"\x81")
    for expected, pending in ((FRAMES_MAX, True), (2 * FRAMES_MAX, True), (129, False)):
        assert len(websocket.messages) == expected
        assert websocket.pending is pending
        websocket.go_on()
    assert not websocket.at_rest


@loop_over(
    "message, head",
    [
        ("κ", b"\x81\x02"),
        (b"", b"\x82\x00"),
        (b"a" * 125, b"\x82\x7d"),
        (b"a" * 126, b"\x82\x7e\x00\x7e"),
        (b"a" * 65535, b"\x82\x7e\xff\xff"),
        ("a" * 65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_sending(message: str | bytes, head: bytes) -> None:
    payload = message.encode() if isinstance(message, str) else message
    websocket = WebSocket(message_max=MAX)
    assert websocket.send(message) == head + payload
    if isinstance(message, bytes):
        assert websocket.send(bytearray(message)) == websocket.send(memoryview(message))


def test_what_cannot_be_sent() -> None:
    websocket = WebSocket(message_max=MAX)
    with pytest.raises(TypeError, match="int"):
        websocket.send(5)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        websocket.send("\ud800")
    with pytest.raises(ValueError, match="125"):
        websocket.ping(b"a" * 126)
    for code in (0, 999, 1004, 1006, 1015, 2999, 5000):
        with pytest.raises(ValueError, match=str(code)):
            websocket.close(code)
    assert not websocket.close_sent


def test_reason_is_cut_at_a_character() -> None:
    close = WebSocket(message_max=MAX).close(1000, "a" + "κ" * 100)
    assert close == b"\x88\x7d\x03\xe8a" + ("κ" * 61).encode()
    assert WebSocket(message_max=MAX).close(1005, "unsent") == b"\x88\x00"
