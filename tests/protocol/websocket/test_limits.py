"""What a client can make a WebSocket keep, and when it finds the limit."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from reactor_run.protocol.websocket import rules
from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.deflate import PerMessageDeflate, negotiate
from tests.cases import loop_over
from tests.protocol.websocket.frames import frame

MIB = 1 << 20
OFFERS = [("permessage-deflate", (("client_max_window_bits", None),))]


def growth(work: Callable[[], object]) -> tuple[int, int]:
    """Return how many bytes `work` keeps by its result, and how many it took at most."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        gc.collect()
        size, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return size, peak


def compressing(message_max: int = MIB) -> WebSocket:
    agreed = negotiate(OFFERS)
    assert agreed is not None
    return WebSocket(message_max=message_max, deflate=PerMessageDeflate(agreed))


def deflated(*contents: bytes) -> list[bytes]:
    deflater = zlib.compressobj(wbits=-10)
    return [
        (deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        for content in contents
    ]


@loop_over("size, wide", [(MIB + 1, 8), (65536, 8), (127, 2)])
@loop_over("first", [0x81, 0x82, 0x01, 0x02])
def test_header_is_enough_to_reject_a_message(size: int, wide: int, first: int) -> None:
    websocket = WebSocket(message_max=size - 1)
    websocket.receive(bytes((first, 0x80 | {2: 126, 8: 127}[wide])) + size.to_bytes(wide, "big"))
    assert websocket.failed is rules.TOO_BIG
    assert websocket.out[0][2:4] == b"\x03\xf1"


@loop_over("message_max", [0, 1, 125, 126, 65535, 65536])
def test_largest_message(message_max: int) -> None:
    websocket = WebSocket(message_max=message_max)
    websocket.receive(frame(0x82, bytes(message_max)))
    websocket.receive(frame(0x02, bytes(message_max // 2)))
    websocket.receive(frame(0x80, bytes(message_max - message_max // 2)))
    assert list(websocket.messages) == [bytes(message_max)] * 2
    websocket.receive(frame(0x02, bytes(message_max)) + frame(0x00))
    assert websocket.failed is None
    websocket.receive(b"\x80\x81")
    assert websocket.failed is rules.TOO_BIG


@pytest.mark.parametrize("first", [0x81, 0x82])
def test_large_message_is_kept_once(first: int) -> None:
    data = frame(first, bytes(4 * MIB))
    websocket = WebSocket(message_max=4 * MIB)

    def arrive() -> None:
        for begin in range(0, len(data), 65536):
            websocket.receive(data[begin : begin + 65536])

    kept, peak = growth(arrive)
    assert len(websocket.messages) == 1
    assert kept < 4.1 * MIB
    # Once in parts, with room to grow, and once as the message.
    assert peak < 9 * MIB


@pytest.mark.parametrize("first", [0x01, 0x02])
def test_small_fragments_are_not_kept_as_such(first: int) -> None:
    data = frame(first, b"a") + frame(0x00, b"a") * 9000 + frame(0x00) * 9000
    websocket = WebSocket(message_max=MIB)

    def arrive() -> None:
        websocket.receive(data)
        while websocket.pending:
            websocket.go_on()

    kept, _ = growth(arrive)
    assert not websocket.at_rest
    assert kept < 12000


def test_endless_compressed_message_keeps_nothing() -> None:
    websocket = compressing()
    websocket.receive(frame(0x42, deflated(bytes(1000))[0] + b"\x00\x00\xff\xff"))

    def arrive() -> None:
        for _ in range(100):
            # Empty blocks, which inflate to nothing.
            websocket.receive(frame(0x00, b"\x00\x00\x00\xff\xff" * 100))

    kept, _ = growth(arrive)
    assert websocket.failed is None
    assert kept < 2000


def test_inflating_takes_no_more_than_the_limit() -> None:
    bomb = frame(0xC2, deflated(bytes(16 * MIB))[0])
    websocket = compressing(MIB)
    _, peak = growth(lambda: websocket.receive(bomb))
    assert websocket.failed is rules.TOO_BIG
    assert peak < 2.5 * MIB
    assert not websocket.messages


def test_few_large_inflated_messages_at_once() -> None:
    payloads = deflated(*[bytes(MIB)] * 9)
    websocket = compressing(MIB)
    websocket.receive(b"".join(frame(0xC2, payload) for payload in payloads))
    assert websocket.pending
    taken = []
    while websocket.messages:
        taken.append(len(websocket.messages))
        websocket.messages.clear()
        websocket.go_on()
    assert taken == [2, 2, 2, 2, 1]


def test_memory_of_an_idle_connection() -> None:
    contents = [b'{"type": "quote", "price": %d}' % number * 40 for number in range(5)]

    def used(websocket: WebSocket, bit: int, payloads: list[bytes]) -> WebSocket:
        for payload in payloads:
            websocket.receive(frame(0x82 | bit, payload))
            websocket.send(websocket.messages.pop(0))
        return websocket

    plain, _ = growth(lambda: used(WebSocket(message_max=MIB), 0, contents))
    assert plain < 1500
    kept, _ = growth(lambda: used(compressing(), 0x40, deflated(*contents)))
    assert kept < 24 * 1024
    unused, _ = growth(lambda: [compressing() for _ in range(10)])
    assert unused < 10 * 2000


def test_nothing_is_kept_of_a_connection_that_ends() -> None:
    for end in (frame(0x88), frame(0x83)):
        websocket = compressing()
        websocket.receive(frame(0x02, bytes(MIB // 2)))

        def arrive(websocket: WebSocket = websocket, end: bytes = end) -> None:
            websocket.receive(end + bytes(1000))
            websocket.receive(bytes(1000))

        tracemalloc.start()
        arrive()
        assert tracemalloc.get_traced_memory()[0] < 2000
        tracemalloc.stop()
        assert websocket._parts is None
