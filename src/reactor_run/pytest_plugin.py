"""The pytest plugin: the fixture `reactor_run_serve`. pytest finds it by its entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

__all__ = ["reactor_run_serve"]


@pytest.fixture
def reactor_run_serve() -> Iterator[Callable[..., str]]:
    """A function that serves an app until the test ends, and returns the URL.

    `reactor_run_serve("shop.web:app", runtime="trio")`: see `reactor_run.testing.serve`.
    """
    # Only tests that use the fixture pay for these imports.
    from reactor_run.testing import serve

    with ExitStack() as closing:
        yield lambda app, **settings: closing.enter_context(serve(app, **settings))
