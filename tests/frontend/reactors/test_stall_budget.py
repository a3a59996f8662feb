"""How much a reactor is given at once, by how often its app is slow, and how slow."""

from __future__ import annotations

import pytest

from reactor_run.frontend.reactors.stall_budget import AHEAD, REMEMBERED, Trust
from reactor_run.pulse import SLOW, STALL_BUDGET_SECONDS


def room(trust: Trust, now: float) -> int:
    """How many it may have that have not begun, up to 9999."""
    if now > trust.until:
        return 9999
    return next((more for more in range(9999) if not trust.allows(more)), 9999)


def after(every: int, seconds: float, times: int = 1) -> int:
    """Its room after so many steps so slow, each with so many exchanges before it."""
    trust = Trust()
    for number in range(1, times + 1):
        trust.turned(seconds, number * every, 10.0)
    return room(trust, 10.0)


def test_nobody_is_distrusted_from_the_start() -> None:
    assert room(Trust(), 1.0) == 9999


def test_distrust_ends() -> None:
    trust = Trust()
    trust.turned(0.05, 0, 10.0)
    assert room(trust, 10.0 + STALL_BUDGET_SECONDS) == 1
    assert room(trust, 10.1 + STALL_BUDGET_SECONDS) == 9999


def test_a_step_that_is_not_slow_makes_nobody_distrusted() -> None:
    trust = Trust()
    trust.turned(SLOW, 0, 10.0)
    assert room(trust, 10.0) == 9999


@pytest.mark.parametrize(
    ("every", "seconds", "expected"),
    [(1, 0.05, 1), (20, 0.05, 1), (80, 0.05, 4), (400, 0.05, 20), (400, 0.01, 100)],
)
def test_the_more_slow_steps_cost_each_exchange_the_less_it_is_given(
    every: int, seconds: float, expected: int
) -> None:
    assert after(every, seconds) == expected
    assert after(every, seconds, times=8) == pytest.approx(expected, abs=1)


def alike(*steps: float, every: int = 1) -> Trust:
    """What is known after these steps, with so many exchanges for each."""
    trust = Trust()
    for number, seconds in enumerate(steps, 1):
        trust.turned(seconds, number * every, 10.0)
    return trust


def test_where_all_steps_are_alike_some_may_wait_behind_each() -> None:
    trust = alike(*[0.006] * 5)
    assert room(trust, 10.0) == AHEAD
    assert trust.usual == pytest.approx(0.0075, rel=0.01)


@pytest.mark.parametrize(
    "trust",
    [
        pytest.param(alike(0.006), id="one tells nothing"),
        pytest.param(alike(*[0.006] * 5, every=2), id="every other is slow"),
        pytest.param(alike(*[0.006] * 5, 3.0), id="the last was a stall"),
        pytest.param(alike(*[0.006] * 5, 3.0, 0.006, 0.006), id="one was a stall lately"),
        pytest.param(alike(*[0.006, 0.03] * 3), id="they differ"),
    ],
)
def test_else_none_waits_behind_a_slow_step(trust: Trust) -> None:
    assert trust.usual == 0.0
    assert room(trust, 10.0) == 1


def test_after_a_stall_they_are_alike_again_some_time() -> None:
    assert alike(3.0, *[0.006] * 20).usual == pytest.approx(0.0075, rel=0.01)


def test_an_app_that_becomes_slow_is_known_soon() -> None:
    trust = Trust()
    trust.turned(0.05, 1_000_000, 10.0)
    assert room(trust, 10.0) == REMEMBERED // 20
    for number in range(1, 7):
        trust.turned(0.05, 1_000_000 + number * 20, 10.0)
    assert room(trust, 10.0) <= 2
