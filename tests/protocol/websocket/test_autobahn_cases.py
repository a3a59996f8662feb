"""The cases of the Autobahn test suite, as frames. `make test-autobahn` runs the suite itself.

Cases 9 are here with smaller messages, and cases 12 and 13 with fewer. The numbers are Autobahn's.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from itertools import product
from typing import Final

import pytest

from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.deflate import Offer, PerMessageDeflate, negotiate
from tests.cases import loop_over
from tests.protocol.websocket.frames import frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
HELLO: Final = frame(TEXT, "Hello, world!")
MAX: Final = 1 << 20

Message = str | bytes
Case = tuple[str, bytes, Sequence[Message], Sequence[bytes], int | None]
"""Number, what the client sends, the messages, payloads of pongs, and the code of a violation."""


OPCODES: Final = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)


def fragments(message: Message, size: int) -> bytes:
    """Return a message in frames of at most `size` bytes of payload."""
    payload = message.encode() if isinstance(message, str) else message
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    opcodes = [1 if isinstance(message, str) else 2, *[0] * (len(pieces) - 1)]
    opcodes[-1] |= 0x80
    return b"".join([frame(first, piece) for first, piece in zip(opcodes, pieces, strict=True)])


def text(payload: str | bytes) -> bytes:
    return frame(TEXT, payload)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


SIZES: Final = (0, 125, 126, 127, 128, 65535, 65536, 65536)
CASES: list[Case] = [
    *[(f"1.1.{n}", text("*" * size), ["*" * size], [], None) for n, size in enumerate(SIZES, 1)],
    *[
        (f"1.2.{n}", frame(BINARY, b"\xfe" * size), [b"\xfe" * size], [], None)
        for n, size in enumerate(SIZES, 1)
    ],
    ("2.1", frame(PING), [], [b""], None),
    ("2.2", frame(PING, "Hello, world!"), [], [b"Hello, world!"], None),
    ("2.3", frame(PING, b"\0\xff\xfe\xfd\0\xff"), [], [b"\0\xff\xfe\xfd\0\xff"], None),
    ("2.4", frame(PING, b"\xfe" * 125), [], [b"\xfe" * 125], None),
    ("2.5", frame(PING, b"\xfe" * 126), [], [], 1002),
    ("2.7", frame(PONG), [], [], None),
    ("2.8", frame(PONG, "unsolicited"), [], [], None),
    ("2.9", frame(PONG, "unsolicited") + frame(PING, "ping"), [], [b"ping"], None),
    (
        "2.10",
        b"".join(frame(PING, f"payload-{n}") for n in range(10)),
        [],
        [b"payload-%d" % n for n in range(10)],
        None,
    ),
    ("3.1", frame(0x91, "Hello"), [], [], 1002),
    ("3.2", HELLO + frame(0xA1, "Hello") + frame(PING), ["Hello, world!"], [], 1002),
    ("3.3", HELLO + frame(0xB1, "Hello") + frame(PING), ["Hello, world!"], [], 1002),
    ("3.4", HELLO + frame(0xC1, "Hello") + frame(PING), ["Hello, world!"], [], 1002),
    ("3.5", frame(0xD2, b"\0\xff\xfe\xfd\0\xff"), [], [], 1002),
    ("3.6", frame(0xE9, "Hello"), [], [], 1002),
    ("3.7", frame(0xF8), [], [], 1002),
    *[("4", HELLO + frame(0x80 | n, "a"), ["Hello, world!"], [], 1002) for n in OPCODES],
    *[("4", HELLO + frame(0x80 | n), ["Hello, world!"], [], 1002) for n in OPCODES],
    ("5.1", frame(0x09, "frag") + frame(0x80, "ment"), [], [], 1002),
    ("5.2", frame(0x0A, "frag") + frame(0x80, "ment"), [], [], 1002),
    ("5.3", fragments("fragment1fragment2", 9), ["fragment1fragment2"], [], None),
    ("5.6", frame(1, "a") + frame(PING, "p") + frame(0x80, "b"), ["ab"], [b"p"], None),
    ("5.9", frame(0x80, "non-continuation") + HELLO, [], [], 1002),
    ("5.12", frame(0x00, "non-continuation") + HELLO, [], [], 1002),
    ("5.15", fragments("ab", 1) + frame(0, "c") + frame(TEXT, "d"), ["ab"], [], 1002),
    ("5.16", (frame(0, "a") + frame(1, "b") + frame(0x80, "c")) * 2, [], [], 1002),
    ("5.17", (frame(0x80, "a") + frame(1, "b") + frame(0x80, "c")) * 2, [], [], 1002),
    ("5.18", frame(1, "a") + frame(TEXT, "b"), [], [], 1002),
    (
        "5.19",
        frame(1, "a")
        + frame(0, "b")
        + frame(PING, "1")
        + frame(0, "c")
        + frame(0, "d")
        + frame(PING, "2")
        + frame(0x80, "e"),
        ["abcde"],
        [b"1", b"2"],
        None,
    ),
    ("6.1.1", text(""), [""], [], None),
    ("6.1.2", frame(1) + frame(0) + frame(0x80), [""], [], None),
    ("6.1.3", frame(1) + frame(0, "middle") + frame(0x80), ["middle"], [], None),
    ("6.2.1", text("Hello-µ@ßöäüàá-UTF-8!!"), ["Hello-µ@ßöäüàá-UTF-8!!"], [], None),
    ("6.2.3", fragments("Hello-µ@ßöäüàá-UTF-8!!", 1), ["Hello-µ@ßöäüàá-UTF-8!!"], [], None),
    ("7.1.2", frame(CLOSE) * 2, [], [], None),
    ("7.1.3", frame(CLOSE) + frame(PING), [], [], None),
    ("7.1.4", close(1000) + HELLO, [], [], None),
    ("7.1.5", frame(1, "a") + close(1000) + frame(0x80, "b"), [], [], None),
    ("7.1.6", frame(BINARY, bytes(262144)) + close(1000), [bytes(262144)], [], None),
    ("7.3.1", frame(CLOSE), [], [], None),
    ("7.3.2", frame(CLOSE, "a"), [], [], 1002),
    ("7.3.4", close(1000, b"Hello World!"), [], [], None),
    ("7.3.5", close(1000, b"*" * 123), [], [], None),
    ("7.3.6", close(1000, b"*" * 124), [], [], 1002),
    ("7.5.1", close(1000, "κόσμε".encode() + b"\xed\xa0\x80edited"), [], [], 1007),
    *[
        ("7.7", close(code, reason), [], [], None)
        for code in (*range(1000, 1004), *range(1007, 1012), 3000, 3999, 4000, 4999)
        for reason in (b"", b"reason")
    ],
    *[
        ("7.9", close(code, reason), [], [], 1002)
        for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)
        for reason in (b"", b"reason")
    ],
    *[
        (f"9.{n}", fragments(message, size), [message], [], None)
        for n, message in ((3, "*" * 262144), (4, b"\xfe" * 262144))
        for size in (64, 256, 1024, 4096, 16384, 65536, 262144)
    ],
    ("10.1.1", fragments("*" * 65536, 1300), ["*" * 65536], [], None),
]

# 2.6, 2.11, 5.4 and 6.x.x send byte by byte, others in pieces: every case is cut in all these ways.
CUTS: Final = (1 << 30, 65536, 997, 64, 1)


def received(data: bytes, step: int, websocket: WebSocket) -> None:
    for begin in range(0, len(data), step):
        websocket.receive(data[begin : begin + step])
        while websocket.pending:
            websocket.go_on()


@loop_over("step", CUTS)
@loop_over("number, data, messages, pongs, code", CASES)
def test_cases_1_to_10(
    number: str,
    data: bytes,
    messages: Sequence[Message],
    pongs: Sequence[bytes],
    code: int | None,
    step: int,
) -> None:
    if len(data) > 3000 * step:
        return
    websocket = WebSocket(message_max=MAX)
    received(data, step, websocket)
    assert list(websocket.messages) == messages
    answers = [b"\x8a" + bytes([len(payload)]) + payload for payload in pongs]
    assert websocket.out[: len(answers)] == answers
    rest = websocket.out[len(answers) :]
    assert (websocket.failed and websocket.failed.code) == code
    if code is not None:
        assert rest[0][2:4] == code.to_bytes(2, "big")
    elif websocket.closed_by_peer is not None:
        assert rest[0][0] == CLOSE
        echoed = rest[0][2:4]
        assert websocket.closed_by_peer.code == int.from_bytes(echoed or b"\x03\xed", "big")
    assert len(rest) == (code is not None or websocket.closed_by_peer is not None)


# Cases 6: UTF-8 -----------------------------------------------------------------------------------

KOSME: Final = "κόσμε".encode()
VALID: Final = (
    "κόσμε", "\0", "\x80", "\u0800", "\U00010000", "\x7f", "\u07ff", "\uffff", "\U0010ffff",
    "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\U0001fffe\U0001ffff\U000efffe\U0010fffe",
)  # fmt: skip
INVALID: Final = (
    *(KOSME[:-1], KOSME[:1]),
    *(b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf7\xbf\xbf\xbf"),
    *(b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xf4\x90\x80\x80"),
    *(b"\x80", b"\xbf", b"\x80\xbf", bytes(range(0x80, 0xC0))),
    *(b" ".join(bytes([byte]) for byte in range(0xC0, 0xE0)), b"\xe0 ", b"\xf0 ", b"\xfe\xff"),
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf"),
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf"),
    *(b"\xf0\x8f\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"),
    *(b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xbf\xbf"),
    *(b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"),
    *(b"\xf5\x80\x80\x80", b"\xff"),
)
CONTINUATIONS: Final = b"\x80\x8f\x90\x9f\xa0\xbf"


def can_be_completed(data: bytes) -> bool:
    """Whether some text begins with these bytes."""
    tails = (bytes(tail) for length in range(4) for tail in product(CONTINUATIONS, repeat=length))
    return any(not (data + tail).decode(errors="replace").count("\ufffd") for tail in tails)


def test_every_byte_of_valid_text_is_taken() -> None:
    for message in VALID:
        for size in (1, 2, 3, 100):
            websocket = WebSocket(message_max=MAX)
            received(fragments(message, size), 1, websocket)
            assert list(websocket.messages) == [message]


@loop_over("before", [b"", KOSME])
@loop_over("bad", INVALID)
@loop_over("fragmented", [False, True])
def test_first_wrong_byte_fails_the_connection(before: bytes, bad: bytes, fragmented: bool) -> None:
    payload = before + bad + b"edited"
    wrong = next(n for n in range(len(payload) + 1) if not can_be_completed(payload[:n]))
    websocket = WebSocket(message_max=MAX)
    if fragmented:
        frames = [frame(not n, payload[n : n + 1]) for n in range(len(payload))]
    else:
        begun = frame(0x01, payload)
        frames = [begun[:7], *[begun[n : n + 1] for n in range(7, len(begun))]]
    for n, piece in enumerate(frames, 1):
        websocket.receive(piece)
        assert (websocket.failed is not None) is (n >= wrong)
    assert websocket.failed is not None
    assert websocket.failed.code == 1007


def test_text_that_ends_within_a_character() -> None:
    for data in (text(KOSME[:-1]), fragments("κ", 1)[:7] + frame(0x80)):
        websocket = WebSocket(message_max=MAX)
        received(data, 1, websocket)
        assert websocket.failed is not None
        assert websocket.failed.code == 1007


# Cases 12 and 13: permessage-deflate --------------------------------------------------------------


def offer(forget: bool, bits: int) -> Offer:
    """Return an offer of Autobahn: what it asks of the server."""
    parameters: list[tuple[str, str | None]] = [("client_no_context_takeover", None)]
    parameters += [("client_max_window_bits", None)]
    if forget:
        parameters.append(("server_no_context_takeover", None))
    if bits:
        parameters.append(("server_max_window_bits", str(bits)))
    return "permessage-deflate", tuple(parameters)


OFFERS: Final[dict[str, list[Offer]]] = {
    "12, 13.1": [offer(False, 0)],
    "13.2": [offer(True, 0)],
    "13.3": [offer(False, 9)],
    "13.4": [offer(False, 15)],
    "13.5": [offer(True, 9)],
    "13.6": [offer(True, 15)],
    "13.7": [offer(True, 9), offer(True, 0), offer(False, 0)],
    "nothing asked": [("permessage-deflate", ())],
    "windows taken over": [("permessage-deflate", (("client_max_window_bits", None),))],
}


def contents(size: int, seed: int) -> list[Message]:
    """Return a text and bytes that can be compressed, and bytes that cannot."""
    chosen = random.Random(seed)
    words = [chosen.choice(("lorem ", "ipsum ", "dolor ", "κόσμε ")) for _ in range(size // 6 + 1)]
    return ["".join(words)[:size], bytes(size), chosen.randbytes(size)]


@pytest.mark.parametrize("window_bits", [9, 10, 15])
@loop_over("number", OFFERS)
def test_cases_12_and_13(number: str, window_bits: int) -> None:
    agreed = negotiate(OFFERS[number], window_bits=window_bits)
    assert agreed is not None
    server = WebSocket(message_max=MAX, deflate=PerMessageDeflate(agreed))
    deflater = inflater = None
    for seed, (size, chop) in enumerate(product((16, 256, 4096, 65536), (0, 256))):
        for message in contents(size, seed):
            if deflater is None or agreed.client_no_context_takeover:
                deflater = zlib.compressobj(wbits=-agreed.client_max_window_bits)
            if inflater is None or agreed.server_no_context_takeover:
                inflater = zlib.decompressobj(-agreed.server_max_window_bits)
            payload = message.encode() if isinstance(message, str) else message
            sent = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            data = fragments(sent, chop or len(sent))
            first = data[0] & 0x80 | 0x40 | (1 if isinstance(message, str) else 2)
            received(bytes([first]) + data[1:], 4096, server)
            assert server.failed is None
            assert server.messages.pop(0) == message
            assert inflater.decompress(payload_of(server.send(message), 0x40)) == payload


def payload_of(data: bytes, bits: int) -> bytes:
    """Return the payload of a server's frame, with the end that compressed ones leave out."""
    assert data[0] & 0x70 == bits
    start = {126: 4, 127: 10}.get(data[1], 2)
    return data[start:] + b"\0\0\xff\xff"
