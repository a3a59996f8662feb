"""Retries: which exchanges of a dead reactor go to another one, and which fail."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

import pytest

from reactor_run.frontend.exchanges.exchange import KEPT_MAX
from reactor_run.frontend.exchanges.replay import DEATHS_MAX
from reactor_run.frontend.exchanges.spool import MEMORY_MAX
from reactor_run.protocol.express import ANSWER, FIN, GONE, read_requests
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import CHUNKED, read_to_end, replacement
from tests.frontend.standin import OK, LaneEnd, StandIn, get, post
from tests.integration.client import Client

LANES = pytest.mark.parametrize("lanes", ["express", "plain"])


class Request:
    """A request as a reactor got it, over the express lane or a lane of its own."""

    def __init__(self, reactor: StandIn, lanes: str, *, begin: bool = True) -> None:
        self._reactor = reactor
        self._lane: LaneEnd | None = None
        if lanes == "express":
            self._number, self.payload = reactor.request(begin=begin)
        else:
            self._lane = reactor.lane()
            self.payload = self._lane.head(begin=begin)

    def reply(self, payload: bytes = OK) -> None:
        if self._lane is None:
            self._reactor.reply(self._number, payload)
        else:
            self._lane.send(payload)
            self._reactor.done(self._lane)


# The rule -----------------------------------------------------------------------------------------


@LANES
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_request_is_retried(start: Start, lanes: str, method: str) -> None:
    front = start(lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/a", method=method))
    first = Request(reactor, lanes)
    reactor.die()
    second = Request(replacement(front), lanes)
    assert second.payload == first.payload
    second.reply(OK if method != "HEAD" else b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    assert client.response(method).status == 200
    assert front.call(lambda: front.reactors[-1].inside.in_flight) == 0


@LANES
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "PURGE"])
def test_any_other_request_is_answered_502(start: Start, lanes: str, method: str) -> None:
    front = start(lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/a", method=method))
    Request(reactor, lanes)
    reactor.die()
    assert client.response().status == 502
    assert front.server.dispatcher.waiting == 0


@LANES
@pytest.mark.parametrize(
    ("replay", "method", "replayed"),
    [
        ("idempotent", "GET", True),
        ("idempotent", "PUT", True),
        ("idempotent", "DELETE", True),
        ("idempotent", "POST", False),
        ("off", "GET", False),
    ],
)
def test_replay_sets_which_methods_are_retried(
    start: Start, lanes: str, replay: str, method: str, replayed: bool
) -> None:
    front = start(lanes=lanes, replay=replay)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/a", method=method))
    Request(reactor, lanes)
    reactor.die()
    if replayed:
        Request(replacement(front), lanes).reply()
    assert client.response().status == (200 if replayed else 502)


@LANES
def test_no_request_is_retried_twice(start: Start, lanes: str) -> None:
    front = start(lanes=lanes)
    client = front.connect()
    client.send(get("/poison?x=1"))
    Request(front.reactors[0], lanes)
    front.reactors[0].die()
    second = replacement(front)
    Request(second, lanes)
    second.die()
    assert client.response().status == 502
    assert any("GET /poison was in flight in two reactors" in line for line in front.log)
    # The next request of the connection has a count of its own. Replacements start later by now.
    client.send(get("/next"))
    front.pass_time(3)
    third = replacement(front)
    Request(third, lanes)
    third.die()
    front.pass_time(4)
    Request(replacement(front), lanes).reply()
    assert client.response().status == 200


def test_a_retry_goes_to_the_other_reactor_at_once(start: Start) -> None:
    front = start(capacities=(1, 1))
    first, second = front.reactors
    client = front.connect()
    client.send(get("/a"))
    first.request()
    first.die()
    number, payload = second.request()
    assert payload == get("/a")
    second.reply(number)
    assert client.response().status == 200


def test_retries_come_before_waiting_requests(start: Start) -> None:
    front = start(capacities=(2,), queue_size=1)
    (reactor,) = front.reactors
    clients = [front.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(get(f"/{number}"))
        front.settle()
    reactor.request(), reactor.request()
    reactor.die()
    front.settle()
    # This holds even if the queue is full.
    assert front.server.dispatcher.waiting == 3
    second = front.reactors[-1]
    second.ready(1)
    for expected in range(3):
        number, payload = second.request()
        assert payload == get(f"/{expected}")
        second.reply(number)
    assert [client.response().status for client in clients] == [200] * 3


def test_a_pipelined_request_waits_behind_retries(start: Start) -> None:
    """The client of a failed exchange has sent a second request, which comes next."""
    front = start(capacities=(2,))
    (reactor,) = front.reactors
    eager, client = front.connect(), front.connect()
    eager.send(post(b"x") + get("/eager"))
    client.send(get("/a"))
    reactor.request(), reactor.request()
    reactor.die()
    assert eager.response().status == 502
    front.settle()
    second = front.reactors[-1]
    second.ready(1)
    number, payload = second.request()
    assert payload == get("/a")
    second.reply(number)
    number, payload = second.request()
    assert payload == get("/eager")
    second.reply(number)
    assert eager.response().status == client.response().status == 200


def test_a_retry_has_the_same_queue_timeout_as_other_requests(start: Start) -> None:
    front = start(queue_timeout=10.0)
    client = front.connect()
    client.send(get())
    front.reactors[0].request()
    front.reactors[0].die()
    front.pass_time(12)
    response = client.response()
    assert response.status == 503
    assert response.field("retry-after") == b"1"


@pytest.mark.parametrize("leave", [Client.reset, Client.finish_sending])
def test_the_request_of_a_client_that_left_is_not_retried(start: Start, leave) -> None:
    front = start()
    client = front.connect()
    client.send(get())
    front.reactors[0].request()
    front.reactors[0].die()
    front.settle()
    leave(client)
    second = replacement(front)
    front.settle()
    assert second.silent


def test_a_retry_repeats_an_earlier_fin(start: Start) -> None:
    front = start()
    client = front.connect()
    client.send(get())
    client.finish_sending()
    (reactor,) = front.reactors
    number, _ = reactor.request()
    assert reactor.message() == (number, FIN, b"")
    reactor.die()
    second = replacement(front)
    number, _ = second.request()
    assert second.message() == (number, FIN, b"")
    second.reply(number)
    assert client.response().status == 200


# Answers that have begun --------------------------------------------------------------------------


def test_a_request_whose_answer_has_begun_is_not_retried(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(CHUNKED)
    assert client.begin().status == 200
    reactor.die()
    assert read_to_end(client) == b""
    assert replacement(front).silent


def test_a_request_with_half_an_answer_head_is_retried(start: Start) -> None:
    front = start(lanes="plain")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.lane()
    lane.head()
    lane.send(CHUNKED[:30])
    front.settle()
    reactor.die()
    Request(replacement(front), "plain").reply()
    response = client.response()
    assert (response.status, response.body) == (200, b"ok")


def test_after_an_interim_answer_there_is_no_retry(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
    assert client.informational("GET") == 103
    reactor.die()
    assert client.response().status == 502


def test_an_app_that_still_runs_after_its_answer_is_not_retried(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    reactor.reply(reactor.request()[0], OK, ANSWER)
    assert client.response().status == 200
    reactor.die()
    assert replacement(front).silent


def test_an_abandoned_exchange_is_not_retried(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    client.reset()
    assert reactor.message() == (number, GONE, b"")
    reactor.die()
    assert replacement(front).silent


# Unstarted exchanges ------------------------------------------------------------------------------


@LANES
@pytest.mark.parametrize("replay", ["safe", "off"])
def test_an_unstarted_request_is_retried_whatever_its_method(
    start: Start, lanes: str, replay: str
) -> None:
    front = start(lanes=lanes, replay=replay)
    (reactor,) = front.reactors
    begun, behind = front.connect(), front.connect()
    begun.send(post(b"begun"))
    Request(reactor, lanes)
    behind.send(post(b"behind"))
    Request(reactor, lanes, begin=False)
    reactor.die()
    assert begun.response().status == 502
    second = replacement(front)
    request = Request(second, lanes)
    assert request.payload.startswith(post(b"behind")[:-6])
    request.reply()
    assert behind.response().status == 200
    assert any("1 are retried, 1 failed" in line for line in front.log)


@LANES
def test_retries_of_an_unstarted_request_are_limited(start: Start, lanes: str) -> None:
    front = start(lanes=lanes)
    client = front.connect()
    client.send(post(b"x"))
    reactor = front.reactors[0]
    for _ in range(DEATHS_MAX - 1):
        Request(reactor, lanes, begin=False)
        reactor.die()
        reactor.wait_for_end()
        front.pass_time(3)
        reactor = replacement(front)
    Request(reactor, lanes, begin=False)
    reactor.die()
    assert client.response().status == 502


def test_a_collected_body_in_a_file_is_kept_until_its_app_has_begun(start_each: Start) -> None:
    front = start_each(interface="wsgi", capacities=(2,))
    (reactor,) = front.reactors
    body = b"x" * (2 * MEMORY_MAX)
    client = front.connect()
    client.send(post(body))
    lane = reactor.link()
    assert lane.head(begin=False).startswith(b"POST / ")
    assert lane.exactly(len(body)) == body
    front.settle()
    reactor.die()
    reactor.wait_for_end()
    second = front.reactors[-1]
    second.ready(2, "wsgi")
    lane = second.link()
    assert lane.head().startswith(b"POST / ")
    assert lane.exactly(len(body)) == body
    lane.send(OK)
    assert client.response().status == 200


def test_requests_that_were_batched_and_not_sent_are_retried(start: Start) -> None:
    """The method does not matter."""
    front = start(capacities=(1,), replay="off")
    client = front.connect()
    front.settle()
    with front.held():
        client.send(post(b"once"))
        front.reactors[0].die()
    second = replacement(front)
    number, payload = second.request()
    assert payload == post(b"once")
    second.reply(number)
    assert client.response().status == 200


def test_the_unsent_rest_of_a_batch_is_retried(start: Start) -> None:
    front = start(replay="off")
    (reactor,) = front.reactors
    express = reactor.express
    bodies = [b"%05d" % number * 11_000 for number in range(100)]
    clients = [front.connect() for _ in bodies]
    front.settle()
    with front.held():
        for client, body in zip(clients, bodies, strict=True):
            client.send(post(body))
    front.settle()
    # More requests join the batch.
    late = front.connect()
    late.send(post(b"late"))
    with front.held():
        messages, _ = read_requests(drain(express))
        sent = [payload for _, _, _, payload in messages]
        for number, _, _, _ in messages:
            reactor.begin(number)
        reactor.die()
    assert 0 < len(sent) < len(bodies)
    second = replacement(front)
    again = []
    while not second.silent:
        number, payload = second.request()
        again.append(payload)
        second.reply(number)
        front.settle()
    assert late.response().status == 200
    assert again.pop() == post(b"late")
    # The kernel took only a part of one request.
    assert sent + again == [post(b) for b in bodies]
    statuses = [client.response().status for client in clients]
    assert statuses == [502] * len(sent) + [200] * len(again)


def drain(sock: socket.socket) -> bytes:
    """Read all bytes that are there."""
    data = b""
    sock.setblocking(False)
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def test_a_request_whose_lane_took_nothing_is_retried(start: Start) -> None:
    front = start(lanes="plain", replay="off")
    client = front.connect()
    with front.held():
        client.send(post(b"once"))
        front.reactors[0].die()
    lane = replacement(front).lane()
    assert lane.head() + lane.exactly(4) == post(b"once")
    lane.send(OK)
    assert client.response().status == 200


@LANES
def test_a_body_in_a_file_whose_lane_took_nothing_is_retried(start: Start, lanes: str) -> None:
    """The lane breaks before the front end knows that the reactor is dead."""
    front = start(interface="wsgi", lanes=lanes, replay="off")
    (reactor,) = front.reactors
    client = front.connect()
    body = os.urandom(MEMORY_MAX + 1)
    whole = post(body)
    client.send(whole[:-1])
    front.settle()
    with front.held():
        client.send(whole[-1:])
        reactor.hang_up()
    front.settle()
    front.pass_time(4)
    reactor.wait_for_end()
    lane = replacement(front).link()
    assert lane.head().startswith(b"POST / HTTP/1.1\r\n")
    assert lane.exactly(len(body)) == body
    lane.send(OK)
    assert client.response().status == 200


@pytest.mark.parametrize("size", [1, 200_000, 3_000_000])
def test_a_body_that_still_arrives_for_a_dead_reactor_is_retried(start: Start, size: int) -> None:
    """Nothing was sent, so all of the body is kept. The limit of the queue bounds it."""
    rest = b"y" * size
    front = start(lanes="plain", replay="off")
    client = front.connect()
    whole = post(b"x" + rest)
    with front.held():
        client.send(whole[: -len(rest)])
        front.reactors[0].hang_up()
    front.settle()
    with client.sending([rest]):
        for _ in range(50):
            front.settle()
        assert front.inside.requester.exchange is not None
        assert len(front.inside.requester.exchange.request) <= 600_000
        front.pass_time(4)
        front.reactors[0].wait_for_end()
        lane = replacement(front).lane()
        assert lane.head() + lane.exactly(1 + len(rest)) == whole
    lane.send(OK)
    assert client.response().status == 200


# Bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "replayed"), [(140_000, True), (KEPT_MAX, False)])
def test_a_small_streamed_body_is_retried(start_each: Start, size: int, replayed: bool) -> None:
    front = start_each(replay="idempotent")
    (reactor,) = front.reactors
    client = front.connect()
    whole = get("/", f"Content-Length: {size}", method="PUT") + b"x" * size
    client.send(whole[:100])
    lane = reactor.link()
    front.settle()
    client.send(whole[100:-1])
    lane.head()
    lane.exactly(size - 1)
    reactor.die()
    if not replayed:
        assert client.response().status == 502
        return
    second = replacement(front).link()
    client.send(whole[-1:])
    assert second.head() + second.exactly(size) == whole
    second.send(OK)
    assert client.response().status == 200


@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("half", [False, True])
def test_a_collected_body_is_retried(start_each: Start, size: int, half: bool) -> None:
    """The body is in memory or in a file, and was sent whole or in part."""
    front = start_each(interface="wsgi", replay="idempotent")
    (reactor,) = front.reactors
    client = front.connect()
    body = os.urandom(size)
    with client.sending([get("/", f"Content-Length: {size}", method="PUT"), body]):
        lane = reactor.link()
        head = lane.head()
        assert lane.exactly(size // 2 if half else size)
    front.settle()
    reactor.die()
    front.settle()
    front.reactors[-1].ready(10, "wsgi")
    second = front.reactors[-1].link()
    assert second.head() == head
    assert second.exactly(size) == body
    second.send(OK)
    front.reactors[-1].done(second)
    assert client.response().status == 200
    if isinstance(second, LaneEnd):
        # The lane can be used again.
        client.send(get("/next"))
        front.settle()
        assert second.head() == get("/next")


def test_the_file_of_a_retried_body_is_closed_with_the_answer(
    start_each: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    create = tempfile.TemporaryFile

    def note(*args: Any, **options: Any) -> Any:
        files.append(create(*args, **options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    front = start_each(interface="wsgi", replay="idempotent")
    (reactor,) = front.reactors
    client = front.connect()
    body = b"x" * 1_000_000
    with client.sending([get("/", f"Content-Length: {len(body)}", method="PUT"), body]):
        lane = reactor.link()
        lane.head()
        lane.exactly(len(body))
    front.settle()
    assert not files[0].closed
    lane.send(CHUNKED)
    client.begin()
    front.settle()
    assert files[0].closed


@LANES
def test_a_request_is_kept_only_while_it_may_be_retried(start: Start, lanes: str) -> None:
    front = start(lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    payload = lane.head()
    front.settle()
    exchange = front.inside.requester.exchange
    assert exchange is not None
    assert exchange.request == payload
    lane.send(CHUNKED)
    client.begin()
    front.settle()
    assert exchange.request == b""
