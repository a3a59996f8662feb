"""What a reactor has and does not begin: others are given it, and nothing runs twice that must not.

Its time, and what becomes of it when its reactor dies: test_heartbeat.py, test_replay.py.
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
    """One request as a reactor got it, by whichever way."""

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
        """The reactor is told that the answer is not wanted any more."""
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
        """Tell that the app is done, or was never called."""
        if self.lane is None:
            self.reactor.reply(self.number, b"", DONE)
        else:
            self.reactor.drop(self.lane)


def stalled(
    start: Start, lanes: str, *requests: bytes, **settings: Any
) -> tuple[Front, StandIn, Request, list[Client], list[Request]]:
    """Two reactors. The first has begun a request that stalls it, and has these behind that.

    Returns the second, what stalls the first, and the clients and requests that wait.
    """
    settings.setdefault("capacities", (10, 10))
    front = start(lanes=lanes, **settings)
    first, second = front.reactors
    second.hold_up()
    clients = [front.connect() for _ in requests]
    front.connect().send(get("/stalls"))
    front.settle()
    for client, request in zip(clients, requests, strict=True):
        client.send(request)
        front.settle()
    stalls = Request(first, lanes)
    waiting = [Request(first, lanes, begin=False) for _ in requests]
    first.hold_up()
    second.go_on(0.002)
    return front, second, stalls, clients, waiting


def in_flight(front: Front) -> list[int]:
    return front.call(lambda: [reactor.inside.in_flight for reactor in front.reactors])


@LANES
def test_safe_requests_are_given_to_a_reactor_that_begins_them_at_once(
    start: Start, lanes: str
) -> None:
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
    # They occupy the first until it has said that it does not begin them.
    assert in_flight(front) == [3, 0]
    for request in waiting:
        request.end()
    stalls.reply()
    front.settle()
    assert in_flight(front) == [0, 0]
    assert front.server.dispatcher.moves == 2


@LANES
def test_what_it_begins_in_the_same_instant_is_answered_once(start: Start, lanes: str) -> None:
    front, second, _, (client,), (request,) = stalled(start, lanes, get("/1"))
    front.pass_time(0.3)
    moved = Request(second, lanes)
    if lanes == "express":
        request.begin()
        request.reply(answer(b"late"))
    else:
        # Its lane is closed: no answer comes.
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
def test_any_other_request_moves_once_it_is_given_back(start: Start, lanes: str) -> None:
    front, second, _, (client,), (request,) = stalled(start, lanes, post(b"x"))
    front.pass_time(0.3)
    assert request.is_asked_for()
    assert second.silent
    # It is asked for once.
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
def test_a_stall_that_ends_meanwhile_runs_it_once(start: Start, lanes: str) -> None:
    """The reactor began it before it heard that it was asked for."""
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
def test_without_retries_a_safe_request_is_asked_for_too(start: Start, lanes: str) -> None:
    front, second, _, _, (request,) = stalled(start, lanes, get("/1"), replay="off")
    front.pass_time(0.3)
    assert request.is_asked_for()
    assert second.silent


@LANES
def test_a_client_that_leaves_meanwhile_is_served_by_none(start: Start, lanes: str) -> None:
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
def test_it_stays_while_no_other_would_begin_it(start: Start, lanes: str, busy: str) -> None:
    capacities = (10, 1) if busy == "full" else (10, 10)
    front, second, _, _, _ = stalled(start, lanes, get("/1"), capacities=capacities)
    if busy == "stalled":
        second.hold_up()
    else:
        front.connect().send(get("/other"))
        Request(second, lanes, begin=busy == "full")
    front.pass_time(0.3)
    assert second.silent
    assert in_flight(front)[0] == 2
    assert front.server.dispatcher.moves == 0


@LANES
def test_a_reactor_that_is_behind_is_given_nothing_more(start: Start, lanes: str) -> None:
    """Even if no step shows that it stalls: its process may stand still, or all its threads."""
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


def test_a_body_that_is_still_to_come_follows_to_the_other_reactor(start: Start) -> None:
    body = b"x" * 70_000
    front, second, _, (client,), (request,) = stalled(start, "plain", post(body)[:-60_000])
    front.pass_time(0.3)
    assert request.is_asked_for()
    request.give_back()
    lane = second.lane()
    assert post(body).startswith(lane.head())
    client.send(body[:60_000])
    assert lane.exactly(len(body)) == body
    lane.send(OK)
    assert client.response().status == 200


def test_one_that_is_too_large_to_be_kept_stays(start: Start) -> None:
    front, second, _, (client,), _ = stalled(start, "plain", post(b"x" * 200_000)[:-190_000])
    client.send(b"x" * 180_000)
    front.pass_time(0.3)
    assert second.silent
    assert front.reactors[0].silent


def test_one_that_was_begun_in_the_same_instant_has_its_time_and_no_more(start: Start) -> None:
    front, second, _, _, (request,) = stalled(start, "express", get("/1"), request_timeout=10.0)
    front.pass_time(0.3)
    Request(second, "express").reply()
    assert request.is_dropped()
    request.begin()
    # What stalls it has had its time too.
    front.pass_time(13)
    kinds = [front.reactors[0].message() for _ in range(2)]
    assert (request.number, CANCEL, b"") in kinds
