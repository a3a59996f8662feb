"""The express lane of a reactor process: batches in, answers and lanes for answers out."""

from __future__ import annotations

import json
from http.client import IncompleteRead

import pytest

from reactor_run.protocol.express import ANSWER, ANSWER_DONE, DONE, EXPRESS_MAX
from tests.integration.waiting import eventually
from tests.reactor.driver import get, post

MANY = 200


# Whole answers


def test_a_batch_of_requests_is_answered_each_in_one_message(asgi):
    bodies = [f"number {number}".encode() for number in range(MANY)]
    numbers = asgi.request(*(post("/echo", body) for body in bodies))
    assert [asgi.answer(number).body for number in numbers] == bodies
    assert all(asgi.kinds(number) == [ANSWER_DONE] for number in numbers)


def test_a_batch_of_requests_to_a_wsgi_app(wsgi):
    bodies = [f"number {number}".encode() for number in range(MANY)]
    numbers = wsgi.request(*(post("/echo", body) for body in bodies))
    assert [wsgi.answer(number).body for number in numbers] == bodies
    assert all(wsgi.kinds(number) == [ANSWER_DONE] for number in numbers)


def test_a_batch_may_arrive_in_pieces(on_trio):
    """The lane is a stream, so a read may end anywhere in a message."""
    numbers = on_trio.request(post("/echo", b"first"), post("/echo", b"second"), piece=7)
    assert [on_trio.answer(number).body for number in numbers] == [b"first", b"second"]


def test_the_app_gets_the_addresses_of_the_frame(on_trio):
    other = ("2001:db8::5", 5), ("2001:db8::1", 443)
    first, second, local = (
        on_trio.request(get("/scope"))[0],
        on_trio.request(get("/scope"), source=other[0], destination=other[1])[0],
        on_trio.request(get("/scope"), source=None, destination=None)[0],
    )
    assert json.loads(on_trio.answer(first).body) == {
        "client": ["192.0.2.7", 40001],
        "server": ["192.0.2.1", 80],
    }
    assert json.loads(on_trio.answer(second).body)["client"] == list(other[0])
    assert json.loads(on_trio.answer(local).body)["client"] is None


def test_a_wsgi_app_gets_the_addresses_of_the_frame(wsgi):
    assert json.loads(wsgi.get("/scope").body) == ["192.0.2.7", "80"]


def test_an_app_that_waits_does_not_stall_others(asgi, key):
    (waiting,) = asgi.request(get(f"/wait?key={key}"))
    assert asgi.get("/hello").text == "hello"
    assert not asgi.kinds(waiting)
    key.open(asgi)
    assert asgi.answer(waiting).text == "waited"
    assert asgi.kinds(waiting) == [ANSWER_DONE]


def test_a_thread_that_waits_does_not_stall_others(threaded, key):
    (waiting,) = threaded.request(get(f"/wait?key={key}"))
    assert threaded.get("/hello").text == "hello"
    assert not threaded.kinds(waiting)
    key.open(threaded)
    assert threaded.answer(waiting).text == "waited"


def test_done_follows_an_answer_whose_app_still_runs(asgi, key):
    (number,) = asgi.request(get(f"/background?key={key}"))
    assert asgi.answer(number).text == "answered"
    assert asgi.kinds(number) == [ANSWER]
    assert key.notes(asgi) == []
    key.open(asgi)
    asgi.wait_done(number)
    assert asgi.kinds(number) == [ANSWER, DONE]
    assert key.notes(asgi) == ["done"]


# Answers that move to a lane


def largest_express_answer(driver):
    head = len(driver.get("/size?n=10000").body)
    (number,) = driver.request(get("/size?n=10000"))
    driver.answer(number)
    (payload,) = [data for exchange, _, data in driver.frames if exchange == number]
    return EXPRESS_MAX - (len(payload) - head)


def test_an_answer_of_the_largest_size_uses_the_express_lane_and_one_byte_more_does_not(either):
    size = largest_express_answer(either)
    fits, outgrows = either.request(get(f"/size?n={size}"), get(f"/size?n={size + 1}"))
    assert len(either.answer(fits).body) == size
    lane = either.answer_lane(outgrows)
    assert lane.response().body == b"s" * (size + 1)
    either.wait_done(outgrows)
    assert either.kinds(outgrows) == [DONE]
    either.free(lane)


def test_the_framing_of_chunks_counts_for_the_size_of_an_express_answer(on_trio):
    """The bytes of the chunk framing count too."""
    for _ in range(5):
        (number,) = on_trio.request(get("/chunks?large=65000&small=300"))
        on_trio.wait_done(number)
        sizes = [len(data) for exchange, _, data in on_trio.frames if exchange == number]
        assert max(sizes) <= EXPRESS_MAX
        if on_trio.kinds(number) == [DONE]:
            lane = on_trio.answer_lane(number)
            assert len(lane.response().body) == 65300
            on_trio.free(lane)


def test_an_answer_flushed_unfinished_moves_to_a_lane_from_its_first_byte(asgi, key):
    (number,) = asgi.request(get(f"/unfinished?key={key}"))
    lane = asgi.answer_lane(number)
    assert lane.read_until(b"begun \r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert asgi.kinds(number) == []
    key.open(asgi)
    assert lane.read_until(b"0\r\n\r\n") == b"5\r\nended\r\n0\r\n\r\n"
    asgi.wait_done(number)
    assert asgi.kinds(number) == [DONE]
    asgi.free(lane)


def test_a_message_from_another_task_of_the_app_is_sent_at_once(asgi, key):
    (number,) = asgi.request(get(f"/child-sends?key={key}"))
    lane = asgi.answer_lane(number)
    assert lane.read_until(b"begun \r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    key.open(asgi)
    assert lane.read_until(b"0\r\n\r\n") == b"5\r\nended\r\n0\r\n\r\n"
    asgi.wait_done(number)
    asgi.free(lane)


def test_a_wsgi_generator_moves_to_a_lane(wsgi, key):
    (number,) = wsgi.request(get(f"/stream?n=3&key={key}"))
    lane = wsgi.answer_lane(number)
    assert lane.response().body == b"p" * 65536 * 3
    wsgi.wait_done(number)
    assert wsgi.kinds(number) == [DONE]
    wsgi.free(lane)


def answer_of(driver, number):
    return next(m for m in driver.messages if m.get("answer") == number)


def test_no_answer_overtakes_the_message_about_its_lane(start):
    """While the control channel is full, a new lane is used: the message itself carries it."""
    driver = start("driven_asgi:app")
    pings = 2000
    (first,) = driver.request(get("/size?n=100000"))
    lane = driver.answer_lane(first)
    assert len(lane.response().body) == 100000
    driver.wait_done(first)
    driver.free(lane)
    driver.tell({"ping": "free"})
    driver.wait(lambda: {"pong": "free"} in driver.messages)
    for number in range(pings):
        driver.tell({"ping": number})
    # The test reads nothing of the control channel until the reactor has read all of these.
    assert eventually(lambda: not driver.unheard)
    (second,) = driver.request(get("/size?n=100000"))
    driver.wait_done(second, control=False)
    other = driver.answer_lane(second)
    assert other is not lane
    assert len(other.response().body) == 100000
    driver.wait(lambda: {"pong": pings - 1} in driver.messages)


def test_a_lane_given_back_is_used_again_by_number(start, key):
    """The first message has the lane's descriptor, the second only its number. A lane in use is not
    taken."""
    driver = start("driven_asgi:app")
    (first,) = driver.request(get("/size?n=100000"))
    lane = driver.answer_lane(first)
    assert len(lane.response().body) == 100000
    driver.wait_done(first)
    assert answer_of(driver, first)["fd"] is not None
    driver.free(lane)
    for _ in range(3):
        (number,) = driver.request(get("/size?n=100000"))
        assert driver.answer_lane(number) is lane
        assert answer_of(driver, number) == {"answer": number, "lane": lane.number}
        (meanwhile,) = driver.request(get("/size?n=70000"))
        other = driver.answer_lane(meanwhile)
        assert other is not lane
        assert len(lane.response().body) == 100000
        assert len(other.response().body) == 70000
        driver.wait_done(number)
        driver.wait_done(meanwhile)
        driver.free(lane)
        other.close()


def test_a_lane_given_back_while_its_app_runs_belongs_to_the_next_exchange(start, key):
    """The end of the first exchange, or of its client, must not affect the next exchange."""
    driver = start("driven_asgi:app")
    (first,) = driver.request(get(f"/long-background?key={key}"))
    lane = driver.answer_lane(first)
    assert len(lane.response().body) == 100000
    driver.free(lane)
    (second,) = driver.request(get(f"/flood?n=64&key={key}2"))
    assert driver.answer_lane(second) is lane
    driver.gone(first)
    key.open(driver)
    driver.wait_done(first)
    # The kernel does not take all of it at once, so the lane must still wake its new exchange.
    assert len(lane.response().body) == 64 * 65536
    driver.wait_done(second)
    driver.free(lane)
    (third,) = driver.request(get("/size?n=100000"))
    assert driver.answer_lane(third) is lane
    assert len(lane.response().body) == 100000


def test_an_idle_lane_that_the_front_end_closes_is_released(start):
    driver = start("driven_asgi:app")
    driver.get("/hello")
    before = driver.open_files()
    (first,) = driver.request(get("/size?n=100000"))
    lane = driver.answer_lane(first)
    lane.response()
    driver.wait_done(first)
    driver.free(lane)
    lane.close()
    driver.wait(lambda: driver.open_files() == before)
    (second,) = driver.request(get("/size?n=100000"))
    assert len(driver.answer_lane(second).response().body) == 100000


@pytest.mark.parametrize("descriptors", [0, 1, 2, 3])
def test_without_descriptors_for_a_lane_the_front_end_is_told_to_answer(start, key, descriptors):
    driver = start("driven_asgi:app")
    (number,) = driver.request(get(f"/few-descriptors?n={descriptors}&key={key}"))
    message = driver.wait(lambda: [m for m in driver.messages if m.get("answer") == number])[0]
    if descriptors < 3:
        assert message == {"answer": number, "lane": None}
        driver.wait_done(number)
        assert driver.kinds(number) == [DONE]
        assert key.notes(driver) == ["OSError"]
    else:
        assert len(driver.answer_lane(number).response().body) == 300000
        driver.wait_done(number)
    assert driver.get("/hello").text == "hello"


def test_an_answer_without_length_to_http_1_0_ends_by_half_close_of_its_lane(either, key):
    path = "/flood" if either.ready["interface"] == "asgi" else "/stream"
    (number,) = either.request(get(f"{path}?n=4&key={key}", version="1.0"))
    lane = either.answer_lane(number)
    head, _, body = lane.read_to_end().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert len(body) == 4 * 65536
    either.wait_done(number)
    assert not lane.is_hung_up
    lane.close()


def test_an_answer_without_length_to_http_1_0_needs_a_lane_however_small_it_is(asgi):
    """The end of the connection is a part of the answer."""
    (number,) = asgi.request(get("/chunks?large=100&small=2", version="1.0"))
    lane = asgi.answer_lane(number)
    assert lane.read_to_end().endswith(b"l" * 100 + b"ss")
    asgi.wait_done(number)
    assert asgi.kinds(number) == [DONE]


# The client's end


def test_fin_is_a_disconnect_and_the_answer_is_still_sent(asgi, key):
    (number,) = asgi.request(get(f"/disconnect?key={key}"))
    assert asgi.get("/hello").text == "hello"
    assert key.notes(asgi) == ["waiting"]
    asgi.fin(number)
    assert asgi.answer(number).text == "still here"
    assert key.notes(asgi) == ["waiting", "http.disconnect", "answered"]


def test_fin_reaches_every_task_that_waits_for_it(asgi, key):
    (number,) = asgi.request(get(f"/two-receives?key={key}"))
    key.wait_for(asgi, "waiting")
    asgi.fin(number)
    assert asgi.answer(number).text == "both"
    assert key.notes(asgi) == ["waiting", "disconnected", "disconnected"]


def test_gone_is_a_disconnect_and_sending_raises(asgi, key):
    (number,) = asgi.request(get(f"/disconnect?key={key}"))
    key.wait_for(asgi, "waiting")
    asgi.gone(number)
    asgi.wait_done(number)
    assert asgi.kinds(number) == [DONE]
    assert key.notes(asgi) == ["waiting", "http.disconnect", "OSError"]


def test_gone_aborts_a_streaming_answer(asgi, key):
    (number,) = asgi.request(get(f"/send-for-ever?key={key}"))
    lane = asgi.answer_lane(number)
    asgi.gone(number)
    key.open(asgi)
    asgi.wait_done(number)
    assert key.notes(asgi)[-1] == "OSError"
    assert asgi.kinds(number) == [DONE]
    with pytest.raises(IncompleteRead):
        lane.response()


def test_a_lane_for_an_answer_that_the_front_end_closes_makes_sending_raise(asgi, key):
    (number,) = asgi.request(get(f"/send-for-ever?key={key}"))
    lane = asgi.answer_lane(number)
    before = asgi.open_files()
    lane.close()
    key.open(asgi)
    asgi.wait_done(number)
    assert key.notes(asgi)[-1] == "OSError"
    asgi.wait(lambda: asgi.open_files() < before)


def test_fin_and_gone_for_exchanges_that_are_over_are_ignored(on_trio):
    (number,) = on_trio.request(get("/hello"))
    on_trio.answer(number)
    on_trio.fin(number)
    on_trio.gone(number)
    on_trio.cancel(number)
    on_trio.gone(999_999)
    assert on_trio.get("/hello").text == "hello"


# Backpressure


def test_an_app_waits_while_its_answer_is_not_read(asgi, key):
    pieces = 1024  # 64 MiB
    (number,) = asgi.request(get(f"/flood?n={pieces}&key={key}"))
    lane = asgi.answer_lane(number)
    reached = at_rest(asgi, key)
    # What the kernel takes (2 MiB), the high-water mark and the piece that exceeded it.
    assert int(reached) * 65536 < 5 << 19
    stream = lane.sock.makefile("rb")
    while (line := stream.readline()) != b"\r\n":
        assert line
    for count in range(pieces):
        assert stream.readline() == b"10000\r\n"
        assert stream.read(65538) == bytes([count % 251]) * 65536 + b"\r\n"
    assert stream.readline() == b"0\r\n"
    stream.close()
    asgi.wait_done(number)
    assert key.notes(asgi) == ["all"]
    asgi.free(lane)


def test_all_tasks_that_wait_in_send_go_on(asgi):
    (number,) = asgi.request(get("/two-senders"))
    lane = asgi.answer_lane(number)
    assert len(lane.response().body) == 64 * 65536
    asgi.wait_done(number)
    asgi.free(lane)


def at_rest(driver, key):
    """Wait until the app's progress is the same for fifty exchanges in a row, and return it."""
    last: list[str] = []
    same = 0
    while same < 50:
        now = key.notes(driver)
        same = same + 1 if now == last else 0
        last = now
    return last[0]


def test_a_wsgi_thread_waits_while_its_answer_is_not_read(threaded, key):
    (number,) = threaded.request(get(f"/stream?n=64&key={key}"))
    lane = threaded.answer_lane(number)
    for _ in range(50):
        assert key.notes(threaded) == []
    assert len(lane.response().body) == 64 * 65536
    threaded.wait_done(number)
    assert key.notes(threaded) == ["all"]
    threaded.free(lane)


def test_answers_that_the_front_end_does_not_read_yet_are_kept(start):
    """The answers are more than the kernel takes, and none is lost."""
    driver = start("driven_asgi:app")
    numbers = []
    for _ in range(10):
        numbers += driver.request(*[get("/size?n=10000")] * 20)
    assert all(len(driver.answer(number).body) == 10000 for number in numbers)


# The loop


def test_a_signal_for_an_exchange_that_is_over_is_ignored(asgi):
    (kept,) = asgi.request(get("/keep-channel"))
    assert asgi.answer(kept).text == "kept"
    assert asgi.get("/signal-kept").text == "signalled"
    assert asgi.get("/hello").text == "hello"
    assert asgi.kinds(kept) == [ANSWER_DONE]
