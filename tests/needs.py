"""Programs and files that a test needs and a machine may lack.

A test names them: `@pytest.mark.needs("haproxy", "openssl")`. An absolute path is a file. If one is
missing, the test is skipped with the reason, or fails if CI=1 is set. `tests/conftest.py` decides
that before any fixture of the test runs, so no socket is open by then.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterable
from types import ModuleType
from typing import NoReturn

import pytest

__all__ = ["lacks", "need_module", "path_of", "require"]

_named: frozenset[str] = frozenset()
"""The programs and files that the running test has named."""


def require(names: Iterable[str]) -> None:
    """Skip or fail the test that has named these, unless all are here."""
    global _named
    _named = frozenset(names)
    for name in sorted(_named):
        if _find(name) is None:
            lacks(name)


def path_of(name: str) -> str:
    """Return the path of a program or file. Raises LookupError if the running test has not named
    it."""
    if name not in _named:
        raise LookupError(f"mark the test: @pytest.mark.needs({name!r})")
    path = _find(name)
    if path is None:
        lacks(name)
    return path


def need_module(name: str) -> ModuleType:
    """Import a Python module of the extra `test`. Call it before anything is opened."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        lacks(f"the Python module {name}")


def lacks(what: str) -> NoReturn:
    """Skip the running test because this machine lacks something; fail it if CI=1 is set."""
    message = f"needs {what}, which this machine lacks"
    if os.environ.get("CI") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _find(name: str) -> str | None:
    if os.path.isabs(name):
        return name if os.path.exists(name) else None
    return shutil.which(name)
