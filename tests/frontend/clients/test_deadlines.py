"""The deadlines of an exchange: for the first byte of its answer, and for all of it."""

from __future__ import annotations

import pytest

from reactor_run.protocol.express import CANCEL, DONE, GONE
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import CHUNKED, PART, read_to_end, replacement
from tests.frontend.standin import Pieces, answer, get, post


def test_no_first_byte_in_time_is_a_504(start: Start) -> None:
    front = start(first_byte_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/slow"))
    number, _ = reactor.request()
    front.pass_time(8)
    assert front.silent(client)
    front.pass_time(4)
    response = client.response()
    assert response.status == 504
    assert response.field("connection") is None
    assert reactor.message() == (number, CANCEL, b"")
    assert any("GET /slow took too long in reactor 1" in line for line in front.log)
    # The exchange occupies its reactor until its app is done.
    assert front.call(lambda: reactor.inside.in_flight) == 1
    reactor.reply(number, b"", DONE)
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_the_first_byte_ends_the_first_byte_timeout(start_each: Start) -> None:
    front = start_each(first_byte_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    front.pass_time(8)
    lane.send(PART)
    assert client.begin().status == 200
    front.pass_time(1000)
    lane.send(b"x" * 50)
    assert len(b"".join(client.pieces())) == 100


def test_an_interim_answer_is_no_first_byte(start_each: Start) -> None:
    front = start_each(first_byte_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert client.informational("GET") == 103
    front.pass_time(12)
    assert client.response().status == 504


def test_an_upload_may_take_longer_than_the_first_byte(start_each: Start) -> None:
    """The app cannot answer before the request has arrived."""
    front = start_each(first_byte_timeout=10.0, body_timeout=0.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(post(b"x" * 139_998 + b"xy")[:-2])
    lane = reactor.link()
    lane.head()
    front.pass_time(100)
    client.send(b"x")
    front.pass_time(100)
    assert front.silent(client)
    client.send(b"y")
    front.settle()
    front.pass_time(8)
    assert front.silent(client)
    front.pass_time(4)
    assert client.response().status == 504
    assert lane.closed


@pytest.mark.parametrize("first_byte", [0.0, 5.0])
def test_the_request_timeout_limits_the_whole_answer(start_each: Start, first_byte: float) -> None:
    front = start_each(first_byte_timeout=first_byte, request_timeout=20.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    front.pass_time(3)
    lane.send(CHUNKED)
    assert client.begin().status == 200
    front.pass_time(15)
    assert lane.silent
    front.pass_time(4)
    assert read_to_end(client) == b""
    if isinstance(lane, Pieces):
        lane.hear(CANCEL)
        return
    assert lane.closed
    assert reactor.hear("cancel") == {"cancel": lane.number}


def test_a_retry_does_not_start_the_request_timeout_again(start: Start) -> None:
    front = start(request_timeout=20.0)
    client = front.connect()
    client.send(get())
    front.reactors[0].request()
    front.pass_time(12)
    front.reactors[0].die()
    second = replacement(front)
    second.request()
    front.pass_time(10)
    assert client.response().status == 504


def test_time_in_the_queue_does_not_count(start: Start) -> None:
    front = start(first_byte_timeout=10.0, queue_timeout=30.0, capacities=(1,))
    (reactor,) = front.reactors
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    number, _ = reactor.request()
    second.send(get("/second"))
    front.pass_time(8)
    reactor.reply(number)
    assert first.response().status == 200
    reactor.request()
    front.pass_time(8)
    assert front.silent(second)
    front.pass_time(4)
    assert second.response().status == 504


def test_deadlines_are_over_with_their_exchange(start: Start) -> None:
    front = start(first_byte_timeout=10.0, request_timeout=15.0)
    (reactor,) = front.reactors
    client = front.connect()
    for _ in range(4):
        client.send(get())
        front.pass_time(8)
        reactor.reply(reactor.request()[0])
        assert client.response().status == 200
        front.pass_time(8)


def test_a_reactor_with_an_endless_thread_is_replaced(start: Start) -> None:
    """The thread cannot be cancelled, so the reactor retires when its successor is ready."""
    front = start(interface="wsgi", capacities=(2,), request_timeout=10.0)
    (reactor,) = front.reactors
    client, other = front.connect(), front.connect()
    client.send(get("/stuck"))
    reactor.request()
    front.pass_time(8)
    other.send(get("/other"))
    number, _ = reactor.request()
    front.pass_time(4)
    assert client.response().status == 504
    assert any(
        "GET /stuck occupies a thread for too long, replacing it" in line for line in front.log
    )
    second = replacement(front)
    client.send(get("/next"))
    assert second.request()[1] == get("/next")
    # What it has besides comes to its end.
    reactor.reply(number)
    assert other.response().status == 200


def test_an_asgi_reactor_serves_on_after_a_timeout(start: Start) -> None:
    front = start(request_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    reactor.request()
    front.pass_time(12)
    assert client.response().status == 504
    assert front.reactors == [reactor]


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_an_orphaned_exchange_keeps_its_deadline(start: Start, lanes: str) -> None:
    front = start(request_timeout=20.0, lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/left"))
    number = 0
    if lanes == "express":
        number, _ = reactor.request()
    else:
        lane = reactor.lane()
        lane.head()
    front.pass_time(5)
    client.reset()
    front.settle()
    if lanes == "express":
        assert reactor.message() == (number, GONE, b"")
    front.pass_time(10)
    assert reactor.silent
    front.pass_time(7)
    if lanes == "express":
        assert reactor.message() == (number, CANCEL, b"")
    else:
        assert reactor.hear("cancel") == {"cancel": lane.number}


def test_an_orphaned_exchange_that_is_done_is_forgotten(start: Start) -> None:
    front = start(request_timeout=20.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    client.reset()
    assert reactor.message() == (number, GONE, b"")
    reactor.reply(number, b"", DONE)
    front.pass_time(3)
    assert not front.server.clients.orphans._ends
    front.pass_time(30)
    assert reactor.silent


@pytest.mark.parametrize("inline", [False, True])
def test_a_reactor_with_an_endless_orphaned_exchange_is_replaced(
    start: Start, inline: bool
) -> None:
    front = start(interface="wsgi", capacities=(), request_timeout=10.0)
    (reactor,) = front.reactors
    reactor.ready(2, "wsgi", inline=inline)
    front.settle()
    client = front.connect()
    client.send(get("/stuck"))
    reactor.request()
    client.reset()
    front.pass_time(15)
    if inline:
        assert any("GET /stuck takes too long, killing it" in line for line in front.log)
        reactor.wait_for_end()
    else:
        assert any("GET /stuck occupies a thread for too long" in line for line in front.log)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", [0xE0, 0xE1])
def test_an_empty_express_answer_gives_502(start: Start, version: str, kind: int) -> None:
    front = start()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/", "Connection: keep-alive", version=version))
    number, _ = reactor.request()
    reactor.reply(number, b"", kind)
    assert client.response().status == 502
    if kind == 0xE1:
        reactor.message()
        reactor.reply(number, b"", DONE)
    client.send(get())
    reactor.reply(reactor.request()[0], answer(b"good"))
    assert client.response().body == b"good"
