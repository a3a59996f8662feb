"""The capacity of a reactor: an exchange that waits only for its client takes none."""

from __future__ import annotations

import pytest

from reactor_run.frontend.clients.request_body import COLLECT_MAX
from reactor_run.pulse import BEGUN, WAITS
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LinkEnd, StandIn, get, post, pour
from tests.integration.client import Client

CHUNKED = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n"
BODIES = [
    pytest.param(CHUNKED, id="chunked"),
    pytest.param(post(b"x" * (COLLECT_MAX + 1))[:-1], id="large"),
    pytest.param(post(b"x" * 10, "Expect: 100-continue")[:-10], id="expect"),
]


def uploading(front: Front, request: bytes) -> tuple[Client, LinkEnd]:
    """Return a client that has sent a part of its body, and its lane. The app has begun."""
    client = front.connect()
    client.send(request)
    lane = front.reactors[0].link()
    lane.head()
    return client, lane


def is_given_another(front: Front, reactor: StandIn) -> bool:
    """Return whether the reactor gets a new request. It answers the request then."""
    client = front.connect()
    client.send(get("/other"))
    front.settle()
    if front.server.dispatcher.waiting:
        return False
    lane = reactor.link()
    assert lane.head() == get("/other")
    lane.send(OK)
    reactor.drop(lane)
    assert client.response().status == 200
    front.settle()
    return True


def told(front: Front) -> tuple[int, int]:
    """Return from `status` of the first reactor: exchanges in flight, and waiting for clients."""
    (report, *_) = front.call(lambda: front.server.status.report())["reactors"]
    return report["in_flight"], report["waiting_for_client"]


# Bodies -------------------------------------------------------------------------------------------


def test_a_small_body_is_collected_before_a_reactor_gets_it(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    clients = [front.connect() for _ in range(5)]
    for client in clients:
        client.send(post(b"x" * COLLECT_MAX)[:-1])
    front.settle()
    assert reactor.silent
    assert told(front) == (0, 0)
    assert is_given_another(front, reactor)
    clients[0].send(b"y")
    # The head and the body together are too large for one message.
    lane = reactor.link()
    assert lane.head().startswith(b"POST / ")
    assert lane.exactly(COLLECT_MAX) == b"x" * (COLLECT_MAX - 1) + b"y"


def test_a_small_body_that_comes_in_pieces_goes_express(start: Start) -> None:
    front = start()
    client = front.connect()
    for piece in post(b"12345")[:-4], b"23", b"45":
        assert front.reactors[0].silent
        client.send(piece)
        front.settle()
    assert front.reactors[0].request()[1] == post(b"12345")


def test_a_full_queue_rejects_a_small_body_before_it_is_read(start: Start) -> None:
    front = start(capacities=(1,), queue_size=0)
    front.connect().send(get("/occupies"))
    front.reactors[0].request()
    client = front.connect()
    client.send(post(b"x" * 10)[:-10])
    assert client.response().status == 503


@pytest.mark.parametrize("request_", BODIES)
def test_an_exchange_that_waits_for_more_of_its_body_takes_no_capacity(
    start_each: Start, request_: bytes
) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    _, lane = uploading(front, request_)
    # The app is at work.
    assert told(front) == (1, 0)
    lane.tell(WAITS)
    assert told(front) == (1, 1)
    assert is_given_another(front, reactor)
    assert is_given_another(front, reactor)


def test_an_exchange_whose_app_works_takes_capacity(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    uploading(front, CHUNKED)
    assert not is_given_another(front, reactor)


def test_an_exchange_that_resumes_may_exceed_the_capacity(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    _, lane = uploading(front, CHUNKED)
    lane.tell(WAITS)
    client = front.connect()
    client.send(get("/other"))
    other = reactor.link()
    other.head()
    lane.tell(BEGUN)
    front.pass_time(0.1)
    assert told(front) == (2, 0)
    assert not is_given_another(front, reactor)
    other.send(OK)
    reactor.done(other)
    assert client.response().status == 200
    front.settle()
    # The place that the uploader has taken is not free for requests that wait.
    assert front.server.dispatcher.waiting == 1


def test_the_queue_moves_when_an_exchange_begins_to_wait_for_its_client(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    _, lane = uploading(front, CHUNKED)
    assert not is_given_another(front, reactor)
    lane.tell(WAITS)
    front.pass_time(0.3)
    assert reactor.link().head() == get("/other")


def test_an_exchange_with_a_whole_body_does_not_wait_for_its_client(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    client, lane = uploading(front, CHUNKED)
    lane.tell(WAITS)
    client.send(b"0\r\n\r\n")
    front.settle()
    assert not is_given_another(front, reactor)


def test_an_exchange_whose_client_has_left_takes_capacity_until_its_app_is_done(
    start_each: Start,
) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    client, lane = uploading(front, CHUNKED)
    lane.tell(WAITS)
    client.reset()
    front.settle()
    assert told(front) == (1, 0)
    assert not is_given_another(front, reactor)


# Answers ------------------------------------------------------------------------------------------


def test_an_exchange_whose_client_does_not_read_takes_no_capacity(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get("/large"))
    lane = reactor.link()
    lane.head()
    lane.send(LARGE)
    front.settle()
    assert told(front) == (1, 0)
    pour(front, lane, b"x" * 50_000_000)
    assert told(front) == (1, 1)
    assert is_given_another(front, reactor)


def test_an_app_that_is_done_is_not_counted(start_each: Start) -> None:
    front = start_each(capacities=(1,))
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get("/large"))
    lane = reactor.link()
    lane.head()
    lane.send(LARGE)
    pour(front, lane, b"x" * 50_000_000)
    reactor.done(lane)
    front.settle()
    assert told(front) == (0, 0)


def test_a_wsgi_thread_that_waits_for_a_client_takes_capacity(start_each: Start) -> None:
    front = start_each(capacities=(1,), interface="wsgi", answer_spool_size=0)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get("/large"))
    lane = reactor.link()
    lane.head()
    lane.send(LARGE)
    pour(front, lane, b"x" * 50_000_000)
    assert told(front) == (1, 0)
    assert not is_given_another(front, reactor)
