"""Where the frames of a server end."""

from __future__ import annotations

import pytest

from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.follower import FrameFollower


def stream() -> list[bytes]:
    """Return frames of every kind and every form of length."""
    websocket = WebSocket(message_max=1)
    sizes = (0, 1, 125, 126, 300, 65536)
    frames = [websocket.send(b"\x88" * size) for size in sizes]
    return [*frames, websocket.ping(b"ping"), websocket.close(1000, "bye")]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 127, 65000])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_boundaries(step: int, kind: type) -> None:
    frames = stream()
    data = b"".join(frames)
    ends = {0}
    for frame in frames:
        ends.add(max(ends) + len(frame))
    last = len(data) - len(frames[-1])
    follower = FrameFollower()
    for begin in range(0, len(data), step):
        assert follower.at_boundary is (begin in ends)
        assert follower.closed is (begin >= last + 2)
        follower.feed(kind(data[begin : begin + step]))
    assert follower.at_boundary
    assert follower.closed


@pytest.mark.parametrize("cut", range(20))
def test_every_cut(cut: int) -> None:
    data = (
        b"\x82\x7e\x00\x7e" + bytes(126) + b"\x82\x7f" + (65536).to_bytes(8, "big") + bytes(65536)
    )
    follower = FrameFollower()
    follower.feed(data[: 125 + cut])
    assert follower.at_boundary is (125 + cut == 130)
    follower.feed(b"")
    follower.feed(data[125 + cut :])
    assert follower.at_boundary
