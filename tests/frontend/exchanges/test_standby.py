"""How much time slow exchanges ask for, as the front end reckons it."""

from __future__ import annotations

from reactor_run.frontend.exchanges.standby import LOAD_LEAST, LOAD_OF, Load


def test_it_is_unknown_before_some_have_come() -> None:
    load = Load()
    for number in range(LOAD_LEAST - 1):
        load.add(1.0, 100.0 + number)
    assert load.at(200.0) == 0.0
    load.add(1.0, 200.0)
    assert load.at(200.0) > 0.0


def test_it_is_the_seconds_that_they_take_in_each_second() -> None:
    load = Load()
    for number in range(3 * LOAD_OF):
        load.add(0.05, 100.0 + number / 10)
    assert 0.45 < load.at(100.0 + 3 * LOAD_OF / 10) < 0.55


def test_what_came_long_ago_counts_less_and_less() -> None:
    load = Load()
    for number in range(LOAD_OF):
        load.add(1.0, 100.0 + number)
    assert load.at(100.0 + LOAD_OF) > 0.9
    assert load.at(100.0 + 100 * LOAD_OF) < 0.02
    for number in range(LOAD_OF):
        load.add(0.001, 10_000.0 + number)
    assert load.at(10_000.0 + LOAD_OF) < 0.002


def test_all_at_once_is_too_much_for_any_number_of_reactors() -> None:
    load = Load()
    for _ in range(LOAD_LEAST):
        load.add(0.05, 100.0)
    assert load.at(100.0) > 100.0
