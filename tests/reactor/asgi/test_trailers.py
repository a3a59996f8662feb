"""http.response.trailers: its order among the other messages."""

from __future__ import annotations

import pytest

from tests.reactor.driver import get

WHOLE = b"4\r\nbody\r\n0\r\nx-one: 1\r\nx-two: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("do", "notes"),
    [
        ("tbme", []),
        ("sbe", ["e: RuntimeError"]),
        ("etbme", ["e: RuntimeError"]),
        ("tebme", ["e: RuntimeError"]),
        ("tbbme", ["b: RuntimeError"]),
        ("tbsme", ["s: RuntimeError"]),
        ("tbmee", ["e: RuntimeError"]),
        ("tbfme", ["f: ResponseError"]),
        ("tpbme", ["p: RuntimeError"]),
        ("tbpme", ["p: RuntimeError"]),
    ],
)
def test_the_order_of_messages(on_trio, key, do, notes):
    lane = on_trio.open_lane()
    lane.send(get(f"/trailers?do={do}&key={key}", "TE: trailers"))
    if do.startswith("s"):
        assert lane.response().body == b"body"
    else:
        assert lane.read_until(WHOLE).startswith(b"HTTP/1.1 200 ")
    assert on_trio.verdict(lane) == "done"
    assert key.notes(on_trio) == notes


@pytest.mark.parametrize("do", ["tb", "tbm"])
def test_an_answer_without_its_trailers_is_an_error(asgi, do):
    """Nothing was sent yet, so the client gets a 500."""
    assert asgi.get(f"/trailers?do={do}", "TE: trailers").status == 500
    assert "the app returned with its response without its trailers" in asgi.log()
