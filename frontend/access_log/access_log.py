"""The access log: a line for each request, written once in each turn of the loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from time import time

from reactor_run.clock import Zone
from reactor_run.frontend.access_log.format import LineFormat
from reactor_run.frontend.access_log.log_file import STDOUT, LogFile
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["AccessLog", "open_access_log"]


class AccessLog:
    """An `Observer` that writes a line for each record."""

    def __init__(self, form: LineFormat, file: LogFile) -> None:
        self.file = file
        self._form = form

    def ended(self, records: Sequence[Record]) -> None:
        """Write a line for each record."""
        self.file.write(self._form.lines(records, time()), len(records))


def open_access_log(loop: Loop, path: str, form: str, zone: Zone) -> AccessLog | None:
    """Open the access log; return None if there is none. Raises OperatorError.

    `path`: `-` for standard output, `off` for none, `auto` for `-` on a terminal and else none.
    `form`: the format. `zone`: of the times.
    """
    if path == "auto":
        path = STDOUT if sys.stderr.isatty() else "off"
    if path == "off":
        return None
    try:
        file = LogFile(loop, path)
    except OSError as error:
        raise OperatorError(
            f"--access-log: cannot write to {path!r}: {error.strerror}; give a file that user "
            f"{os.geteuid()} may append to, or - or off"
        ) from None
    return AccessLog(LineFormat(form, zone), file)
