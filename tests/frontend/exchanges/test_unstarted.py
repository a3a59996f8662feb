"""Exchanges that a reactor does not begin: they move to another one, and unsafe ones run once.

Their deadlines are in test_heartbeat.py. The death of their reactor is in test_replay.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from reactor_run.protocol.express import CANCEL, DONE, GONE, WITHDRAW, WITHDRAWN
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, StandIn, answer, get, post
from tests.integration.client import Client

LANES = pytest.mark.parametrize("lanes", ["express", "plain"])


class Request:
    """A request as a reactor got it, over the express lane or a lane of its own."""

    def __init__(self, reactor: StandIn, lanes: str, *, begin: bool = True) -> None:
        self.reactor = reactor
        self.lane: LaneEnd | None = None
        self.number = 0
        if lanes == "express":
            self.number, self.payload = reactor.request(begin=begin)
        else:
            self.lane = reactor.lane()
            self.payload = self.lane.head(begin=begin)

    def begin(self) -> None:
        if self.lane is None:
            self.reactor.begin(self.number)
        else:
            self.lane.tell(1)

    def reply(self, payload: bytes = OK) -> None:
        if self.lane is None:
            self.reactor.reply(self.number, payload)
        else:
            self.lane.send(payload)
            self.reactor.drop(self.lane)

    def is_dropped(self) -> bool:
        """Check that the reactor is told to drop the answer."""
        if self.lane is None:
            return self.reactor.message() == (self.number, GONE, b"")
        return self.lane.closed

    def is_asked_for(self) -> bool:
        if self.lane is None:
            return self.reactor.message() == (self.number, WITHDRAW, b"")
        return self.reactor.hear("withdraw") == {"withdraw": self.lane.number}

    def give_back(self) -> None:
        if self.lane is None:
            self.reactor.reply(self.number, b"", WITHDRAWN)
        else:
            self.lane.close()
            self.reactor.say(withdrawn=[self.lane.number])

    def end(self) -> None:
        """Send that the app is done, or was never called."""
        if self.lane is None:
            self.reactor.reply(self.number, b"", DONE)
        else:
            self.reactor.drop(self.lane)


def stalled(
    start: Start, lanes: str, *requests: bytes, **settings: Any
) -> tuple[Front, StandIn, Request, list[Client], list[Request]]:
    """Start two reactors. The first runs a request that stalls it; `requests` wait behind that.

    Returns the front end, the second reactor, the request that stalls the first, and the clients
    and requests that wait.
    """
    settings.setdefault("capacities", (10, 10))
    front = start(lanes=lanes, **settings)
    first, second = front.reactors
    second.stall()
    clients = [front.connect() for _ in requests]
    front.connect().send(get("/stalls"))
    front.settle()
    for client, request in zip(clients, requests, strict=True):
        client.send(request)
        front.settle()
    stalls = Request(first, lanes)
    waiting = [Request(first, lanes, begin=False) for _ in requests]
    first.stall()
    second.end_stall(0.002)
    return front, second, stalls, clients, waiting


def in_flight(front: Front) -> list[int]:
    return front.call(lambda: [reactor.inside.in_flight for reactor in front.reactors])


@LANES
def test_safe_requests_move_to_a_reactor_that_begins_them_at_once(start: Start, lanes: str) -> None:
    front, second, stalls, clients, waiting = stalled(start, lanes, get("/1"), get("/2"))
    front.settle()
    assert second.silent
    front.pass_time(0.3)
    for client, path in zip(clients, ("/1", "/2"), strict=True):
        moved = Request(second, lanes)
        assert moved.payload == get(path)
        moved.reply(answer(path.encode()))
        assert client.response().body == path.encode()
    for request in waiting:
        assert request.is_dropped()
    # They occupy the first reactor until it confirms that it does not begin them.
    assert in_flight(front) == [3, 0]
    for request in waiting:
        request.end()
    stalls.reply()
    front.settle()
    assert in_flight(front) == [0, 0]
    assert front.server.dispatcher.moves == 2


@LANES
def test_a_moved_request_that_both_reactors_begin_is_answered_once(
    start: Start, lanes: str
) -> None:
    front, second, _, (client,), (request,) = stalled(start, lanes, get("/1"))
    front.pass_time(0.3)
    moved = Request(second, lanes)
    if lanes == "express":
        request.begin()
        request.reply(answer(b"late"))
    else:
        # Its lane is closed, so no answer can arrive.
        assert request.is_dropped()
        request.begin()
        request.end()
    front.settle()
    assert front.silent(client)
    moved.reply(answer(b"right"))
    assert client.response().body == b"right"
    front.settle()
    assert in_flight(front) == [1, 0]


@LANES
def test_a_request_that_is_not_safe_moves_once_it_is_given_back(start: Start, lanes: str) -> None:
    front, second, _, (client,), (request,) = stalled(start, lanes, post(b"x"))
    front.pass_time(0.3)
    assert request.is_asked_for()
    assert second.silent
    # The front end asks for it once.
    front.pass_time(0.3)
    assert front.reactors[0].silent
    request.give_back()
    moved = Request(second, lanes)
    assert post(b"x").startswith(moved.payload)
    moved.reply()
    assert client.response().status == 200
    front.settle()
    assert in_flight(front) == [1, 0]
    assert front.server.dispatcher.moves == 1


@LANES
def test_a_request_that_begins_before_it_is_given_back_runs_once(start: Start, lanes: str) -> None:
    """The reactor begins the request before it reads that the front end asks for it."""
    front, second, stalls, (client,), (request,) = stalled(start, lanes, post(b"x"))
    front.pass_time(0.3)
    assert request.is_asked_for()
    stalls.reply()
    request.begin()
    request.reply(answer(b"once"))
    assert client.response().body == b"once"
    front.pass_time(0.3)
    assert second.silent
    assert in_flight(front) == [0, 0]
    client.send(get("/next"))
    front.settle()
    assert sum(not reactor.silent for reactor in front.reactors) == 1


@LANES
def test_with_replay_off_a_safe_request_moves_once_it_is_given_back(
    start: Start, lanes: str
) -> None:
    front, second, _, _, (request,) = stalled(start, lanes, get("/1"), replay="off")
    front.pass_time(0.3)
    assert request.is_asked_for()
    assert second.silent


@LANES
def test_a_request_whose_client_left_does_not_move(start: Start, lanes: str) -> None:
    front, second, _, (client,), (request,) = stalled(start, lanes, post(b"x"))
    front.pass_time(0.3)
    assert request.is_asked_for()
    client.reset()
    front.settle()
    assert request.is_dropped()
    request.give_back()
    front.settle()
    assert second.silent
    assert in_flight(front) == [1, 0]


@LANES
@pytest.mark.parametrize("busy", ["stalled", "full", "behind"])
def test_a_request_stays_while_no_other_reactor_would_begin_it(
    start: Start, lanes: str, busy: str
) -> None:
    capacities = (10, 1) if busy == "full" else (10, 10)
    front, second, _, _, _ = stalled(start, lanes, get("/1"), capacities=capacities)
    if busy == "stalled":
        second.stall()
    else:
        front.connect().send(get("/other"))
        Request(second, lanes, begin=busy == "full")
    front.pass_time(0.3)
    assert second.silent
    assert in_flight(front)[0] == 2
    assert front.server.dispatcher.moves == 0


@LANES
def test_a_reactor_with_a_late_exchange_gets_nothing_more(start: Start, lanes: str) -> None:
    """The pulse may show no stall: the process is stopped, or all its threads are occupied."""
    front, second, _, _, (request,) = stalled(start, lanes, post(b"x"))
    first = front.reactors[0]
    first.pulse.since[0] = 0.0
    front.pass_time(0.3)
    assert request.is_asked_for()
    for _ in range(3):
        front.connect().send(get("/more"))
        assert Request(second, lanes).payload == get("/more")
    request.begin()
    front.connect().send(get("/again"))
    assert Request(first, lanes).payload == get("/again")


@LANES
def test_the_rest_of_a_body_follows_to_the_other_reactor(start: Start, lanes: str) -> None:
    body = b"x" * 140_000
    front, second, _, (client,), (request,) = stalled(start, lanes, post(body)[:-100_000])
    front.pass_time(0.3)
    assert request.is_asked_for()
    request.give_back()
    lane = second.link()
    assert post(body).startswith(lane.head())
    client.send(body[:100_000])
    assert lane.exactly(len(body)) == body
    lane.send(OK)
    assert client.response().status == 200


def test_a_request_too_large_to_be_kept_stays(start: Start) -> None:
    front, second, _, (client,), _ = stalled(start, "plain", post(b"x" * 200_000)[:-190_000])
    client.send(b"x" * 180_000)
    front.pass_time(0.3)
    assert second.silent
    assert front.reactors[0].silent


def test_a_moved_request_that_begins_keeps_its_deadline(start: Start) -> None:
    front, second, _, _, (request,) = stalled(start, "express", get("/1"), request_timeout=10.0)
    front.pass_time(0.3)
    Request(second, "express").reply()
    assert request.is_dropped()
    request.begin()
    # The deadline of the request that stalls the reactor has passed too.
    front.pass_time(13)
    kinds = [front.reactors[0].message() for _ in range(2)]
    assert (request.number, CANCEL, b"") in kinds
