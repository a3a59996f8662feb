"""Settings of all tests: hypothesis without a clock, SIGHUP as an ordinary process has it, tests
that skip if a program is missing, their order, and no garbage collection of what was collected."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import require

# The time of an example depends on the load of the machine. All other settings are hypothesis's
# own, which differ if CI is set.
settings.register_profile(
    "busy machine",
    settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("busy machine")

# `nohup make test` has SIGHUP ignored. The servers that the tests start would inherit that, and not
# reload on it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs before any fixture: see needs.py."""
    require(name for mark in item.iter_markers("needs") for name in mark.args)


TESTS = Path(__file__).parent
FIRST = ("integration", "reactor", "frontend")
"""Folders whose files take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run short files last, so that all workers of `make test` end at about the same time.

    Within a folder the order stays.
    """
    items.sort(key=lambda item: _rank(item.path))


@cache
def _rank(file: Path) -> int:
    folder = file.relative_to(TESTS).parts[0]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare garbage collection the ten thousand tests, which live to the end.

    To look at them again and again took 12 % of the CPU time of their collection, and 8 % of that
    of unit tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
