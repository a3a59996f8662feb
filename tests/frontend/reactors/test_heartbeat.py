"""Stalled reactors: how they are detected, and what happens to their exchanges."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from reactor_run.protocol.express import ANSWER
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import replacement
from tests.frontend.standin import OK, Front, StandIn, get, post


def beat(front: Front, times: int = 1) -> None:
    """Let beats of a --timeout of 40 seconds pass, and a bit more: deadlines are coarse."""
    for reactor in front.reactors:
        reactor.fall_asleep()
    for _ in range(times):
        front.pass_time(12)


def pong(reactor: StandIn) -> None:
    reactor.say(pong=reactor.hear("ping")["ping"])


def end_of(reactor: StandIn, front: Front) -> None:
    """Let the time for its stacks pass, and wait until it is killed."""
    front.pass_time(3)
    reactor.wait_for_end()


def test_a_reactor_that_answers_pings_stays(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    for _ in range(10):
        beat(front)
        pong(reactor)
    assert front.reactors == [reactor]
    assert reactor.silent


def test_a_reactor_that_does_not_answer_is_killed_and_replaced(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    beat(front, 4)
    pid = reactor.inside.pid
    reactor.hear("ping")
    assert reactor.silent
    beat(front)
    assert any(f"reactor 1 (pid {pid}): no answer to a ping for 40 s" in line for line in front.log)
    end_of(reactor, front)
    assert any(f"reactor 1 (pid {pid}) was killed by signal 9" in line for line in front.log)
    assert replacement(front).inside.pid != pid


def test_an_answer_at_the_last_moment_counts(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    for _ in range(3):
        beat(front, 4)
        pong(reactor)
        front.settle()
    assert front.reactors == [reactor]


def test_a_front_end_that_was_stopped_itself_kills_no_reactor(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    beat(front)
    front.pass_time(10_000)
    pong(reactor)
    beat(front, 3)
    assert front.reactors == [reactor]


def test_without_a_timeout_no_reactor_gets_pings(start: Start) -> None:
    front = start(timeout=0.0)
    front.pass_time(1000)
    assert front.reactors[0].silent


def test_a_reactor_that_answers_no_ping_gets_nothing_while_there_are_others(start: Start) -> None:
    front = start(timeout=40.0, capacities=(10, 10))
    first, second = front.reactors
    beat(front, 2)
    pong(second)
    front.settle()
    clients = [front.connect() for _ in range(4)]
    for client in clients[:2]:
        client.send(get())
        second.reply(second.request()[0])
        assert client.response().status == 200
    pong(first)
    front.settle()
    for client in clients[2:]:
        client.send(get())
        front.settle()
    assert first.request()
    assert second.request()


def test_if_no_reactor_answers_all_of_them_get_exchanges(start: Start) -> None:
    front = start(timeout=40.0, capacities=(10, 10))
    beat(front, 2)
    for client in [front.connect() for _ in range(4)]:
        client.send(get())
    front.settle()
    assert sum(not reactor.silent for reactor in front.reactors) == 2
    assert sum(r.inside.in_flight for r in front.reactors) == 4


def test_if_the_last_answering_reactor_dies_the_doubted_one_gets_exchanges(
    start: Start,
) -> None:
    front = start(timeout=40.0, capacities=(10, 10))
    first, second = front.reactors
    beat(front, 2)
    pong(second)
    front.settle()
    second.die()
    front.settle()
    front.connect().send(get())
    assert first.request()


def test_doubting_a_reactor_twice_changes_nothing(start: Start) -> None:
    """A doubted inline reactor may work again, and then leave another ping unanswered."""
    front = start(capacities=(1, 1))
    dispatcher = front.server.dispatcher
    first, second = (reactor.inside for reactor in front.reactors)
    for _ in range(2):
        front.call(lambda: dispatcher.doubt(first))
        assert (dispatcher.reactors, dispatcher.doubted) == ([second], [first])
    for _ in range(2):
        front.call(lambda: dispatcher.trust(first))
        assert (dispatcher.reactors, dispatcher.doubted) == ([second, first], [])


# Exchanges of a stalled reactor -------------------------------------------------------------------


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_exchanges_of_a_stalled_reactor_are_named_and_retried(start: Start, lanes: str) -> None:
    front = start(timeout=40.0, lanes=lanes)
    (reactor,) = front.reactors
    beat(front)
    pong(reactor)
    before, after, later = (front.connect() for _ in range(3))
    before.send(get("/before"))
    if lanes == "express":
        reactor.request()
    else:
        reactor.lane().head()
    beat(front)
    after.send(get("/after"))
    later.send(post(b"x", path="/later"))
    beat(front, 4)
    assert any("1 begun exchanges: GET /before" in line for line in front.log)
    end_of(reactor, front)
    second = replacement(front)
    requests = (get("/before"), get("/after"), post(b"x", path="/later"))
    for client, request in zip((before, after, later), requests, strict=True):
        if lanes == "express":
            number, payload = second.request()
            assert payload == request
            second.reply(number)
        else:
            lane = second.lane()
            assert request.startswith(lane.head())
            lane.send(OK)
        assert client.response().status == 200


def test_a_retiring_reactor_that_stalls_is_detected_too(start: Start) -> None:
    front = start(timeout=40.0, graceful_timeout=1000.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/stuck"))
    front.settle()
    front.signal(signal.SIGHUP)
    front.settle()
    second = front.reactors[1]
    second.ready()
    front.settle()
    for _ in range(6):
        beat(front)
        pong(second)
        front.settle()
    end_of(reactor, front)
    number, payload = second.request()
    assert payload == get("/stuck")
    second.reply(number)
    assert client.response().status == 200


def test_an_exchange_that_was_never_sent_is_not_blamed(start: Start) -> None:
    """The reactor reads nothing. Its lane is full, so a POST still waits in the front end."""
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    for _ in range(100):
        front.connect().send(post(b"x" * 60_000))
    front.settle()
    last = front.connect()
    last.send(post(b"last"))
    front.settle()
    beat(front, 5)
    end_of(reactor, front)
    second = replacement(front)
    payload = b""
    while payload != post(b"last"):
        number, payload = second.request()
        second.reply(number)
        front.settle()
    assert last.response().status == 200


def test_an_exchange_that_was_answered_meanwhile_is_not_blamed(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    beat(front)
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    beat(front, 4)
    assert not any("begun exchanges" in line for line in front.log)
    end_of(reactor, front)


# WSGI inline --------------------------------------------------------------------------------------


Inline = Callable[..., tuple[Front, StandIn]]


@pytest.fixture
def inline(start: Start) -> Inline:
    def begin(**options: object) -> tuple[Front, StandIn]:
        front = start(capacities=(), interface="wsgi", timeout=40.0, **options)
        (reactor,) = front.reactors
        reactor.ready(4, "wsgi", inline=True)
        front.settle()
        return front, reactor

    return begin


def test_the_app_of_an_inline_reactor_may_run_longer_than_the_timeout(inline: Inline) -> None:
    front, reactor = inline()
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    beat(front, 20)
    reactor.reply(number)
    assert client.response().status == 200


def test_an_idle_inline_reactor_gets_pings(inline: Inline) -> None:
    front, reactor = inline()
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    beat(front, 10)
    reactor.reply(number)
    assert client.response().status == 200
    beat(front, 6)
    end_of(reactor, front)


def test_an_inline_app_that_runs_on_after_its_answer_is_limited(inline: Inline) -> None:
    front, reactor = inline()
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    reactor.reply(number, OK, ANSWER)
    assert client.response().status == 200
    beat(front, 6)
    end_of(reactor, front)


@pytest.mark.parametrize("request_", [get(), post(b"x")], ids=["GET", "POST"])
@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_an_inline_reactor_that_begins_nothing_is_killed(
    inline: Inline, lanes: str, request_: bytes
) -> None:
    """No app runs, so its loop should turn. Other limits do not hold before an app has begun."""
    front, reactor = inline(request_timeout=10.0, lanes=lanes)
    client = front.connect()
    client.send(request_)
    front.settle()
    beat(front, 6)
    assert any("no answer to a ping for 40 s" in line for line in front.log)
    end_of(reactor, front)
    second = replacement(front)
    link = second.link()
    assert request_.startswith(link.head())
    link.send(OK)
    assert client.response().status == 200


def test_an_inline_reactor_that_takes_too_long_is_killed(inline: Inline) -> None:
    """--request-timeout ends it. Requests that wait behind are retried, as after any death."""
    front, reactor = inline(request_timeout=10.0)
    client, get_behind, post_behind = (front.connect() for _ in range(3))
    client.send(get("/slow"))
    reactor.request()
    front.pass_time(8)
    get_behind.send(get("/behind"))
    post_behind.send(post(b"x"))
    front.pass_time(4)
    assert client.response().status == 504
    assert any("GET /slow took too long in reactor 1" in line for line in front.log)
    assert any("GET /slow takes too long, killing it" in line for line in front.log)
    end_of(reactor, front)
    front.settle()
    second = front.reactors[-1]
    second.ready(1, "wsgi", inline=True)
    for behind, request in (get_behind, get("/behind")), (post_behind, post(b"x")):
        number, payload = second.request()
        assert payload == request
        second.reply(number)
        assert behind.response().status == 200


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_exchanges_behind_an_endless_call_are_not_blamed(inline: Inline, lanes: str) -> None:
    """The reactor got them at the same time. They have no timeout while they wait."""
    front, reactor = inline(request_timeout=10.0, lanes=lanes)
    slow, *behind = (front.connect() for _ in range(4))
    slow.send(get("/slow"))
    front.settle()
    for client in behind:
        client.send(post(b"x", path="/behind"))
    front.settle()
    if lanes == "express":
        reactor.request()
    else:
        reactor.lane().head()
    for _ in range(13):
        front.pass_time(1)
    assert slow.response().status == 504
    assert not any("/behind" in line for line in front.log)
    end_of(reactor, front)
    front.settle()
    second = front.reactors[-1]
    second.ready(4, "wsgi", inline=True)
    for client in behind:
        if lanes == "express":
            second.reply(second.request()[0])
        else:
            lane = second.lane()
            lane.head()
            lane.send(OK)
        assert client.response().status == 200


def test_the_request_timeout_begins_when_the_app_begins(inline: Inline) -> None:
    """It does not begin when the reactor gets the request: the call before it takes time too."""
    front, reactor = inline(request_timeout=10.0)
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    number, _ = reactor.request()
    second.send(get("/second"))
    behind, _ = reactor.request(begin=False)
    for _ in range(9):
        front.pass_time(1)
    reactor.reply(number)
    assert first.response().status == 200
    reactor.begin(behind)
    for _ in range(9):
        front.pass_time(1)
    assert front.silent(second)
    front.pass_time(2)
    assert second.response().status == 504
    end_of(reactor, front)


def test_no_beat_counts_while_the_app_uses_the_terminal(start: Start) -> None:
    front = start(timeout=40.0)
    (reactor,) = front.reactors
    beat(front, 3)
    reactor.say(terminal=True)
    front.settle()
    beat(front, 20)
    assert reactor.inside.at_terminal
    reactor.say(terminal=False)
    front.settle()
    beat(front, 3)
    assert front.reactors == [reactor]
    beat(front, 2)
    assert any("no answer to a ping for 40 s" in line for line in front.log)
    end_of(reactor, front)


def test_a_start_takes_as_long_as_the_app_uses_the_terminal(start: Start) -> None:
    front = start(capacities=(), start_timeout=5.0)
    (reactor,) = front.reactors
    reactor.say(terminal=True)
    front.settle()
    front.pass_time(100)
    reactor.say(terminal=False)
    front.settle()
    reactor.ready()
    front.settle()
    assert front.reactors == [reactor]
    assert not any(line.startswith("error") for line in front.log)
