"""Yields of the CPU: the loop yields only while the other processes give the CPU back soon."""

from __future__ import annotations

import pytest

from reactor_run import turns
from reactor_run.turns import Turns


class Processor:
    """A clock, and another process that takes `seconds` of each yield."""

    def __init__(self) -> None:
        self.now = 100.0
        self.seconds = 0.0
        self.given = 0

    def monotonic(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.given += 1
        self.now += self.seconds


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    processor = Processor()
    monkeypatch.setattr(turns, "monotonic", processor.monotonic)
    monkeypatch.setattr("os.sched_yield", processor.sched_yield)
    return processor


@pytest.mark.parametrize(("seconds", "another"), [(0.000001, False), (0.0005, True)])
def test_it_tells_whether_another_process_ran(
    processor: Processor, seconds: float, another: bool
) -> None:
    processor.seconds = seconds
    assert Turns().give() is another


def test_after_a_process_that_computes_the_loop_does_not_yield_for_a_while(
    processor: Processor,
) -> None:
    given = Turns()
    processor.seconds = 0.004
    assert given.give()
    assert not any(given.give() for _ in range(10))
    assert processor.given == 1
    processor.now += 1.0
    assert given.give()
    assert processor.given == 2


def test_short_turns_are_given_again_and_again(processor: Processor) -> None:
    processor.seconds = 0.0005
    given = Turns()
    assert all(given.give() for _ in range(10))


def test_with_little_to_do_the_turn_is_given_before_the_wait(processor: Processor) -> None:
    processor.seconds = 0.0005
    turns = Turns()
    for _ in range(3):
        before = processor.given
        turns.before_wait()
        assert processor.given == before + 1
        assert not turns.after_wait(2)
        assert processor.given == before + 1


def test_with_much_to_do_it_is_given_after_the_wait(processor: Processor) -> None:
    processor.seconds = 0.0005
    turns = Turns()
    turns.after_wait(3)
    for _ in range(3):
        before = processor.given
        turns.before_wait()
        assert processor.given == before
        assert turns.after_wait(3)
        assert processor.given == before + 1
    assert not turns.after_wait(0), "there is nothing to add to"
    assert not turns.after_wait(3), "there was nothing to do before"


def test_enough_events_are_taken_as_they_are(processor: Processor) -> None:
    turns = Turns()
    turns.after_wait(3)
    assert not turns.after_wait(32)
    assert processor.given == 0


def test_it_does_not_ask_again_if_no_other_process_ran(processor: Processor) -> None:
    processor.seconds = 0.000001
    turns = Turns()
    turns.after_wait(3)
    assert not turns.after_wait(3)


def test_a_process_that_is_switched_off_gives_no_turn(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_never", False)
    turns.switch_off()
    off = Turns()
    processor.seconds = 0.0005
    assert not off.give()
    assert off.paused
    assert not off.after_wait(10)
    assert processor.given == off.given == 0


def test_it_counts_turns_and_those_that_took_too_long(processor: Processor) -> None:
    given = Turns()
    given.give()
    processor.seconds = 0.004
    given.give()
    given.give()
    assert (given.given, given.pauses) == (2, 1)
