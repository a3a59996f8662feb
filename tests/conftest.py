"""What all tests share: hypothesis without a clock, and tests that end for a missing program."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import require

# How long an example takes says how busy the machine is. All else is as hypothesis has it, which
# differs where CI is set.
settings.register_profile(
    "busy machine",
    settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("busy machine")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: see needs.py."""
    require(name for mark in item.iter_markers("needs") for name in mark.args)
