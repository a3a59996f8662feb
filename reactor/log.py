"""What a reactor process says: its log lines, and how the app's failures are told.

Everything that reports a failing app uses these: its traceback without our frames
(`cut_traceback`), its error in one line (`summary`), and advice when the app and the runtime do
not fit (`runtime_hint`). This module must not know what the app was doing.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Final

from reactor_run.logs import LineFormatter, RepeatLimit

__all__ = [
    "AppFailure",
    "app_frames",
    "configure",
    "cut_traceback",
    "limited",
    "log",
    "place_of",
    "runtime_hint",
    "summary",
]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

log: Final = logging.getLogger("reactor_run")
"""The logger of a reactor process; until `configure` it is like any other."""

limited: Final = RepeatLimit(log)
"""Logs a line that a client or an app can cause as often as it likes."""


class AppFailure(Exception):
    """The app failed where the reactor cannot go on without it.

    `message` is one line: what happened, and how to mend it. `details` is the app's own account,
    mostly a traceback cut to its frames, None where there is nothing to add.
    """

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message, details)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message if self.details is None else f"{self.message}\n{self.details}"


class _ReactorLogger(logging.Logger):
    """A logger that an app cannot switch off by accident.

    `logging.config.dictConfig` disables every logger that the configuration does not name, unless
    told otherwise: with many a Django LOGGING setting a reactor would fall silent.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


def configure(level: str, reactor: str) -> None:
    """Send this process's "reactor_run" records from `level` up to stderr, and only there.

    `level` is debug, info, warning, error or critical; `reactor` is the reactor's name, put before
    each message unless it is empty. The root logger and all of the app's are left alone. A second
    call replaces what the first has set. Raises ValueError for an unknown level.
    """
    if level.lower() not in _LEVELS:
        raise ValueError(f"unknown log level {level!r}: choose from {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(f"{reactor}: " if reactor else ""))
    log.__class__ = _ReactorLogger
    log.handlers[:] = [handler]
    log.setLevel(_LEVELS[level.lower()])
    log.propagate = False


# The room above this one: `reactor_run/`, as the import system spells it in code objects.
_OWN_ROOM: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORTLIB: Final = os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep


def _is_apps(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((_OWN_ROOM, _IMPORTLIB, "<frozen importlib"))


def app_frames(exc: BaseException) -> list[traceback.FrameSummary]:
    """The frames of `exc`, outermost first, without importlib's and our own."""
    return [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_apps(frame)]


def cut_traceback(exc: BaseException) -> str:
    """The traceback of `exc` as Python prints it, without the frames of importlib and our own.

    Its causes, contexts and the members of an exception group are cut as well. Frames of libraries
    stay: they tell what the app was doing. Without a newline at the end.
    """
    told = traceback.TracebackException.from_exception(exc, compact=True)
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        part = pending.pop()
        if part is not None:
            part.stack[:] = [frame for frame in part.stack if _is_apps(frame)]
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(told.format()).rstrip("\n")


def place_of(exc: BaseException) -> tuple[type, str, int]:
    """What makes two failures one kind for the log: the type, and the line that raised."""
    trace = BaseException.__dict__["__traceback__"].__get__(exc)
    if trace is None:
        return type(exc), "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return type(exc), trace.tb_frame.f_code.co_filename, trace.tb_lineno


def summary(exc: BaseException) -> str:
    """`exc` in one line: its type, and the first line of its text if there is any."""
    name = type(exc).__qualname__
    try:
        text = str(exc).strip()
    except Exception:  # an app's exception may be broken, too
        text = ""
    return f"{name}: {text.splitlines()[0]}" if text else name


# What an app's code raises when the other runtime is there: texts of asyncio (3.11 to 3.14), trio
# (0.30 to 0.35), and of each one's task runner when it gets what the other's awaitables yield.
# Patterns, compiled when an app has failed.
_ASYNCIO_IS_MISSING: Final = (
    r"no running event loop"
    r"|There is no current event loop"
    r"|trio\.run received unrecognized yield message"
    # asyncio.Lock, Event, Queue: they take a loop that they do not find for granted.
    r"|'NoneType' object has no attribute '(create_future|create_task|call_\w+)'"
)
_TRIO_IS_MISSING: Final = (
    r"must be called from async context"
    r"|this thread wasn't created by Trio"
    r"|Task got bad yield: .*("
    r"trio\.|WaitTaskRescheduled|CancelShieldedCheckpoint|PermanentlyDetachCoroutineObject)"
    r"|'RunContext' object has no attribute '(runner|task)'"
)


def runtime_hint(exc: BaseException, runtime: str) -> str | None:
    """Advice, in one line, if `exc` shows that the app needs another runtime than `runtime`.

    `runtime` is trio, asyncio or uvloop. Looks at the causes and contexts of `exc` and into
    exception groups. None where nothing speaks of the runtime.
    """
    for error in _with_relatives(exc):
        text = summary(error)
        if runtime == "trio":
            if isinstance(error, RuntimeError | TypeError | AttributeError) and (
                re.search(_ASYNCIO_IS_MISSING, text)
            ):
                return "this app needs asyncio: run it with --runtime asyncio (or uvloop)"
        elif type(error).__name__ == "TrioInternalError" or (
            isinstance(error, RuntimeError | AttributeError) and re.search(_TRIO_IS_MISSING, text)
        ):
            return "this app needs Trio: run it with --runtime trio"
    return None


def _with_relatives(exc: BaseException) -> Iterator[BaseException]:
    """`exc`, its causes, contexts and members and theirs, each once."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [exc]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        pending += [error.__context__, error.__cause__]
        if isinstance(error, BaseExceptionGroup):
            pending += error.exceptions
