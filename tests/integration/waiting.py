"""Waiting for what happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, deadline: float = 30.0) -> T:
    """Poll `condition` until what it returns is true, and return that.

    An `AssertionError` or `OSError` in it counts as "not yet". After `deadline` seconds the last
    error is raised, or `TimeoutError` where there was none.
    """
    end = time.monotonic() + deadline
    while True:
        failure: BaseException | None = None
        try:
            if result := condition():
                return result
        except (AssertionError, OSError) as error:
            failure = error
        if time.monotonic() > end:
            raise failure or TimeoutError(f"not within {deadline:g} s: {condition}")
        time.sleep(0.005)
