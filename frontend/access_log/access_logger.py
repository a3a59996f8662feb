"""The access log by way of Python's logging, if --log-config gives its logger handlers.

Then these handlers decide where lines go. They may wait, and all clients wait with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from time import time
from typing import Any

from reactor_run.frontend.access_log.format import LineFormat
from reactor_run.frontend.exchanges.record import Record
from reactor_run.logs import ACCESS_LOGGER

__all__ = ["AccessLogger", "has_handlers"]

_logger = logging.getLogger(ACCESS_LOGGER)


def has_handlers() -> bool:
    """Return whether the operator gave handlers to the logger or to its parent `reactor_run`.

    Handlers of the root do not count: they are meant for messages.
    """
    parent = logging.getLogger(ACCESS_LOGGER.partition(".")[0])
    return bool(_logger.handlers or (_logger.propagate and parent.handlers))


class AccessLogger:
    """An `Observer` that gives each record to the logger."""

    def __init__(self, form: LineFormat) -> None:
        """`form`: of the message of each log record."""
        self._form = form
        _logger.disabled = False
        if _logger.level == logging.NOTSET:
            _logger.setLevel(logging.INFO)

    def ended(self, records: Sequence[Record]) -> None:
        """Log a line for each record, with the facts of a JSON line as attributes."""
        if not _logger.isEnabledFor(logging.INFO):
            return
        lines = self._form.lines(records, time()).decode("utf-8", "backslashreplace").split("\n")
        for record, line in zip(records, lines, strict=False):
            told = _logger.makeRecord(_logger.name, logging.INFO, "", 0, line, (), None)
            told.__dict__.update(_facts(record))
            _logger.handle(told)


def _facts(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield the facts of a record, by the keys of a JSON line."""
    head = record.head
    yield "client", record.client.decode()
    yield "method", head.method.decode("latin-1")
    yield "target", (head.target or head.line).decode("latin-1")
    yield "protocol", record.version.decode()
    yield "status", record.status or None
    yield "bytes_in", record.bytes_in
    yield "bytes_out", record.bytes_out
    yield "duration", record.duration
    yield "queue", record.queue_time
    yield "first_byte", record.first_byte - record.arrived if record.status_code else None
    yield "reactor", record.reactor_name
    yield "tries", record.tries
    referer, user_agent = head.values((b"referer", b"user-agent"))
    yield "referer", referer.decode("utf-8", "backslashreplace")
    yield "user_agent", user_agent.decode("utf-8", "backslashreplace")
    yield "request_id", record.request_id
    yield "rule", record.rule
    yield "error", record.error
