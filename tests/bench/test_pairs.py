"""Ratios are taken turn by turn, and a run with errors counts nowhere."""

import pytest

from bench.bars import Bar
from bench.pairs import Comparison, Pair, Run, Turn
from bench.wrk import Result

PAIR = Pair("ours", "peer")


def run(server: str, rate: float, p99: float, *problems: str) -> Run:
    return Run(server, Result(1000, rate, {50.0: 1.0, 99.0: p99}, 0, {}), {}, 0.0, problems)


def turn(number: int, ours: Run, peer: Run) -> Turn:
    return Turn(number, PAIR, ours, peer)


COMPARISON = Comparison(
    turns=[
        turn(1, run("ours", 200, 10), run("peer", 100, 20)),
        turn(2, run("ours", 30, 10), run("peer", 10, 10)),
        turn(3, run("ours", 600, 10), run("peer", 600, 5)),
        turn(4, run("ours", 1, 99, "3 socket errors: read"), run("peer", 900, 1)),
    ]
)


def test_the_ratio_is_the_median_of_the_turns_ratios():
    ratio = COMPARISON.ratio(PAIR, lambda run: run.rate)
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (1, 2, 3)


def test_a_run_with_problems_is_in_no_figure():
    ours = COMPARISON.figure("ours", lambda run: run.rate)
    assert ours is not None
    assert (ours.low, ours.median, ours.high) == (30, 200, 600)


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar(PAIR, "requests/s", 2), True),
        (Bar(PAIR, "requests/s", 2.01), False),
        (Bar(PAIR, "p99", 1), True),
        (Bar(PAIR, "p99", 0.99), False),
        (Bar(Pair("ours", "another"), "requests/s", 1), None),
    ],
)
def test_a_bar_has_its_side(bar, met):
    assert bar.is_met(COMPARISON) is met
