"""The load of slow exchanges: the time of reactors that they need."""

from __future__ import annotations

from reactor_run.frontend.exchanges.standby import LOAD_LEAST, LOAD_OF, Load


def test_the_load_is_unknown_before_enough_arrivals() -> None:
    load = Load()
    for number in range(LOAD_LEAST - 1):
        load.add(1.0, 100.0 + number)
    assert load.at(200.0) == 0.0
    load.add(1.0, 200.0)
    assert load.at(200.0) > 0.0


def test_the_load_is_the_seconds_needed_per_second() -> None:
    load = Load()
    for number in range(3 * LOAD_OF):
        load.add(0.05, 100.0 + number / 10)
    assert 0.45 < load.at(100.0 + 3 * LOAD_OF / 10) < 0.55


def test_the_load_forgets_old_arrivals() -> None:
    load = Load()
    for number in range(LOAD_OF):
        load.add(1.0, 100.0 + number)
    assert load.at(100.0 + LOAD_OF) > 0.9
    assert load.at(100.0 + 100 * LOAD_OF) < 0.02
    for number in range(LOAD_OF):
        load.add(0.001, 10_000.0 + number)
    assert load.at(10_000.0 + LOAD_OF) < 0.002


def test_arrivals_at_the_same_time_exceed_any_limit() -> None:
    load = Load()
    for _ in range(LOAD_LEAST):
        load.add(0.05, 100.0)
    assert load.at(100.0) > 100.0
