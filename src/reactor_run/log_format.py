"""The form of log records in both processes: text or JSON, in one time zone.

    text   `2026-11-20 15:04:05 +0100 [4711] warning reactor 2: message`; further lines are indented
    JSON   one object a line, in ASCII

No character of a client or an app can act on a terminal, or make a line look like another record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from reactor_run.clock import Zone
from reactor_run.logs import printable

__all__ = ["Form", "JsonFormatter", "LineFormatter", "wants_colours"]

Form = Literal["text", "json"]

_SIZE_MAX: Final = 65536
"""Most characters of a record. The text of an exception may contain a whole request body."""
_COLOURS: Final = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_PLAIN: Final = "\x1b[0m"


class _Terminal(Protocol):
    def isatty(self) -> bool: ...


def wants_colours(stream: _Terminal, environ: Mapping[str, str]) -> bool:
    """Return whether lines on `stream` may be coloured (https://no-color.org)."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and stream.isatty()


class LineFormatter(logging.Formatter):
    """Formats a record as text. The operator may use it in --log-config too."""

    def __init__(
        self, reactor: str = "", zone: Zone | None = None, *, colours: bool = False
    ) -> None:
        """`reactor`: the name of this reactor; empty: this is the front end. `zone`: None for that
        of this process now. `colours`: colour the level."""
        super().__init__()
        self.rename(reactor)
        self._zone = Zone() if zone is None else zone
        self._colours = colours

    def rename(self, reactor: str) -> None:
        """Change the name of this reactor."""
        self._before = f"{reactor}: " if reactor else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, with its further lines indented below."""
        level = record.levelname.lower()
        if self._colours and level in _COLOURS:
            level = f"{_COLOURS[level]}{level}{_PLAIN}"
        lines = _cut(_whole_text(self, record)).split("\n")
        text = "\n  ".join(map(printable, lines))
        before = f"{self._zone.plain(record.created)} [{record.process}] {level} "
        return f"{before}{printable(self._before)}{text}"


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object. The operator may use it in --log-config too."""

    def __init__(self, reactor: str = "", zone: Zone | None = None) -> None:
        """`reactor` and `zone`: as for LineFormatter."""
        super().__init__()
        self._zone = Zone() if zone is None else zone
        self.rename(reactor)

    def rename(self, reactor: str) -> None:
        """Change the name of this reactor."""
        self._reactor = reactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line. What follows the first line of its text is `details`."""
        message, _, details = _cut(_whole_text(self, record)).partition("\n")
        return json.dumps(
            {
                "time": self._zone.iso(record.created).decode(),
                "level": record.levelname.lower(),
                "process": record.process,
                "reactor": self._reactor,
                "message": message,
                "details": details,
            }
        ).replace("\x7f", "\\u007f")


def _whole_text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the message of a record, with its traceback if there is one."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    if record.stack_info:
        text += "\n" + formatter.formatStack(record.stack_info)
    return text


def _cut(text: str) -> str:
    if len(text) <= _SIZE_MAX:
        return text
    return f"{text[:_SIZE_MAX]} ... ({len(text) - _SIZE_MAX} characters more)"
