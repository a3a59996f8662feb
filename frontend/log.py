"""The front end's log: one line for each record, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Final

from reactor_run.logs import LineFormatter, RepeatLimit

__all__ = ["configure", "limited", "log"]

log: Final = logging.getLogger("reactor_run")

limited: Final = RepeatLimit(log)
"""Limits lines that a client or an app can cause as often as it likes."""


def configure(level: str) -> None:
    """Log all records of at least this level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False
