"""What all tests share: a test whose programs are missing ends before it begins."""

from __future__ import annotations

import pytest

from tests.needs import require


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: see needs.py."""
    require(name for mark in item.iter_markers("needs") for name in mark.args)
