"""Bodies and answers in many small pieces: other tasks get turns, and memory stays small."""

from __future__ import annotations

import json

import pytest

from reactor_run.protocol.body import PIECES_MAX
from tests.reactor.driver import get, post

TINY = b"1\r\nx\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def test_tiny_chunks_reach_the_app_in_parts_of_bounded_size(asgi):
    lane = asgi.open_lane()
    head = get("/part-sizes", CHUNKED, method="POST")
    lane.send(head + TINY * 30_000 + b"0\r\n\r\n")
    assert json.loads(lane.response("POST").body) == [30_000, PIECES_MAX]
    # The lane carries the next exchange.
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(post("/echo", b"next")).body == b"next"


@pytest.mark.parametrize(("chunks", "verdict"), [(10, "done"), (5000, "drop")])
def test_a_lane_with_many_unread_chunks_is_not_used_again(asgi, chunks, verdict):
    """Reading them before the next exchange would stall other exchanges."""
    lane = asgi.open_lane()
    lane.send(get("/unread", CHUNKED, method="POST") + TINY * chunks + b"0\r\n\r\n")
    assert lane.response("POST").body == b"unread"
    assert asgi.verdict(lane) == verdict


def test_a_part_after_a_wait_does_not_wait_again(asgi):
    """Other tasks had their turns during the wait. After a stall they get one."""
    after_waits, after_stalls = json.loads(asgi.open_lane().exchange(get("/turns")).body)
    # On a busy machine a step may be interrupted for a millisecond.
    assert after_waits < 5
    assert after_stalls >= 10


def test_an_answer_in_tiny_parts_is_joined_to_few_pieces(asgi):
    lane = asgi.open_lane()
    body = lane.exchange(get("/tiny-parts")).body
    assert body.startswith(b"x" * 20_000)
    assert int(body[20_000:]) <= 1000
