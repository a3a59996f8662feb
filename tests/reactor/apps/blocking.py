"""An app that blocks its process for ever, after a line in the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def app(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
    Path(environ["QUERY_STRING"]).touch()
    while True:
        time.sleep(60)
