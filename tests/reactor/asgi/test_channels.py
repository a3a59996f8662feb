"""`receive` and `send` of an ASGI app: calls that are cancelled, and calls after the end."""

from __future__ import annotations

import hashlib
import threading
from array import array

import pytest

from tests.reactor.driver import LaneEnd, Pieces, get, post

WAYS = pytest.mark.parametrize("way", ["express", "lane"])

BODY = array("I", range(500_000)).tobytes()


def receiver(driver, way, request):
    """Send a request, and return a function that waits for the end of its app."""
    if way == "express":
        (number,) = driver.request(request)
        return lambda: driver.wait_done(number)
    lane = driver.open_lane()
    lane.send(request)
    return lambda: driver.verdict(lane)


# After the end


def test_a_kept_receive_reads_nothing_of_the_next_exchange_on_its_lane(asgi, key):
    lane = asgi.open_lane()
    # The body is too large for one read. The reactor reads the rest when the exchange ends.
    assert lane.exchange(post("/keep-channels", b"1" * 100_000)).text == "kept"
    assert asgi.verdict(lane) == "done"
    lane.send(get(f"/late-receive?key={key}", "Content-Length: 30", method="POST"))
    asgi.get("/hello")
    lane.send_more(b"2" * 20)
    assert asgi.get(f"/use-channels?key={key}").text == "used"
    key.open(asgi)
    lane.send_more(b"3" * 10)
    assert lane.response().text == "2" * 20 + "3" * 10
    assert key.notes(asgi) == [str(("http.disconnect", 0))] * 4 + ["RuntimeError"]


@WAYS
def test_the_unread_body_is_not_received_after_the_answer(asgi, key, way):
    done = receiver(asgi, way, post("/keep-channels", b"unread"))
    done()
    asgi.get(f"/use-channels?key={key}")
    assert key.notes(asgi) == [str(("http.disconnect", 0))] * 4 + ["RuntimeError"]


@WAYS
@pytest.mark.parametrize("fail", ["", "&fail=1"])
def test_a_task_that_waits_in_receive_wakes_when_the_exchange_ends(asgi, key, way, fail):
    if way == "express":
        request = get(f"/leave-receiver?key={key}{fail}")
    else:
        request = get(f"/leave-receiver?key={key}{fail}", "Content-Length: 9", method="POST")
    done = receiver(asgi, way, request)
    key.wait_for(asgi, "waiting")
    key.open(asgi)
    done()
    # Without a body, the first call returns its end.
    last = ("http.request", 0) if way == "express" else ("http.disconnect", 0)
    assert key.wait_for(asgi, str(last)) == ["waiting", str(last)]


@WAYS
def test_a_task_that_waits_in_send_wakes_when_its_answer_is_aborted(asgi, key, way):
    done = receiver(asgi, way, get(f"/leave-sender?key={key}"))

    def is_waiting():
        before = asgi.get(f"/sent?key={key}").text
        return before != "0" and all(asgi.get(f"/sent?key={key}").text == before for _ in range(20))

    asgi.wait(is_waiting)
    key.open(asgi)
    done()
    assert key.wait_for(asgi, "OSError") == ["OSError"]


# Cancelled calls


@pytest.mark.parametrize("timeout", ["0.02", "0"])
def test_a_receive_that_is_cancelled_loses_nothing(asgi, timeout):
    """Other requests compute meanwhile, so the calls are cancelled at every point."""
    lane = asgi.open_lane()
    lane.send(
        get(
            f"/impatient-receive?timeout={timeout}",
            f"Content-Length: {len(BODY)}",
            method="POST",
        )
    )
    sending = threading.Thread(target=lane.send_more, args=(BODY,))
    sending.start()
    while sending.is_alive():
        asgi.get("/slow?ms=30")
    sending.join()
    asgi.get("/slow?ms=30")
    assert lane.response().text == f"{len(BODY)} {hashlib.sha256(BODY).hexdigest()}"


@WAYS
@pytest.mark.parametrize("timeout", ["0.002", "0"])
def test_a_send_that_is_cancelled_has_sent_nothing(asgi, key, way, timeout):
    pieces = 200
    request = get(f"/impatient-send?timeout={timeout}&n={pieces}&key={key}")
    if way == "express":
        (number,) = asgi.request(request)
        answer: Pieces | LaneEnd = asgi.relayed(number)
    else:
        answer = lane = asgi.open_lane()
        lane.send(request)
    # Until then the test does not read, so the calls wait.
    key.wait_for(asgi, "cancelled")
    expected = b"".join(number.to_bytes(4, "big") * 16384 for number in range(pieces))
    body = answer.response().body
    assert len(body) == len(expected)
    assert body == expected


# Bodies


@pytest.mark.parametrize("how", ["odd", "bytearray", "memoryview"])
@pytest.mark.parametrize("late", ["", "&late=1"])
def test_a_body_of_another_type_than_bytes_does_not_break_the_framing(asgi, how, late):
    lane = asgi.open_lane()
    assert lane.exchange(get(f"/odd?how={how}{late}")).text == "odd bytes"
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"
    if not late:
        assert asgi.get(f"/odd?how={how}").text == "odd bytes"
    assert asgi.get("/hello").text == "hello"
