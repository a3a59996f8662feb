"""The front end's log: one line a record, to standard error."""

from __future__ import annotations

import logging
import sys
from typing import Final

from reactor_run.logs import LineFormatter, RepeatLimit

__all__ = ["configure", "limited", "log"]

log: Final = logging.getLogger("reactor_run")

limited: Final = RepeatLimit(log)
"""Logs a line that a client or an app can cause as often as it likes."""


def configure(level: str) -> None:
    """Write what is at least as grave as `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False
