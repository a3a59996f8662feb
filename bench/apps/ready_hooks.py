"""Notes when each reactor is ready, in a file that bears the number of the front end."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from reactor_run.hooks import AppReactor


def path(front_end: int) -> Path:
    """The file with the times of one service, in seconds of CLOCK_MONOTONIC, one a line."""
    return Path(tempfile.gettempdir()) / f"reactor-run-bench-{front_end}"


def reactor_ready(reactor: AppReactor) -> None:
    with path(os.getppid()).open("a") as file:
        print(time.monotonic(), file=file)
