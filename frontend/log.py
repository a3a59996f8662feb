"""The front end's log: by default one line for each record, on standard error."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from reactor_run.clock import Zone
from reactor_run.frontend.command.files import read_text
from reactor_run.frontend.errors import OperatorError
from reactor_run.log_config import LogConfigError, apply_log_config
from reactor_run.log_format import Form, JsonFormatter, LineFormatter, wants_colours
from reactor_run.logs import ERROR_LOGGER, RepeatLimit

__all__ = ["configure", "limited", "log", "zone"]

log: Final = logging.getLogger(ERROR_LOGGER)

zone: Final = Zone()
"""The time zone of all logs of this service, as it was at the start."""

limited: Final = RepeatLimit(log)
"""Limits lines that a client or an app can cause as often as it likes."""


def configure(level: str, form: Form = "text", config: str = "") -> None:
    """Log all records of at least this level.

    `config`: the file of --log-config; empty: there is none. It may set another level, and
    handlers, for this logger or for the root; then these get all records. Raises OperatorError.
    """
    log.handlers.clear()
    log.propagate = False
    log.setLevel(level.upper())
    if config:
        log.propagate = True
        log.setLevel(logging.NOTSET)
        try:
            apply_log_config(config, read_text(config))
        except (LogConfigError, OperatorError) as error:
            raise OperatorError(f"--log-config: {error}") from None
        # Many files disable all loggers that they do not name.
        log.disabled = False
        if log.level == logging.NOTSET:
            log.setLevel(level.upper())
        if log.hasHandlers():
            return
        log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter(zone=zone))
    else:
        colours = wants_colours(sys.stderr, os.environ)
        handler.setFormatter(LineFormatter(zone=zone, colours=colours))
    log.addHandler(handler)
