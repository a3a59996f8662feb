"""A test whose program is missing is skipped on a laptop, and fails if CI=1 is set.

Warnings are errors, so a socket that such a test left open would fail a later test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import path_of

ROOT = Path(__file__).parents[1]
FILES = [
    str(path)
    for path in (ROOT / "tests" / "integration").glob("test_*.py")
    if "pytest.mark.needs(" in path.read_text()
]


def outcomes(path: Path, *files: str, **variables: str) -> dict[str, int]:
    """Return how the tests in `files` that need programs end if only those in `path` are there."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    words = ["-q", "-m", "needs", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env={**environment, "PATH": str(path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = done.stdout.splitlines()[-1]
    counts = {what: int(count) for count, what in re.findall(r"(\d+) ([a-z]+)", summary)}
    assert counts.keys() <= {"passed", "failed", "error", "errors", "skipped", "deselected"}, done
    return counts


@pytest.mark.timeout(180)
def test_without_their_programs_tests_are_skipped(tmp_path: Path) -> None:
    counts = outcomes(tmp_path, *FILES)
    assert counts.pop("skipped") > 40
    assert counts.keys() == {"deselected"}


@pytest.mark.timeout(180)
def test_where_programs_are_promised_none_is_skipped(tmp_path: Path) -> None:
    # A few files show it.
    few = [name for name in FILES if "proxy" in name]
    counts = outcomes(tmp_path, *few, CI="1")
    assert counts.pop("errors") > 10
    assert counts.keys() == {"deselected"}


def test_a_program_that_is_not_named_is_not_used() -> None:
    with pytest.raises(LookupError, match=r"@pytest.mark.needs\('sh'\)"):
        path_of("sh")


@pytest.mark.needs("sh")
def test_a_program_that_is_named_is_found() -> None:
    assert path_of("sh").endswith("/sh")
