"""Steps that are slow because other processes have interrupted them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from reactor_run.pulse import SLOW, STALL_BUDGET_SECONDS
from reactor_run.reactor.loop.call_loop import CallLoop
from reactor_run.reactor.loop.interruptions import Interruptions

STEP = 0.1
DEADLINE = 30.0


def compute(seconds: float) -> float:
    """Compute for so long, and return how long it was."""
    began = time.monotonic()
    while (took := time.monotonic() - began) < seconds:
        pass
    return took


@pytest.fixture
def shared_cpu() -> Iterator[None]:
    """This process and one that computes share a CPU."""
    allowed = os.sched_getaffinity(0)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for pid in 0, other.pid:
            os.sched_setaffinity(pid, {min(allowed)})
        yield
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, allowed)


def test_an_interrupted_step_counts_by_its_own_cpu_time(shared_cpu: None) -> None:
    interruptions = Interruptions()
    end = time.monotonic() + DEADLINE
    while True:
        interruptions.begin()
        took = compute(STEP)
        if interruptions.own_seconds(took) < took * 0.9:
            break
        assert time.monotonic() < end


def test_a_step_that_computes_counts() -> None:
    interruptions = Interruptions()
    interruptions.begin()
    began = time.thread_time()
    took = compute(STEP)
    burnt = time.thread_time() - began
    assert min(burnt, took) <= interruptions.own_seconds(took) <= took


def test_a_step_that_waits_counts_whole() -> None:
    interruptions = Interruptions()
    interruptions.begin()
    time.sleep(SLOW)
    assert interruptions.own_seconds(STEP) == STEP


def test_without_a_begin_a_step_counts_whole() -> None:
    assert Interruptions().own_seconds(STEP) == STEP


class Measured(Interruptions):
    """Interruptions that take all but a part of each step that has begun."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        self.begun = True

    def own_seconds(self, took: float) -> float:
        return took / 10 if self.begun else took


def test_an_interrupted_step_begins_no_stall_budget() -> None:
    loop = CallLoop()
    loop._interruptions = measured = Measured()
    told: list[float] = []
    loop.on_turn = told.append
    slow = SLOW * 4
    assert loop._stalled(100.0, slow) == slow
    assert loop._stall_budget_until == 100.0 + STALL_BUDGET_SECONDS
    assert loop._watched_until > 101.0
    measured.begin()
    assert loop._stalled(101.0, slow) == 0.0
    assert loop._stall_budget_until == 100.0 + STALL_BUDGET_SECONDS
    assert loop._watched_until > 102.0
    assert told == [slow, slow / 10]
