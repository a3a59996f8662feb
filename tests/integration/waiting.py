"""Waiting for what happens in another process, and for programs that a machine may lack."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, deadline: float = 10.0) -> T:
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


def need(program: str) -> str:
    """The path of `program`; without it, skip on a laptop and fail where CI=1 promises it."""
    return _present(program, shutil.which(program))


def need_file(path: str) -> str:
    """The same as `need` for a file that a package brings along."""
    return _present(path, path if os.path.exists(path) else None)


def need_module(name: str) -> None:
    """The same as `need` for a Python module that an app imports."""
    found = importlib.util.find_spec(name)
    _present(f"the Python module {name}", name if found else None)


def _present(what: str, found: str | None) -> str:
    if found is not None:
        return found
    message = f"needs {what}, which is not installed"
    if os.environ.get("CI") == "1":
        pytest.fail(message)
    pytest.skip(message)
