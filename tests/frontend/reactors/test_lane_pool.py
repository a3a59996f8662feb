"""The pool of lanes that the front end opened: kept, used again, closed when unused."""

from __future__ import annotations

import pytest

from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, StandIn, get
from tests.integration.client import Client


def burst(front: Front, clients: list[Client], known: list[LaneEnd]) -> list[LaneEnd]:
    """Let all clients send a request at once, and answer; return the lanes that carried them."""
    (reactor,) = front.reactors
    for client in clients:
        client.send(get())
    front.settle()
    used = [lane for lane in known if not lane.closed and not lane.silent]
    used += [reactor.lane() for _ in range(len(clients) - len(used))]
    with front.held():
        for lane in used:
            lane.head()
            lane.send(OK)
        reactor.say(done=[lane.number for lane in used])
    for client in clients:
        assert client.response().body == b"ok"
    front.settle()
    return used


def begin(start: Start, count: int, **options: object) -> tuple[Front, list[Client], StandIn]:
    front = start(lanes="plain", **options)
    return front, [front.connect() for _ in range(count)], front.reactors[0]


def test_as_many_lanes_are_kept_as_the_capacity_of_the_reactor(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reactor_run.frontend.reactors.lane_pool._POOL_MAX", 2)
    front, clients, reactor = begin(start, 6, capacities=(6,))
    lanes = burst(front, clients, [])
    for _ in range(3):
        assert set(burst(front, clients, lanes)) == set(lanes)
    assert reactor.silent


def test_lanes_that_only_a_burst_used_are_closed(start: Start) -> None:
    front, clients, reactor = begin(start, 5)
    lanes = burst(front, clients, [])
    for _ in range(6):
        front.pass_time(4.0)
        (used,) = burst(front, clients[:1], lanes)
    assert [lane for lane in lanes if not lane.closed] == [used]
    assert reactor.silent
    # No more requests arrive.
    front.pass_time(11.0)
    front.pass_time(11.0)
    assert used.closed
    assert front.call(lambda: reactor.inside.lanes.open) == 0
    # Messages of the reactor about closed lanes are ignored.
    reactor.say(drop=[lane.number for lane in lanes])
    (again,) = burst(front, [front.connect()], [])
    assert again.number > max(lane.number for lane in lanes)


def test_an_exchange_may_last_longer_than_a_free_lane_is_kept(start: Start) -> None:
    front, (client,), reactor = begin(start, 1)
    client.send(get())
    lane = reactor.lane()
    lane.head()
    for _ in range(3):
        front.pass_time(11.0)
    lane.send(OK)
    reactor.done(lane)
    assert client.response().body == b"ok"
    assert burst(front, [client], [lane]) == [lane]
