"""The front end's log: one line a record, to standard error."""

from __future__ import annotations

import logging
import sys
from typing import Final

__all__ = ["configure", "log"]

log: Final = logging.getLogger("reactor_run")


def configure(level: str) -> None:
    """Write what is at least as grave as `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s [%(process)d] %(levelname_lower)s %(message)s", "%Y-%m-%d %H:%M:%S"
        )
    )
    handler.addFilter(_lower_level)
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def _lower_level(record: logging.LogRecord) -> bool:
    record.levelname_lower = record.levelname.lower()
    return True
