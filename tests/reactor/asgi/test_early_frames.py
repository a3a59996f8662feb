"""Frames of a WebSocket that a lane brings before the app has accepted."""

from __future__ import annotations

import pytest

from tests.integration.websocket import CLOSE, PING, PONG, handshake
from tests.protocol.websocket.frames import frame
from tests.reactor.conftest import RUNTIMES, Start

CODE = (3001).to_bytes(2, "big")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("early", "answer"),
    [
        (frame(PING, b"early"), bytes((PONG, 5)) + b"early"),
        (frame(CLOSE, CODE), bytes((CLOSE, 2)) + CODE),
    ],
    ids=["ping", "close"],
)
def test_they_are_answered_after_the_accept(
    start: Start, runtime: str, early: bytes, answer: bytes
) -> None:
    driver = start("accepts_late:app", "--runtime", runtime)
    lane = driver.open_lane()
    lane.send(handshake("/"))
    assert driver.get("/receiving").status == 200
    lane.send_more(early)
    # Lanes are read in the order in which their bytes have arrived.
    assert driver.get("/receiving").status == 200
    assert driver.get("/accept").status == 200
    received = lane.read_until(answer)
    assert received.startswith(b"HTTP/1.1 101 ")
