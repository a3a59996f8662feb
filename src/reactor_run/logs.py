"""The log of both processes: its loggers, safe text, and a limit on repetition.

A record is one line. Its details, such as a traceback, follow. No character of a client or an app
can act on a terminal, or look like another record:

    printable       makes text of a client safe for a message; escapes line ends too
    request_name    does so for method and target
    log_format.py   escapes what is left, in all records
    RepeatLimit     keeps a client or an app from filling the log with one kind of line
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final

__all__ = [
    "ACCESS_LOGGER",
    "ERROR_LOGGER",
    "RepeatLimit",
    "printable",
    "request_name",
    "summary",
]

ERROR_LOGGER: Final = "reactor_run.error"
"""The logger of all records but those of requests, in both processes."""
ACCESS_LOGGER: Final = "reactor_run.access"
"""The logger of requests, if --log-config gives it handlers."""

_NAME_MAX: Final = 200
"""Most characters of a request's name."""
_KINDS_MAX: Final = 1000
_PLACEHOLDER: Final = re.compile(r"%[.0-9]*[a-z]")


def printable(text: str | bytes) -> str:
    """Return `text` with an escape, such as \\x1b or \\n, for each unprintable character.

    Those are control characters, line separators, and marks that change the direction of writing.
    Bytes are read as latin-1.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def request_name(method: bytes, target: bytes, request_id: str = "") -> str:
    """Return the name of a request in the log: method and path as sent, at most 200 characters.

    The query is left out, because it may hold secrets. The id follows, if there is one.
    """
    path = target[:_NAME_MAX].partition(b"?")[0]
    name = f"{printable(method)} {printable(path)}"
    if len(name) > _NAME_MAX:
        name = name[: _NAME_MAX - 3] + "..."
    return f"{name} [{printable(request_id)}]" if request_id else name


def summary(exc: BaseException) -> str:
    """Return `exc` in one line: its type, and the first line of its text if it has one."""
    name = type(exc).__qualname__
    try:
        text = str(exc).strip()
    except BaseException:  # The `__str__` of an app's exception may raise.
        text = ""
    return f"{name}: {text.splitlines()[0]}" if text else name


class RepeatLimit:
    """Logs at most BURST lines of one kind in PERIOD seconds, and counts the others. Thread-safe.

    For lines that a client or an app can cause as often as it likes. Lines are of one kind if they
    have the same format string and the same `kind`. The first line after the period is preceded by
    the number of lines that were left out.
    """

    BURST: Final = 10
    PERIOD: Final = 10.0
    """Seconds in which at most BURST lines of one kind are logged."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Hashable], int] = {}
        self._until = 0.0

    def debug(self, message: str, *args: object, kind: Hashable = None) -> None:
        self._write(logging.DEBUG, message, args, kind)

    def info(self, message: str, *args: object, kind: Hashable = None) -> None:
        self._write(logging.INFO, message, args, kind)

    def warning(self, message: str, *args: object, kind: Hashable = None) -> None:
        self._write(logging.WARNING, message, args, kind)

    def error(
        self,
        message: str,
        *args: object,
        kind: Hashable = None,
        exc_info: bool | BaseException | None = None,
    ) -> None:
        self._write(logging.ERROR, message, args, kind, exc_info)

    def _write(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        kind: Hashable,
        exc_info: bool | BaseException | None = None,
    ) -> None:
        if not self._log.isEnabledFor(level):
            return
        left_out: list[tuple[int, str]] = []
        with self._lock:
            now = self._clock()
            if now >= self._until or len(self._counts) >= _KINDS_MAX:
                left_out = self._begin(now)
            count = self._counts[message, kind] = self._counts.get((message, kind), 0) + 1
        for number, text in left_out:
            self._log.warning("left out %d more lines like this one: %s", number, text)
        if count <= self.BURST:
            self._log.log(level, message, *args, exc_info=exc_info)

    def forget(self) -> None:
        """Begin anew, and do not log how many lines were left out."""
        with self._lock:
            self._counts.clear()

    def _begin(self, now: float) -> list[tuple[int, str]]:
        """Begin a period; return how many lines of which kind the last period left out."""
        left_out = [
            (count - self.BURST, _PLACEHOLDER.sub("...", message.partition("\n")[0]))
            for (message, _), count in self._counts.items()
            if count > self.BURST
        ]
        self._counts.clear()
        self._until = now + self.PERIOD
        return left_out
