"""The stall budget: how many unstarted exchanges a reactor may hold after slow steps."""

from __future__ import annotations

import pytest

from reactor_run.frontend.reactors.stall_budget import AHEAD, REMEMBERED, StallBudget
from reactor_run.pulse import SLOW, STALL_BUDGET_SECONDS


def room(budget: StallBudget, now: float) -> int:
    """Return how many unstarted exchanges the budget allows; 9999: any number."""
    if now > budget.until:
        return 9999
    return next((more for more in range(9999) if not budget.allows(more)), 9999)


def after(every: int, seconds: float, times: int = 1) -> int:
    """Return the room after `times` slow steps, each one `every` exchanges after the last."""
    budget = StallBudget()
    for number in range(1, times + 1):
        budget.turned(seconds, number * every, 10.0)
    return room(budget, 10.0)


def test_there_is_no_budget_at_the_start() -> None:
    assert room(StallBudget(), 1.0) == 9999


def test_the_budget_ends() -> None:
    budget = StallBudget()
    budget.turned(0.05, 0, 10.0)
    assert room(budget, 10.0 + STALL_BUDGET_SECONDS) == 1
    assert room(budget, 10.1 + STALL_BUDGET_SECONDS) == 9999


def test_a_fast_step_sets_no_budget() -> None:
    budget = StallBudget()
    budget.turned(SLOW, 0, 10.0)
    assert room(budget, 10.0) == 9999


@pytest.mark.parametrize(
    ("every", "seconds", "expected"),
    [(1, 0.05, 1), (20, 0.05, 1), (80, 0.05, 4), (400, 0.05, 20), (400, 0.01, 100)],
)
def test_the_budget_is_smaller_the_more_slow_steps_cost(
    every: int, seconds: float, expected: int
) -> None:
    assert after(every, seconds) == expected
    assert after(every, seconds, times=8) == pytest.approx(expected, abs=1)


def alike(*steps: float, every: int = 1) -> StallBudget:
    """Return the budget after these steps, each one `every` exchanges after the last."""
    budget = StallBudget()
    for number, seconds in enumerate(steps, 1):
        budget.turned(seconds, number * every, 10.0)
    return budget


def test_if_all_steps_are_alike_some_exchanges_may_wait_behind_each() -> None:
    budget = alike(*[0.006] * 5)
    assert room(budget, 10.0) == AHEAD
    assert budget.usual == pytest.approx(0.0075, rel=0.01)


@pytest.mark.parametrize(
    "budget",
    [
        pytest.param(alike(0.006), id="one tells nothing"),
        pytest.param(alike(*[0.006] * 5, every=2), id="every other is slow"),
        pytest.param(alike(*[0.006] * 5, 3.0), id="the last was a stall"),
        pytest.param(alike(*[0.006] * 5, 3.0, 0.006, 0.006), id="one was a stall lately"),
        pytest.param(alike(*[0.006, 0.03] * 3), id="they differ"),
    ],
)
def test_if_steps_differ_no_exchange_waits_behind_a_slow_one(budget: StallBudget) -> None:
    assert budget.usual == 0.0
    assert room(budget, 10.0) == 1


def test_steps_count_as_alike_again_some_time_after_a_stall() -> None:
    assert alike(3.0, *[0.006] * 20).usual == pytest.approx(0.0075, rel=0.01)


def test_the_budget_follows_an_app_that_becomes_slow() -> None:
    budget = StallBudget()
    budget.turned(0.05, 1_000_000, 10.0)
    assert room(budget, 10.0) == REMEMBERED // 20
    for number in range(1, 7):
        budget.turned(0.05, 1_000_000 + number * 20, 10.0)
    assert room(budget, 10.0) <= 2
