"""The prefetch of a WSGI reactor, inline and with threads, on clocks of the test's own."""

from __future__ import annotations

import pytest

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor.loop import interruptions
from reactor_run.reactor.wsgi import prefetch as service
from reactor_run.reactor.wsgi.prefetch import (
    BUDGET,
    CALLS,
    PAUSE_FACTOR,
    PAUSE_MAX,
    PREFETCH_MAX,
    SLOW_WITHIN,
    STALLED,
    InlinePrefetch,
    ThreadsPrefetch,
)

QUICK = BUDGET / 100
SLOW = service.SLOW * 1.5


class Thread:
    """The clocks and counters that the kernel shows for a thread that makes calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.burnt = 5.0
        self.sleeps = 7
        monkeypatch.setattr(interruptions, "thread_time", lambda: self.burnt)
        monkeypatch.setattr(interruptions, "_waits", lambda: self.sleeps)
        self.told: list[int] = []
        self.prefetch = InlinePrefetch(self.told.append)

    def call(self, seconds: float, how: str = "burn", count: int = 1) -> None:
        """Make calls in their own batch. They sleep, use the CPU, or wait for it."""
        for _ in range(count):
            self.prefetch.begin_batch()
            self.now += seconds
            if how == "sleep":
                self.sleeps += 1
            elif how == "burn":
                self.burnt += seconds
            if seconds > STALLED_AFTER:
                self.prefetch.long(seconds, self.now)
            else:
                self.prefetch.short(1, seconds, self.now)

    def rest(self, seconds: float) -> None:
        """Let time pass without a call."""
        self.now += seconds


@pytest.fixture
def thread(monkeypatch) -> Thread:
    return Thread(monkeypatch)


def test_there_is_no_prefetch_before_enough_calls(thread):
    thread.call(QUICK, count=CALLS - 1)
    assert thread.told == []
    assert thread.prefetch.capacity == 1
    thread.call(QUICK)
    assert thread.told == [PREFETCH_MAX]


@pytest.mark.parametrize(
    ("share", "capacity"),
    [
        (1000, PREFETCH_MAX),
        (47.5, 16),
        (24.5, 16),
        (23.5, 8),
        (12.5, 8),
        (11.5, 4),
        (6.5, 4),
        (5.5, 2),
        (3.5, 2),
        (2.5, 1),
        (0.6, 1),
    ],
)
def test_a_prefetch_takes_less_than_the_budget_together(thread, share, capacity):
    """`share`: how many calls of this length the budget has room for."""
    thread.call(BUDGET / share, count=CALLS)
    assert thread.prefetch.capacity == capacity
    assert capacity == 1 or capacity * BUDGET / share <= BUDGET


def test_small_changes_change_nothing(thread):
    for share, capacity in [(12.5, 8), (15.5, 8), (17.5, 8), (23.5, 8), (24.5, 16), (16.5, 16)]:
        thread.call(BUDGET / share, count=CALLS)
        assert thread.prefetch.capacity == capacity, share
    assert thread.told == [8, 16]
    thread.call(BUDGET / 15.5, count=CALLS)
    assert thread.told == [8, 16, 8]


@pytest.mark.parametrize("how", ["sleep", "burn"])
def test_two_slow_calls_pause_the_prefetch(thread, how):
    thread.call(QUICK, count=CALLS)
    thread.call(SLOW, how)
    assert thread.prefetch.capacity == PREFETCH_MAX
    thread.rest(SLOW_WITHIN / 2)
    thread.call(SLOW, how)
    assert thread.told == [PREFETCH_MAX, 1]
    # Fast calls do not end the pause.
    thread.call(QUICK, count=CALLS * 10)
    assert thread.prefetch.capacity == 1
    thread.rest(PAUSE_FACTOR * SLOW)
    thread.call(QUICK, count=CALLS)
    assert thread.told == [PREFETCH_MAX, 1, PREFETCH_MAX]


def test_slower_calls_give_a_longer_pause(thread):
    thread.call(QUICK, count=CALLS)
    thread.call(SLOW * 20, "sleep", count=2)
    # A shorter slow call does not shorten the pause.
    thread.call(SLOW, "sleep")
    thread.rest(PAUSE_FACTOR * SLOW * 19)
    thread.call(QUICK, count=CALLS)
    assert thread.told == [PREFETCH_MAX, 1]
    thread.rest(PAUSE_FACTOR * SLOW)
    thread.call(QUICK, count=CALLS)
    assert thread.told == [PREFETCH_MAX, 1, PREFETCH_MAX]


def test_the_pause_is_bounded(thread):
    thread.call(QUICK, count=CALLS)
    thread.call(60.0, "sleep")
    thread.rest(PAUSE_MAX)
    # The slow call still counts for the mean of the next decision.
    thread.call(QUICK, count=CALLS * 2)
    assert thread.told == [PREFETCH_MAX, 1, PREFETCH_MAX]


def test_rare_slow_calls_do_not_pause_the_prefetch(thread):
    thread.call(QUICK, count=CALLS)
    for _ in range(3):
        thread.rest(SLOW_WITHIN * 2)
        thread.call(SLOW, "sleep")
        thread.call(QUICK, count=CALLS - 1)
    assert 1 < thread.prefetch.capacity < PREFETCH_MAX


def test_one_very_slow_call_pauses_the_prefetch_at_once(thread):
    thread.call(QUICK, count=CALLS)
    thread.call(BUDGET * CALLS * 1.01, "sleep")
    assert thread.told == [PREFETCH_MAX, 1]


def test_a_call_that_only_waited_for_the_cpu_does_not_count(thread):
    thread.call(QUICK, count=CALLS)
    thread.call(1.0, "wait", count=CALLS)
    thread.call(QUICK, count=CALLS)
    assert thread.told == [PREFETCH_MAX]


def test_time_between_batches_does_not_count(thread):
    for _ in range(CALLS):
        thread.rest(1.0)
        thread.call(QUICK)
    assert thread.told == [PREFETCH_MAX]


def test_the_calls_of_one_batch_are_counted_together(thread):
    thread.prefetch.begin_batch()
    thread.prefetch.short(CALLS - 1, QUICK * (CALLS - 1), thread.now)
    assert thread.told == []
    thread.prefetch.short(CALLS, QUICK * CALLS, thread.now)
    assert thread.told == [PREFETCH_MAX]


def test_a_batch_of_long_calls_alone_has_no_others_to_count(thread):
    thread.prefetch.begin_batch()
    thread.prefetch.short(0, 0.0, thread.now)
    assert thread.told == []


# Threads ------------------------------------------------------------------------------------------


class Threads:
    """Four threads, and the loop that gives them exchanges."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(service, "perf_counter", lambda: self.now)
        self.told: list[int] = []
        self.prefetch = ThreadsPrefetch(self.told.append, 4)

    def end(self, took: float) -> None:
        """A thread has been busy for so long with an exchange, which the loop hears of now."""
        self.prefetch.moved_at = self.now
        self.prefetch.ended(took)

    def call(self, seconds: float, count: int = 1) -> None:
        """Calls by one thread, one after the other."""
        for _ in range(count):
            self.prefetch.given()
            self.now += seconds
            self.end(seconds)


@pytest.fixture
def threads(monkeypatch) -> Threads:
    return Threads(monkeypatch)


@pytest.mark.parametrize("share", [0.6, 3.5, 7.5])
def test_the_number_of_threads_is_the_least_capacity(threads, share):
    threads.call(BUDGET / share, count=CALLS * 2)
    assert threads.prefetch.capacity == 4
    assert threads.told == []


def test_threads_get_a_prefetch_for_fast_calls(threads):
    threads.call(BUDGET / 24.5, count=CALLS)
    threads.call(QUICK, count=CALLS)
    assert threads.told == [16, PREFETCH_MAX]


def test_two_slow_calls_pause_the_prefetch_of_threads(threads):
    threads.call(QUICK, count=CALLS)
    threads.call(SLOW, count=2)
    threads.call(QUICK, count=CALLS * 10)
    assert threads.told == [PREFETCH_MAX, 4]
    threads.now += PAUSE_FACTOR * SLOW
    threads.call(QUICK, count=CALLS)
    assert threads.told == [PREFETCH_MAX, 4, PREFETCH_MAX]


def test_a_prefetch_pauses_while_all_threads_are_stuck(threads):
    threads.call(QUICK, count=CALLS)
    for _ in range(6):
        threads.prefetch.given()
    threads.now += STALLED / 2
    threads.prefetch.given()
    assert threads.prefetch.capacity == PREFETCH_MAX
    threads.now += STALLED
    threads.prefetch.given()
    assert threads.told == [PREFETCH_MAX, 4]


def test_the_pause_after_stuck_threads_is_bounded(threads):
    threads.call(QUICK, count=CALLS)
    for _ in range(4):
        threads.prefetch.given()
    threads.now += 60.0
    threads.prefetch.given()
    assert threads.told == [PREFETCH_MAX, 4]
    threads.now += PAUSE_MAX
    for _ in range(5):
        threads.end(QUICK)
    threads.call(QUICK, count=CALLS)
    assert threads.told == [PREFETCH_MAX, 4, PREFETCH_MAX]


def test_threads_are_not_stuck_if_one_becomes_free(threads):
    threads.call(QUICK, count=CALLS)
    for _ in range(6):
        threads.prefetch.given()
    for _ in range(10):
        threads.now += STALLED * 0.75
        # The thread sets this itself, before the loop notices it.
        threads.prefetch.moved_at = threads.now
        threads.prefetch.given()
    assert threads.told == [PREFETCH_MAX]


def test_idle_threads_are_not_stuck(threads):
    threads.call(QUICK, count=CALLS)
    threads.now += 60
    for _ in range(8):
        threads.prefetch.given()
    assert threads.told == [PREFETCH_MAX]
