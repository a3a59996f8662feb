"""The access log: a line for each request, written once in each turn of the loop.

It goes to a file (log_file.py), or to the handlers of a logger (access_logger.py).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from time import time

from reactor_run.frontend.access_log.access_logger import AccessLogger, has_handlers
from reactor_run.frontend.access_log.format import LineFormat
from reactor_run.frontend.access_log.log_file import STDOUT, LogFile
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.ended import Observer
from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.log import zone
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.log_format import wants_colours

__all__ = ["AccessLog", "open_access_log"]


class AccessLog:
    """The access log of one service."""

    def __init__(self, writer: Observer, file: LogFile | None = None) -> None:
        """`writer`: makes the lines. `file`: where it writes them; None: to a logger."""
        self.ended = writer.ended
        self._file = file

    @property
    def lost(self) -> int:
        """Lines that were lost since the start, because the file took no more."""
        return 0 if self._file is None else self._file.lost

    def reopen(self) -> str | None:
        """Open the file anew, after a rotation; return why that failed, or None."""
        return None if self._file is None else self._file.reopen()

    def close(self) -> None:
        """Write what the kernel takes now, and close the file."""
        if self._file is not None:
            self._file.close()


class _FileWriter:
    """An `Observer` that writes a line for each record to a file."""

    def __init__(self, form: LineFormat, file: LogFile) -> None:
        self._form = form
        self._file = file

    def ended(self, records: Sequence[Record]) -> None:
        """Write a line for each record."""
        self._file.write(self._form.lines(records, time()), len(records))


def open_access_log(loop: Loop, path: str, form: str) -> AccessLog | None:
    """Open the access log; return None if there is none. Raises OperatorError.

    `path`: a file, `-` for standard output, or `off` for none. `auto` chooses: the logger
    reactor_run.access if it has handlers; else `-` if standard error is a terminal; else none.
    `form`: the format.
    """
    if path != "off" and has_handlers():
        if path != "auto":
            raise OperatorError(
                f"--access-log {path}: --log-config gives the logger reactor_run.access handlers; "
                "remove these, or --access-log"
            )
        return AccessLog(AccessLogger(LineFormat(form, zone)))
    if path == "auto":
        path = STDOUT if sys.stderr.isatty() else "off"
    if path == "off":
        return None
    try:
        file = LogFile(loop, path)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OperatorError(
                f"--access-log: no process reads the FIFO {path!r}; start its reader first"
            ) from None
        raise OperatorError(
            f"--access-log: cannot write to {path!r}: {error.strerror}; give a file that user "
            f"{os.geteuid()} may append to, or - or off"
        ) from None
    colours = path == STDOUT and wants_colours(sys.stdout, os.environ)
    return AccessLog(_FileWriter(LineFormat(form, zone, colours=colours), file), file)
