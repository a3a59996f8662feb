"""Bytes that wait for a socket: their order, and the memory that they take."""

from __future__ import annotations

import random
import socket
import tracemalloc

import pytest

from reactor_run.outgoing import Outgoing


@pytest.mark.parametrize("seed", range(5))
def test_bytes_go_out_in_order_whatever_their_sizes(seed: int) -> None:
    dice = random.Random(seed)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    out = Outgoing()
    added, got = bytearray(), bytearray()
    with ours, theirs:
        while len(got) < 300_000:
            for _ in range(dice.randint(0, 20)):
                piece = dice.randbytes(dice.choice([0, 1, 2, 700, 1023, 1024, 1025, 5000]))
                out.add(memoryview(piece) if dice.random() < 0.5 else piece)
                added += piece
            assert out.size == len(added) - len(got)
            if out.size:
                sent = out.send(ours)
                while sent:
                    piece = theirs.recv(sent)
                    got += piece
                    sent -= len(piece)
        assert got == added[: len(got)]
        out.clear()
        assert out.size == 0


def test_small_pieces_take_little_more_memory_than_their_bytes() -> None:
    out = Outgoing()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(100_000):
            out.add(b"%02x" % (index % 256))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert out.size == 200_000
    assert taken < 300_000
