"""The dispatcher: which reactor gets an exchange, and the order of the queue."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from reactor_run.frontend.exchanges import dispatcher, unstarted
from reactor_run.frontend.exchanges.exchange import WAITING
from reactor_run.frontend.exchanges.standby import LOAD_LEAST
from reactor_run.frontend.reactors import stall_budget
from reactor_run.protocol.express import ANSWER, DONE, GONE
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, StandIn, answer, get, post
from tests.integration.client import Client


def test_an_exchange_goes_to_the_reactor_with_the_fewest_in_flight(start: Start) -> None:
    front = start(capacities=(10, 10, 10))
    first, second, third = front.reactors
    numbers = {}
    for name, reactor in ("a", first), ("b", second), ("c", third), ("d", first), ("e", second):
        client = front.connect()
        client.send(get(f"/{name}"))
        numbers[name], payload = reactor.request()
        assert payload.startswith(b"GET /" + name.encode())
    # The second has two in flight, then none: it comes before the third, which has one.
    second.reply(numbers["b"])
    second.reply(numbers["e"])
    front.settle()
    front.connect().send(get("/f"))
    assert second.request()[1].startswith(b"GET /f")
    assert first.silent
    assert third.silent


def test_a_full_reactor_is_passed_over(start: Start) -> None:
    front = start(capacities=(1, 3))
    small, large = front.reactors
    for reactor in small, large, large, large:
        front.connect().send(get())
        reactor.request()
    waiting = front.connect()
    waiting.send(get("/waiting"))
    assert front.silent(waiting)
    assert small.silent
    assert large.silent
    assert front.server.dispatcher.waiting == 1


def test_an_answer_frees_nothing_before_the_app_is_done(start: Start) -> None:
    front = start(capacities=(1,))
    (reactor,) = front.reactors
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    number, _ = reactor.request()
    second.send(get("/second"))
    front.settle()
    reactor.reply(number, OK, ANSWER)
    assert first.response().body == b"ok"
    front.settle()
    assert reactor.silent
    reactor.reply(number, b"", DONE)
    number, payload = reactor.request()
    assert payload.startswith(b"GET /second")
    reactor.reply(number)
    assert second.response().status == 200


def test_an_answer_on_a_lane_frees_nothing_before_the_app_is_done(start: Start) -> None:
    front = start(capacities=(1,), lanes="plain")
    (reactor,) = front.reactors
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    lane = reactor.lane()
    lane.head()
    second.send(get("/second"))
    front.settle()
    lane.send(OK)
    assert first.response().body == b"ok"
    front.settle()
    assert reactor.silent
    assert lane.silent
    reactor.done(lane)
    assert lane.head().startswith(b"GET /second")


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_a_client_that_leaves_frees_nothing_before_the_app_is_done(
    start: Start, lanes: str
) -> None:
    front = start(capacities=(1,), lanes=lanes)
    (reactor,) = front.reactors
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    lane = None
    if lanes == "express":
        number, _ = reactor.request()
    else:
        lane = reactor.lane()
        lane.head()
    second.send(get("/second"))
    front.settle()
    first.reset()
    front.settle()
    assert front.server.dispatcher.waiting == 1
    if lane is None:
        assert reactor.message() == (number, GONE, b"")
        reactor.reply(number, b"", DONE)
        assert reactor.request()[1].startswith(b"GET /second")
    else:
        assert lane.closed
        reactor.drop(lane)
        assert reactor.lane().head().startswith(b"GET /second")


def test_announced_capacity_is_followed(start: Start) -> None:
    front = start(capacities=(1,))
    (reactor,) = front.reactors
    clients = [front.connect() for _ in range(4)]
    for client in clients:
        client.send(get())
        front.settle()
    numbers = [reactor.request()[0]]
    front.settle()
    assert reactor.silent
    reactor.say(capacity=3)
    numbers += [reactor.request()[0] for _ in range(2)]
    reactor.say(capacity=1)
    front.settle()
    reactor.reply(numbers.pop())
    reactor.reply(numbers.pop())
    front.settle()
    assert reactor.silent
    reactor.reply(numbers.pop())
    assert reactor.request()


# The queue ----------------------------------------------------------------------------------------


def _fill(start: Start, names: str, **settings: object) -> tuple[Front, dict[str, Client]]:
    """Return a reactor of capacity 1 that has an exchange, and clients that wait in this order."""
    front = start(capacities=(1,), **settings)
    front.connect().send(get("/occupies"))
    front.reactors[0].request()
    clients = {}
    for name in names:
        clients[name] = front.connect()
        clients[name].send(get(f"/{name}"))
        front.settle()
    return front, clients


def test_the_queue_is_first_come_first_served(start: Start) -> None:
    front, clients = _fill(start, "abc")
    (reactor,) = front.reactors
    reactor.reply(1)
    for name in "abc":
        number, payload = reactor.request()
        assert payload.startswith(b"GET /" + name.encode())
        reactor.reply(number, answer(name.encode()))
        assert clients[name].response().body == name.encode()


@pytest.mark.parametrize("leave", [Client.reset, Client.finish_sending])
def test_a_client_that_leaves_is_removed_from_the_queue(start: Start, leave) -> None:
    front, clients = _fill(start, "abc")
    (reactor,) = front.reactors
    leave(clients["b"])
    front.settle()
    assert front.server.dispatcher.waiting == 2
    reactor.reply(1)
    number, payload = reactor.request()
    assert payload.startswith(b"GET /a")
    reactor.reply(number)
    number, payload = reactor.request()
    assert payload.startswith(b"GET /c")


def test_fin_of_a_waiting_client_counts_after_its_pipelined_requests(start: Start) -> None:
    front, clients = _fill(start, "a")
    (reactor,) = front.reactors
    clients["a"].send(get("/next"))
    clients["a"].finish_sending()
    front.settle()
    reactor.reply(1)
    number, payload = reactor.request()
    assert payload.startswith(b"GET /a")
    reactor.reply(number)
    assert clients["a"].response().status == 200
    assert reactor.request()[1].startswith(b"GET /next")


def test_fin_after_a_large_body_removes_a_client_from_the_queue(start: Start) -> None:
    """The body is larger than the limit of the queue, but complete: so its client is still read."""
    front, _ = _fill(start, "")
    client = front.connect(front.unix)
    request = post(b"x" * 290_000)
    client.send(request[:250_000])
    front.settle()
    with front.held():
        client.send(request[250_000:])
    front.settle()
    assert front.server.dispatcher.waiting == 1
    client.finish_sending()
    front.settle()
    assert front.server.dispatcher.waiting == 0


def test_a_full_queue_rejects_at_once_and_keeps_the_connection(start: Start) -> None:
    front, _ = _fill(start, "ab", queue_size=2)
    (reactor,) = front.reactors
    third = front.connect()
    third.send(get("/c"))
    response = third.response()
    assert response.status == 503
    assert response.field("retry-after") == b"1"
    assert response.field("connection") is None
    third.send(get("/d"))
    assert third.response().status == 503
    reactor.reply(1)
    reactor.request()
    third.send(get("/e"))
    assert front.silent(third)


def test_pipelined_requests_are_rejected_one_after_another(start: Start) -> None:
    front, _ = _fill(start, "", queue_size=0)
    client = front.connect()
    client.send(get() * 20)
    assert [client.response().status for _ in range(20)] == [503] * 20


def test_a_request_waits_no_longer_than_the_queue_timeout(start: Start) -> None:
    front, clients = _fill(start, "a", queue_timeout=10.0)
    front.pass_time(10)
    assert front.server.dispatcher.waiting == 0
    assert clients["a"].response().status == 503


def test_a_request_that_waits_too_long_is_rejected(start: Start) -> None:
    front, clients = _fill(start, "ab", queue_timeout=10.0)
    (reactor,) = front.reactors
    front.pass_time(8)
    assert front.silent(clients["a"])
    front.pass_time(4)
    response = clients["a"].response()
    assert response.status == 503
    assert response.field("retry-after") == b"1"
    assert clients["b"].response().status == 503
    assert front.server.dispatcher.waiting == 0
    clients["a"].send(get("/again"))
    front.settle()
    reactor.reply(1)
    assert reactor.request()[1].startswith(b"GET /again")


def test_without_a_queue_timeout_a_client_waits(start: Start) -> None:
    front, clients = _fill(start, "a", queue_timeout=0.0)
    front.pass_time(1000)
    assert front.silent(clients["a"])
    front.reactors[0].reply(1)
    assert front.reactors[0].request()


def test_a_body_is_read_while_its_exchange_waits(start: Start) -> None:
    front, _ = _fill(start, "")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(post(b"x" * 10)[:-5])
    front.settle()
    client.send(b"x" * 5)
    front.settle()
    reactor.reply(1)
    assert reactor.request()[1] == post(b"x" * 10)


def test_a_waiting_client_is_read_within_bounds(start: Start) -> None:
    front, _ = _fill(start, "")
    (reactor,) = front.reactors
    body = b"x" * (8 << 20)
    client = front.connect()
    with client.sending([post(body)]):
        front.settle()
        for _ in range(100):
            front.settle()
        (inside,) = (
            c
            for c in front.clients
            if c.requester.exchange and c.requester.exchange.state is WAITING
        )
        assert inside.requester.exchange is not None
        assert len(inside.requester.exchange.request) <= (256 + 64) << 10
        reactor.reply(1)
        lane = reactor.link()
        lane.head()
        assert lane.exactly(len(body)) == body


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_the_next_request_of_a_connection_may_go_to_another_reactor(
    start: Start, lanes: str
) -> None:
    front = start(capacities=(1, 1), lanes=lanes)
    first, second = front.reactors
    client = front.connect()
    for reactor in first, first:
        client.send(get())
        if lanes == "express":
            reactor.reply(reactor.request()[0])
        else:
            lane = reactor.lanes[0] if reactor.lanes else reactor.lane()
            lane.head()
            lane.send(OK)
            reactor.done(lane)
        assert client.response().status == 200
        front.settle()
    front.connect().send(get("/other"))
    front.settle()
    client.send(get("/elsewhere"))
    assert second.link().head().startswith(b"GET /elsewhere")


# Stalled reactors ---------------------------------------------------------------------------------


def both_stalled(
    start: Start, *, waiting: int = 0, **settings: Any
) -> tuple[Front, StandIn, StandIn]:
    """Return two stalled reactors, with `waiting` requests in the queue."""
    front = start(**settings)
    first, second = front.reactors
    first.stall()
    second.stall()
    for _ in range(waiting):
        front.connect().send(get())
    front.settle()
    assert front.server.dispatcher.waiting == waiting
    return front, first, second


def test_a_stalled_reactor_is_passed_over(start: Start) -> None:
    front = start(capacities=(10, 10))
    first, second = front.reactors
    for _ in range(3):
        front.connect().send(get())
        front.settle()
    second.request()
    assert second.silent
    first.request()
    first.request()
    second.stall()
    for _ in range(3):
        front.connect().send(get("/more"))
        assert first.request()[1].startswith(b"GET /more")
    assert second.silent


def test_if_all_reactors_stall_requests_wait_for_the_first_that_recovers(start: Start) -> None:
    front, first, second = both_stalled(start, capacities=(10, 10))
    clients = [front.connect() for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(get(f"/{number}"))
        front.settle()
    assert first.silent
    assert second.silent
    assert front.server.dispatcher.waiting == 4
    # Half of the queue: the other reactor may recover in a moment.
    second.end_stall(0.002)
    assert [second.request()[1][:6] for _ in range(2)] == [b"GET /0", b"GET /1"]
    assert second.silent
    first.end_stall(0.002)
    assert first.request()[1].startswith(b"GET /2")


def test_after_a_slow_step_unstarted_exchanges_are_limited(start: Start) -> None:
    front, first, second = both_stalled(start, waiting=5, capacities=(100, 100))
    # The first reactor stays stalled.
    second.end_stall(0.05)
    for _ in range(4):
        number, _ = second.request(begin=False)
        second.end_stall(0.0)
        front.settle()
        assert second.silent
        # The app has begun, and may wait for something. Nothing is answered.
        second.begin(number)
        second.end_stall(0.0)
    second.request()
    assert first.silent
    assert front.server.dispatcher.waiting == 0


def test_an_answered_exchange_counts_as_begun(start: Start) -> None:
    front, first, second = both_stalled(start, waiting=5, capacities=(100, 100))
    second.end_stall(0.05)
    for _ in range(5):
        number, _ = second.request(begin=False)
        assert second.silent
        second.begin(number)
        second.reply(number)
        front.settle()
    assert first.silent


def test_an_app_that_is_seldom_slow_gets_many_exchanges_at_once(start: Start) -> None:
    front = start(capacities=(100, 100))
    first, second = front.reactors
    first.stall()
    client = front.connect()
    for _ in range(240):
        client.send(get())
        second.reply(second.request()[0])
        assert client.response().status == 200
    second.stall()
    for _ in range(60):
        front.connect().send(get())
    front.settle()
    # A step of 6 ms, and 240 exchanges: each of them costs 25 us of it.
    second.end_stall(0.006)
    for _ in range(30):
        second.request(begin=False)
    assert second.silent
    assert front.server.dispatcher.waiting == 30


def test_if_all_steps_are_equally_slow_the_next_exchange_waits_in_the_reactor(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the reactor need not idle between two steps. No exchange waits behind a longer step."""
    # The test itself may be held up for a second. No clock may notice.
    monkeypatch.setattr(stall_budget, "STALL_BUDGET_SECONDS", 60.0)
    monkeypatch.setattr(unstarted, "LOOK", 60.0)
    monkeypatch.setattr(dispatcher, "_LOOK_AGAIN", 60.0)
    front, first, second = both_stalled(start, waiting=12, capacities=(100, 100))
    for _ in range(4):
        second.end_stall(5.0)
        # The next request may be here already. It begins after the front end has counted this step.
        front.settle()
        number, _ = second.request()
    # A step of the usual length has begun.
    second.pulse.since[0] = time.monotonic() - 3
    second.say(turn=0.0)
    second.request(begin=False)
    second.request(begin=False)
    assert second.silent
    second.begin(number + 2)
    second.pulse.since[0] = time.monotonic() - 100
    second.say(turn=0.0)
    front.settle()
    assert second.silent
    assert first.silent


def test_the_queue_moves_without_a_message_from_a_reactor(start: Start) -> None:
    front, first, second = both_stalled(start, waiting=2, capacities=(10, 10))
    second.end_stall(0.05)
    number, _ = second.request(begin=False)
    front.settle()
    assert front.server.dispatcher.waiting == 1
    # The reactor sends no message when it begins an exchange.
    second.begin(number)
    # New requests do not put the next try off.
    for _ in range(4):
        front.connect().send(get())
        front.pass_time(0.09)
    second.request()
    assert first.silent


def test_a_single_stalled_reactor_gets_all_exchanges(start: Start) -> None:
    front = start(capacities=(10,))
    (reactor,) = front.reactors
    reactor.stall()
    for _ in range(3):
        front.connect().send(get())
        reactor.request()


def test_if_the_queue_is_full_stalled_reactors_get_the_oldest_exchanges(start: Start) -> None:
    front, first, second = both_stalled(start, capacities=(2, 2), queue_size=1)
    clients = [front.connect() for _ in range(6)]
    for number, client in enumerate(clients):
        client.send(get(f"/{number}"))
        front.settle()
    given = [reactor.request()[1][:6] for reactor in (first, second, first, second)]
    assert given == [b"GET /0", b"GET /1", b"GET /2", b"GET /3"]
    assert front.server.dispatcher.waiting == 1
    assert clients[5].response().status == 503


# Slow requests ------------------------------------------------------------------------------------


def with_slow_route(
    start: Start, *, reactors: int = 2, seconds: float = 0.3, others: int = 20, **settings: Any
) -> tuple[Front, list[StandIn]]:
    """Return reactors after the first one reported /slow, and `others` requests in a second."""
    front = start(capacities=(10,) * reactors, **settings)
    first = front.reactors[0]
    first.say(slow="GET /slow", seconds=seconds)
    front.settle()
    client = front.connect()
    for _ in range(others):
        client.send(get("/fast"))
        first.reply(first.request()[0])
        assert client.response().status == 200
    front.pass_time(1.1)
    return front, front.reactors


def ask(front: Front, path: str) -> Client:
    client = front.connect()
    client.send(get(path))
    front.settle()
    return client


def given(reactor: StandIn) -> str:
    """Return the path of the next request that a reactor was given. It has not begun it."""
    return reactor.request(begin=False)[1].split()[1].decode()


def test_a_slow_request_leaves_one_reactor_to_others(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    ask(front, "/slow?1")
    number, _ = first.request(begin=False)
    ask(front, "/slow?2")
    assert front.server.dispatcher.waiting == 1
    # The first reactor is not stalled yet, but it will be in a moment.
    for _ in range(3):
        ask(front, "/fast")
        assert given(second) == "/fast"
    assert first.silent
    assert second.silent
    first.reply(number)
    assert given(first) == "/slow?2"
    assert front.server.dispatcher.waiting == 0


def test_a_slow_request_waits_if_a_request_of_unknown_route_stalls_a_reactor(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    second.stall()
    ask(front, "/slow")
    assert front.server.dispatcher.waiting == 1
    ask(front, "/fast")
    assert given(first) == "/fast"
    second.end_stall(0.3)
    assert given(second) == "/slow"


def test_all_reactors_but_one_may_have_slow_requests(start: Start) -> None:
    front, (first, second, third) = with_slow_route(start, reactors=3)
    for number in range(3):
        ask(front, f"/slow?{number}")
    assert given(first) == "/slow?0"
    assert given(second) == "/slow?1"
    assert front.server.dispatcher.waiting == 1
    ask(front, "/fast")
    assert given(third) == "/fast"
    assert third.silent


def test_if_too_many_requests_stand_aside_the_oldest_starts(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    for number in range(4):
        ask(front, f"/slow?{number}")
    assert given(first) == "/slow?0"
    assert given(second) == "/slow?1"
    assert front.server.dispatcher.waiting == 2
    assert first.silent
    assert second.silent


def test_slow_requests_start_in_the_order_of_their_arrival(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    for number in range(8):
        ask(front, f"/slow?{number}")
    order = []
    # The last two stand aside. The others are in a reactor or in the queue.
    for _ in range(3):
        for reactor in first, second:
            number, payload = reactor.request()
            order.append(payload.split()[1].decode())
            reactor.reply(number)
            front.settle()
    assert order == [f"/slow?{number}" for number in range(6)]


def test_a_request_that_stood_aside_goes_to_the_end_of_the_queue(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    first.stall()
    second.stall()
    ask(front, "/fast")
    for number in range(3):
        ask(front, f"/slow?{number}")
    # The first of them is in the queue now, because too many stand aside.
    first.end_stall(0.3)
    assert given(first) == "/fast"


def test_without_reactors_the_queue_keeps_its_order(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    for reactor in first, second:
        reactor.die()
        reactor.wait_for_end()
    for number in range(3):
        ask(front, f"/slow?{number}")
    third = front.reactors[2]
    third.ready(capacity=10)
    for number in range(3):
        assert given(third) == f"/slow?{number}"


def test_a_request_stands_aside_for_a_multiple_of_its_own_time(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    first.say(slow="GET /slower", seconds=5.0)
    front.settle()
    first.stall()
    ask(front, "/slower")
    ask(front, "/slow")
    front.pass_time(1.2)
    assert given(second) == "/slow"
    assert front.server.dispatcher.waiting == 1


def test_no_request_stands_aside_for_ever(start: Start) -> None:
    front, (first, second) = with_slow_route(start, seconds=0.3)
    first.stall()
    ask(front, "/slow")
    front.pass_time(0.6)
    front.settle()
    assert second.silent
    front.pass_time(0.6)
    assert given(second) == "/slow"


def test_a_reactor_is_not_avoided_for_longer_than_its_slow_request_takes(start: Start) -> None:
    front, (first, second) = with_slow_route(start, seconds=0.3)
    ask(front, "/slow")
    first.request()
    # Its app waits for something now, and stalls nothing.
    front.pass_time(0.4)
    ask(front, "/fast/1")
    assert given(second) == "/fast/1"
    ask(front, "/fast/2")
    assert given(first) == "/fast/2"


def test_a_dead_reactor_gets_nothing_while_the_service_stops(start: Start) -> None:
    front, (first, second) = with_slow_route(start, seconds=10.0, graceful_timeout=1.0)
    ask(front, "/slow")
    first.request()
    ask(front, "/slow")
    front.signal(signal.SIGTERM)
    front.pass_time(1.5)
    second.die()
    second.wait_for_end()
    # Requests that stand aside are tried again while the other reactor has not ended.
    front.pass_time(0.5)
    assert front.server.dispatcher.reactors == [first.inside]
    assert not [line for line in front.log if "internal error" in line]


def test_with_a_single_reactor_no_request_stands_aside(start: Start) -> None:
    front, (reactor,) = with_slow_route(start, reactors=1)
    for number in range(3):
        ask(front, f"/slow?{number}")
        assert given(reactor) == f"/slow?{number}"


@pytest.mark.parametrize("others", [0, 5])
def test_if_few_requests_are_fast_none_stands_aside(start: Start, others: int) -> None:
    front, (first, second) = with_slow_route(start, others=others)
    ask(front, "/slow?1")
    assert given(first) == "/slow?1"
    ask(front, "/slow?2")
    assert given(second) == "/slow?2"
    # A slow request that was given to a reactor is still expected to stall it.
    ask(front, "/fast")
    assert front.server.dispatcher.waiting == 1


def test_a_reactor_is_not_avoided_once_its_slow_request_has_begun_and_waits(start: Start) -> None:
    front, (first, second) = with_slow_route(start, others=0)
    for number, reactor in enumerate((first, second)):
        ask(front, f"/slow?{number}")
        assert given(reactor) == f"/slow?{number}"
    ask(front, "/fast")
    first.end_stall(0.0)
    front.settle()
    assert front.server.dispatcher.waiting == 1
    first.begin(1)
    first.end_stall(0.0)
    assert given(first) == "/fast"


def test_a_request_whose_client_leaves_stands_aside_no_more(start: Start) -> None:
    front, (first, _) = with_slow_route(start)
    ask(front, "/slow")
    first.request(begin=False)
    client = ask(front, "/slow")
    assert front.server.dispatcher.waiting == 1
    client.close()
    front.settle()
    assert front.server.dispatcher.waiting == 0


def test_a_request_that_stands_aside_counts_for_the_size_of_the_queue(start: Start) -> None:
    front, (first, second) = with_slow_route(start, queue_size=1)
    for number in range(3):
        ask(front, f"/slow?{number}")
    assert given(first) == "/slow?0"
    # It has no place to stand aside, but there is room in a reactor.
    assert given(second) == "/slow?2"
    assert front.server.dispatcher.waiting == 1


def test_a_request_that_stands_aside_too_long_is_rejected(start: Start) -> None:
    front, (first, _) = with_slow_route(start, seconds=10.0, queue_timeout=1.0)
    ask(front, "/slow")
    first.request()
    first.stall()
    client = ask(front, "/slow")
    front.pass_time(2.0)
    assert client.response().status == 503
    front.settle()
    assert front.server.dispatcher.waiting == 0


def test_a_route_that_is_no_longer_slow_does_not_stand_aside(start: Start) -> None:
    front, (first, second) = with_slow_route(start)
    first.say(slow="GET /slow", seconds=0.0)
    front.settle()
    ask(front, "/slow")
    assert given(first) == "/slow"
    ask(front, "/slow")
    assert given(second) == "/slow"


@pytest.mark.parametrize(("every", "aside"), [(0.1, 0), (0.3, 0), (0.5, 1)])
def test_under_a_high_load_of_slow_requests_none_stands_aside(
    start: Start, every: float, aside: int
) -> None:
    """At 0.3 s each they need 3, 1 and 0.6 times the one reactor that may have slow requests."""
    front, (first, second) = with_slow_route(start)
    client = front.connect()
    for _ in range(LOAD_LEAST + 1):
        for path in ("/slow", *["/fast"] * 6):
            client.send(get(path))
            first.reply(first.request()[0])
            assert client.response().status == 200
        first.say(slow="GET /slow", seconds=0.3)
        front.settle()
        front.pass_time(every)
    ask(front, "/slow?1")
    assert given(first) == "/slow?1"
    ask(front, "/slow?2")
    assert front.server.dispatcher.waiting == aside
    assert second.silent == bool(aside)
    decisions = front.server.dispatcher.standby.decisions
    assert bool(decisions.too_much) == (not aside)
    # Their reactor gets as many requests as the others: they do not count as slow.
    assert bool(front.server.dispatcher.standby.expected) == bool(aside)


def test_decisions_are_counted(start: Start) -> None:
    front, _ = with_slow_route(start, seconds=0.3)
    decisions = front.server.dispatcher.standby.decisions
    for number in range(4):
        ask(front, f"/slow?{number}")
    # Two started: the first at once, and the second when too many stood aside.
    assert (decisions.set_aside, decisions.called_up) == (4, 1)
    front.pass_time(1.2)
    assert decisions.called_up == 3
    front.pass_time(1.2)
    ask(front, "/slow")
    assert decisions.not_worth_it == 1


def test_with_set_aside_off_no_request_stands_aside(start: Start) -> None:
    front, (first, second) = with_slow_route(start, set_aside="off")
    ask(front, "/slow?1")
    assert given(first) == "/slow?1"
    ask(front, "/slow?2")
    assert given(second) == "/slow?2"
    # They are not expected to stall their reactors either.
    ask(front, "/fast")
    assert given(first) == "/fast"
