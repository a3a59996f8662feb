"""docs/lanes.md: its example does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lanes.md").read_text()


def test_the_example_does_what_its_comments_say():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-"], input=example, cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    promised = re.findall(r"print\(.*#  ?(.*)", example)
    printed = run.stdout.splitlines()
    assert len(printed) == len(promised) == 3
    for line, promise in zip(printed, promised, strict=True):
        assert line.startswith(promise.removesuffix("...")), run.stderr
