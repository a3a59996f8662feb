"""When the loop polls for the next event instead of sleeping."""

from __future__ import annotations

import pytest

from reactor_run.frontend.loop import busy_poll as module
from reactor_run.frontend.loop.busy_poll import LOOK, PAUSE, SURE, BusyPoll, Events
from reactor_run.turns import Turns

CLIENT: Events = [(7, 1)]
REACTOR: Events = [(5, 1)]
OTHER: Events = [(8, 1)]


class Clock:
    """A clock that goes on by a step whenever it is read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = LOOK / 10

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Poll:
    """Finds nothing so many times, then an event."""

    def __init__(self, empty: int) -> None:
        self.empty = empty
        self.calls = 0

    def __call__(self, seconds: int) -> Events:
        assert seconds == 0
        self.calls += 1
        return CLIENT if self.calls > self.empty else []


class FakeTurns(Turns):
    given = 0
    paused = False

    def give(self) -> bool:
        self.given += 1
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def feed(
    busy_poll: BusyPoll, *batches: Events, start: float = 1000.0, gap: float = PAUSE / 10
) -> float:
    for events in batches:
        start += gap
        busy_poll.saw(events, start)
    return start


def due() -> BusyPoll:
    busy_poll = BusyPoll()
    feed(busy_poll, *[CLIENT, REACTOR] * SURE)
    assert busy_poll.due
    return busy_poll


def test_it_is_due_after_a_while_of_one_client_and_its_reactor() -> None:
    busy_poll = BusyPoll()
    at = feed(busy_poll, *[CLIENT, REACTOR] * (SURE // 2), CLIENT)
    assert not busy_poll.due
    feed(busy_poll, REACTOR, start=at)
    assert busy_poll.due


@pytest.mark.parametrize(
    "batch", [OTHER, CLIENT + OTHER, [], [(7, 5)]], ids=["other", "several", "none", "other-events"]
)
def test_any_other_event_ends_it(batch: Events) -> None:
    busy_poll = due()
    feed(busy_poll, batch, start=1001.0)
    assert not busy_poll.due


def test_several_events_are_never_expected_however_regular() -> None:
    busy_poll = BusyPoll()
    feed(busy_poll, *[CLIENT + OTHER, REACTOR] * SURE)
    assert not busy_poll.due


def test_two_clients_in_turn_do_not_make_it_due() -> None:
    busy_poll = BusyPoll()
    feed(busy_poll, *[CLIENT, REACTOR, OTHER, REACTOR] * SURE)
    assert not busy_poll.due


def test_a_client_that_pauses_does_not_make_it_due() -> None:
    busy_poll = BusyPoll()
    feed(busy_poll, *[CLIENT, REACTOR] * SURE, gap=2 * PAUSE)
    assert not busy_poll.due


def test_an_event_during_a_poll_is_found_and_the_cpu_is_yielded(clock: Clock) -> None:
    busy_poll, turns, poll = due(), FakeTurns(), Poll(3)
    assert busy_poll.look(poll, turns) == CLIENT
    assert turns.given == 3
    assert busy_poll.due


def test_an_event_that_is_ready_costs_one_look(clock: Clock) -> None:
    poll = Poll(0)
    assert due().look(poll, FakeTurns()) == CLIENT
    assert poll.calls == 1


def test_it_looks_in_vain_only_once(clock: Clock) -> None:
    busy_poll, poll = due(), Poll(1000)
    assert busy_poll.look(poll, FakeTurns()) == []
    assert clock.now <= 1000 + 2 * LOOK
    assert 5 < poll.calls < 20
    assert not busy_poll.due


def test_it_stops_while_the_loop_does_not_yield(clock: Clock) -> None:
    busy_poll, turns, poll = due(), FakeTurns(), Poll(5)
    turns.paused = True
    assert busy_poll.look(poll, turns) == []
    assert poll.calls == 1
    assert not busy_poll.due


def test_it_is_never_due_when_switched_off() -> None:
    busy_poll = BusyPoll(on=False)
    feed(busy_poll, *[CLIENT, REACTOR] * SURE)
    assert not busy_poll.due


def test_it_counts_the_polls_that_found_an_event_and_those_that_did_not(clock: Clock) -> None:
    busy_poll = due()
    busy_poll.look(Poll(3), FakeTurns())
    busy_poll.look(Poll(1000), FakeTurns())
    assert (busy_poll.found, busy_poll.missed) == (1, 1)
