"""Fixtures: front ends with stand-ins for their reactors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from reactor_run.frontend.log import limited
from tests.frontend.standin import Front

Start = Callable[..., Front]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """`start(capacities=(1,), interface="asgi", **settings)`: a front end for this test alone.

    When the test is over everything is ended, and nothing may be left behind: no connection whose
    client is gone, no descriptor, no handler, and no exception in the loop.
    """
    fronts: list[Front] = []

    def run(**options: Any) -> Front:
        fronts.append(Front(monkeypatch, **options))
        return fronts[-1]

    yield run
    for front in fronts:
        front.close()


@pytest.fixture(params=["express", "plain"])
def start_each(start: Start, request: pytest.FixtureRequest) -> Start:
    """`start`, for a test that runs on each kind of link."""
    return partial(start, lanes=request.param)


@pytest.fixture(autouse=True)
def forget_repeats() -> None:
    """Let no line be left out because other tests have caused it too."""
    limited.forget()
