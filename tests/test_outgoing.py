"""Bytes that wait for a socket go out once each, and in order."""

from __future__ import annotations

import socket

import pytest

from reactor_run.outgoing import Outgoing


@pytest.mark.parametrize("count", [1, 2, 200])
def test_everything_goes_out_in_order(count: int) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pieces = [bytes([number % 251]) * (number * 977 % 5000) for number in range(1, count + 1)]
    pieces[0] *= 1000
    out = Outgoing()
    for piece in (*pieces, b""):
        out.add(piece)
    whole = b"".join(pieces)
    assert out.size == len(whole)
    received = bytearray()
    with ours, theirs:
        while out.size:
            before = out.size
            try:
                sent = out.send(ours)
            except BlockingIOError:
                received += theirs.recv(70_000)
                continue
            assert sent == before - out.size
        while len(received) < len(whole):
            received += theirs.recv(1 << 20)
    assert received == whole


def test_what_is_dropped_is_gone() -> None:
    out = Outgoing()
    out.add(b"x")
    out.clear()
    assert not out.size
