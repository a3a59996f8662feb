"""Reload, replacement and scaling: which reactors serve, and when the others retire."""

from __future__ import annotations

import os
import signal
import time

import pytest

from reactor_run.frontend.loop import signals
from reactor_run.frontend.reactors import cpu_count, generation, recycling
from reactor_run.frontend.reactors import supervisor as supervisor_module
from reactor_run.frontend.reactors.process_usage import cpu_time, resident
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, StandIn, get
from tests.integration.client import Client


def serves(front: Front, reactor: StandIn, client: Client) -> None:
    """Check that a request of `client` goes to `reactor`."""
    client.send(get())
    number, _ = reactor.request()
    reactor.reply(number)
    assert client.response().body == b"ok"


def names(front: Front) -> list[str]:
    return [reactor.name for reactor in front.server.supervisor.serving]


@pytest.fixture(autouse=True)
def cpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Set the number of CPUs. A test may change it."""
    count = {"now": 4}
    for module in supervisor_module, cpu_count, generation:
        monkeypatch.setattr(module, "available_cpus", lambda: count["now"])
    return count


def reload(front: Front) -> None:
    front.signal(signal.SIGHUP)
    front.settle()


# Reload -------------------------------------------------------------------------------------------


def test_requests_go_to_the_next_generation_when_all_of_it_is_ready(start: Start) -> None:
    front = start(capacities=(1, 1))
    old = front.reactors[0]
    client = front.connect()
    serves(front, old, client)
    reload(front)
    first, second = front.reactors[2:]
    serves(front, old, client)
    first.ready()
    front.settle()
    serves(front, old, client)
    second.ready()
    front.settle()
    assert front.server.supervisor.generation == 2
    serves(front, first, client)
    for leaving in front.reactors[:2]:
        assert leaving.hear("stop")["stop"] == pytest.approx(30, abs=2)
        leaving.die()
        leaving.wait_for_end()
    serves(front, first, client)
    assert not any(line.startswith(("error", "warning")) for line in front.log)


@pytest.mark.parametrize(("processors", "at_once"), [(1, 1), (2, 1), (5, 2), (64, 4)])
def test_the_next_generation_starts_on_half_of_the_cpus(
    start: Start, cpus: dict[str, int], processors: int, at_once: int
) -> None:
    front = start(capacities=(1, 1, 1, 1))
    cpus["now"] = processors
    client = front.connect()
    reload(front)
    for ready in range(4):
        assert len(front.reactors) == 4 + min(4, ready + at_once)
        assert front.server.supervisor.generation == 1
        serves(front, front.reactors[0], client)
        front.reactors[4 + ready].ready()
        front.settle()
    assert front.server.supervisor.generation == 2
    assert names(front) == [f"reactor {number}" for number in (5, 6, 7, 8)]


def test_the_start_timeout_counts_from_the_start_of_each_reactor(
    start: Start, cpus: dict[str, int]
) -> None:
    front = start(capacities=(1, 1, 1), start_timeout=5.0)
    cpus["now"] = 1
    reload(front)
    for number in (3, 4):
        front.pass_time(4)
        front.reactors[number].ready()
        front.settle()
    front.pass_time(4)
    front.reactors[5].ready()
    front.settle()
    assert front.server.supervisor.generation == 2


@pytest.mark.parametrize("dies", [3, 4])
def test_if_one_reactor_fails_no_more_of_its_generation_start(
    start: Start, cpus: dict[str, int], dies: int
) -> None:
    """The reactor that fails is still starting, or is ready already."""
    front = start(capacities=(1, 1, 1))
    cpus["now"] = 1
    reload(front)
    front.reactors[3].ready()
    front.settle()
    assert len(front.reactors) == 5
    front.reactors[dies].die()
    front.reactors[dies].wait_for_end()
    front.settle()
    assert front.server.supervisor.reload_failure is not None
    assert not front.server.supervisor.reloading
    assert len(front.reactors) == 5
    assert names(front) == ["reactor 1", "reactor 2", "reactor 3"]
    serves(front, front.reactors[0], front.connect())


def test_if_a_later_reactor_cannot_start_the_old_generation_serves(
    start: Start, cpus: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start(capacities=(1, 1))
    cpus["now"] = 1
    reload(front)

    def refuse(generation: int) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with front.held():
        monkeypatch.setattr(front.server.supervisor, "spawn", refuse)
        front.reactors[2].ready()
    front.settle()
    supervisor = front.server.supervisor
    assert (supervisor.generation, supervisor.reloading) == (1, False)
    assert "cannot start a reactor" in str(supervisor.reload_failure)
    assert "stop" in front.reactors[2].hear("stop")
    serves(front, front.reactors[0], front.connect())


def test_scaling_down_during_a_reload_starts_no_more_than_are_wanted(
    start: Start, cpus: dict[str, int]
) -> None:
    front = start(capacities=(1, 1, 1))
    cpus["now"] = 1
    reload(front)
    for _ in range(2):
        front.signal(signal.SIGTTOU)
        front.settle()
    front.reactors[3].ready()
    front.settle()
    assert names(front) == ["reactor 4"]
    assert len(front.reactors) == 4


def test_old_reactors_finish_their_exchanges(start: Start) -> None:
    front = start()
    old = front.reactors[0]
    client = front.connect()
    client.send(get())
    number, _ = old.request()
    reload(front)
    front.reactors[1].ready()
    front.settle()
    assert old.silent
    other = front.connect()
    serves(front, front.reactors[1], other)
    old.reply(number)
    assert client.response().body == b"ok"
    assert "stop" in old.hear("stop")
    serves(front, front.reactors[1], client)


def test_a_reactor_with_an_unread_answer_is_not_stopped(start_each: Start) -> None:
    front = start_each()
    old = front.reactors[0]
    client = front.connect()
    client.send(get())
    lane = old.link()
    lane.head()
    lane.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok")
    old.done(lane)
    reload(front)
    front.reactors[1].ready()
    front.settle()
    assert old.inside.in_flight == 0
    assert old.silent
    lane.send(b"ay")
    assert client.response().body == b"okay"
    assert "stop" in old.hear("stop")


def test_a_retiring_reactor_is_stopped_after_the_graceful_timeout(start: Start) -> None:
    front = start(graceful_timeout=5.0, replay="off")
    old = front.reactors[0]
    client = front.connect()
    client.send(get())
    old.request()
    reload(front)
    front.reactors[1].ready()
    front.pass_time(7)
    assert old.hear("stop") == {"stop": 1.0}
    front.pass_time(5)
    old.wait_for_end()
    assert client.response().status == 502
    assert any("1 exchanges not finished within the graceful timeout" in line for line in front.log)


def test_a_failure_does_not_say_that_reactors_serve_which_only_start(start: Start) -> None:
    front = start(capacities=(1,))
    (old,) = front.reactors
    reload(front)
    new = front.reactors[1]
    old.die()
    old.wait_for_end()
    front.settle()
    new.say(failed="cannot import 'shop'", details="Traceback: no shop")
    front.settle()
    new.die()
    new.wait_for_end()
    front.settle()
    assert any("RELOAD FAILED" in line and "no generation serves" in line for line in front.log)


def test_if_a_generation_fails_the_old_one_serves(start: Start) -> None:
    front = start(capacities=(1, 1))
    client = front.connect()
    reload(front)
    good, bad = front.reactors[2:]
    good.ready()
    bad.say(failed="cannot import 'shop'", details="Traceback: no shop")
    front.settle()
    bad.die()
    bad.wait_for_end()
    front.settle()
    supervisor = front.server.supervisor
    assert (supervisor.generation, supervisor.reloading) == (1, False)
    assert "cannot import 'shop'" in str(supervisor.reload_failure)
    assert any("RELOAD FAILED: cannot import 'shop'" in line for line in front.log)
    assert "stop" in good.hear("stop")
    serves(front, front.reactors[0], client)
    reload(front)
    for reactor in front.reactors[4:]:
        reactor.ready()
    front.settle()
    assert (supervisor.generation, supervisor.reload_failure) == (2, None)


def test_a_generation_that_is_never_ready_is_given_up(start: Start) -> None:
    front = start(start_timeout=5.0)
    client = front.connect()
    reload(front)
    front.pass_time(7)
    front.reactors[1].wait_for_end()
    assert "--start-timeout" in str(front.server.supervisor.reload_failure)
    serves(front, front.reactors[0], client)


def test_a_second_hup_during_a_reload_starts_another_one_afterwards(start: Start) -> None:
    front = start()
    reload(front)
    reload(front)
    reload(front)
    assert len(front.reactors) == 2
    front.reactors[1].ready()
    front.settle()
    assert len(front.reactors) == 3
    front.reactors[2].ready()
    front.settle()
    assert front.server.supervisor.generation == 3
    assert len(front.reactors) == 3
    serves(front, front.reactors[2], front.connect())


def test_a_second_hup_follows_a_reload_that_failed(start: Start) -> None:
    front = start()
    reload(front)
    reload(front)
    front.reactors[1].die()
    front.reactors[1].wait_for_end()
    front.reactors[2].ready()
    front.settle()
    assert front.server.supervisor.generation == 2


def test_stopping_between_two_starts_of_a_reload_starts_no_more(
    start: Start, cpus: dict[str, int]
) -> None:
    front = start(capacities=(1, 1))
    cpus["now"] = 1
    reload(front)
    front.reactors[2].ready()
    front.settle()
    front.signal(signal.SIGTERM)
    front.reactors[3].wait_for_end()
    for reactor in front.reactors[:3]:
        assert "stop" in reactor.hear("stop")
        reactor.die()
    front.exit()
    assert len(front.reactors) == 4


def test_stopping_during_a_reload_ends_both_generations(start: Start) -> None:
    front = start()
    reload(front)
    front.signal(signal.SIGTERM)
    front.reactors[1].wait_for_end()
    assert "stop" in front.reactors[0].hear("stop")
    front.reactors[0].die()
    front.exit()


def test_a_hup_while_stopping_starts_nothing(start: Start) -> None:
    front = start()
    client = front.connect()
    client.send(get())
    front.reactors[0].request()
    front.signal(signal.SIGTERM)
    reload(front)
    assert len(front.reactors) == 1


def test_a_reactor_that_dies_during_a_reload_is_replaced(start: Start) -> None:
    front = start()
    reload(front)
    front.reactors[0].die()
    front.reactors[0].wait_for_end()
    coming, replacement = front.reactors[1:]
    replacement.ready()
    front.settle()
    client = front.connect()
    serves(front, replacement, client)
    coming.ready()
    front.settle()
    serves(front, coming, client)
    assert "stop" in replacement.hear("stop")


def test_requests_that_wait_go_to_the_next_generation(start: Start) -> None:
    front = start(capacities=(1,))
    busy, waiting = front.connect(), front.connect()
    busy.send(get())
    front.reactors[0].request()
    waiting.send(get())
    front.settle()
    reload(front)
    front.reactors[1].ready()
    number, _ = front.reactors[1].request()
    front.reactors[1].reply(number)
    assert waiting.response().body == b"ok"


def test_a_closed_terminal_ends_the_service(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "has_terminal", lambda: True)
    front = start()
    monkeypatch.setattr(signals, "has_terminal", lambda: False)
    front.signal(signal.SIGHUP)
    assert "stop" in front.reactors[0].hear("stop")
    assert len(front.reactors) == 1


# Replacing ----------------------------------------------------------------------------------------


def test_a_spent_reactor_serves_until_its_successor_is_ready(start: Start) -> None:
    front = start(max_requests=2)
    old = front.reactors[0]
    client = front.connect()
    for _ in range(2):
        serves(front, old, client)
    front.pass_time(2)
    serves(front, old, client)
    front.pass_time(2)
    assert len(front.reactors) == 2
    front.reactors[1].ready()
    front.settle()
    serves(front, front.reactors[1], client)
    assert "stop" in old.hear("stop")
    assert front.server.supervisor.generation == 1


def test_spent_reactors_are_replaced_one_after_another(start: Start) -> None:
    front = start(capacities=(1, 1, 1), max_lifetime=60.0)
    front.pass_time(62)
    assert len(front.reactors) == 4
    for count in range(4, 7):
        assert len(front.reactors) == count
        front.reactors[count - 1].ready()
        front.pass_time(1)
    assert names(front) == ["reactor 4", "reactor 5", "reactor 6"]
    assert len(front.reactors) == 6


def test_a_successor_that_does_not_start_is_tried_again_later(start: Start) -> None:
    front = start(max_lifetime=60.0)
    front.pass_time(62)
    front.reactors[1].die()
    front.reactors[1].wait_for_end()
    assert len(front.reactors) == 2
    serves(front, front.reactors[0], front.connect())
    front.pass_time(3)
    assert len(front.reactors) == 3
    front.reactors[2].ready()
    front.settle()
    assert names(front) == ["reactor 3"]


def test_a_spent_reactor_that_dies_is_replaced_by_its_successor(start: Start) -> None:
    front = start(max_lifetime=60.0)
    front.pass_time(62)
    front.reactors[0].die()
    front.reactors[0].wait_for_end()
    assert names(front) == ["reactor 2"]
    front.reactors[1].ready()
    front.settle()
    serves(front, front.reactors[1], front.connect())
    assert len(front.reactors) == 2


def test_a_reload_replaces_spent_reactors_too(start: Start) -> None:
    front = start(max_lifetime=60.0)
    front.pass_time(62)
    successor = front.reactors[1]
    reload(front)
    front.reactors[2].ready()
    successor.wait_for_end()
    assert names(front) == ["reactor 3"]
    front.pass_time(2)
    assert len(front.reactors) == 3


def test_scaling_down_may_retire_the_spent_reactor(start: Start) -> None:
    front = start(capacities=(1, 1), max_requests=1)
    serves(front, front.reactors[0], front.connect())
    front.pass_time(2)
    front.signal(signal.SIGTTOU)
    front.reactors[2].ready()
    front.settle()
    assert names(front) == ["reactor 3"]
    serves(front, front.reactors[2], front.connect())


def test_a_reactor_beyond_max_rss_is_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"now": 100 << 20}
    monkeypatch.setattr(recycling, "resident", lambda pid: sizes["now"])
    front = start(max_rss=200 << 20)
    front.pass_time(2)
    assert len(front.reactors) == 1
    sizes["now"] = 300 << 20
    front.pass_time(2)
    assert len(front.reactors) == 2
    assert any("it uses 300 MiB of memory" in line for line in front.log)


def test_memory_and_cpu_time_come_from_the_kernel(start: Start) -> None:
    front = start()
    assert 0 < resident(front.reactors[0].inside.pid) < 1 << 30
    assert resident(1 << 30) == 0
    assert 0.0 < cpu_time(os.getpid()) <= time.process_time() + 0.02
    assert cpu_time(1 << 30) == 0.0


def test_jitter_spreads_the_limits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0, 3])
    monkeypatch.setattr("random.randint", lambda least, most: min(next(drawn), most))
    front = start(capacities=(1, 1), max_requests=1, max_requests_jitter=5)
    pid = front.reactors[0].inside.pid
    front.pass_time(2)
    one, other = front.connect(), front.connect()
    one.send(get())
    other.send(get())
    for reactor in front.reactors[:2]:
        number, _ = reactor.request()
        reactor.reply(number)
    assert one.response().body == other.response().body == b"ok"
    front.pass_time(2)
    assert [line for line in front.log if "replacing it" in line] == [
        f"info reactor 1 (pid {pid}): it has served 1 requests, replacing it"
    ]


# Scaling ------------------------------------------------------------------------------------------


def test_ttin_and_ttou_add_and_remove_a_reactor(start: Start) -> None:
    front = start()
    front.signal(signal.SIGTTIN)
    front.settle()
    front.reactors[1].ready()
    front.settle()
    assert names(front) == ["reactor 1", "reactor 2"]
    front.signal(signal.SIGTTOU)
    front.settle()
    assert "stop" in front.reactors[0].hear("stop")
    assert names(front) == ["reactor 2"]
    front.signal(signal.SIGTTOU)
    serves(front, front.reactors[1], front.connect())


def test_scaling_down_retires_unready_reactors_first(start: Start) -> None:
    front = start()
    front.signal(signal.SIGTTIN)
    front.settle()
    front.signal(signal.SIGTTOU)
    front.reactors[1].wait_for_end()
    assert names(front) == ["reactor 1"]


def test_scaling_during_a_reload_holds_for_the_next_generation(start: Start) -> None:
    front = start()
    reload(front)
    front.signal(signal.SIGTTIN)
    front.settle()
    front.reactors[1].ready()
    front.settle()
    assert len(names(front)) == 2
    assert "reactor 2" in names(front)


def test_reactors_auto_follows_the_number_of_cpus(start: Start, cpus: dict[str, int]) -> None:
    cpus["now"] = 1
    front = start(auto=True)
    cpus["now"] = 2
    front.pass_time(12)
    assert len(names(front)) == 2
    front.signal(signal.SIGTTIN)
    front.pass_time(12)
    assert len(names(front)) == 3, "what an operator asked for holds"


# Starting -----------------------------------------------------------------------------------------


def test_a_reactor_that_cannot_start_does_not_end_the_others(start: Start) -> None:
    front = start(capacities=(), count=2)
    bad, good = front.reactors
    bad.say(failed="the database is gone", details=None)
    front.settle()
    bad.die()
    bad.wait_for_end()
    good.ready()
    front.settle()
    serves(front, good, front.connect())
    front.pass_time(3)
    assert len(front.reactors) == 3


def test_if_no_reactor_can_start_the_service_ends_with_the_error_of_the_app(start: Start) -> None:
    front = start(capacities=(), count=2)
    for reactor in front.reactors:
        reactor.say(failed="the database is gone", details=None)
        front.settle()
    for reactor in front.reactors:
        reactor.die()
    with pytest.raises(Exception, match="the database is gone"):
        front.exit()
