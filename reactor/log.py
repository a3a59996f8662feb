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
from collections.abc import Callable, Iterator
from typing import Any, Final

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

_LINE_MAX: Final = 65536
"""Characters of one record: more is the text of an exception that has swallowed a whole body."""
_PLACES_MAX: Final = 20
"""Frames of an exception that cannot be shown in the usual way, innermost last."""

# As they are before an app is imported, which may replace them.
_Record = logging.LogRecord

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
    """A logger that works whatever an app does, and raises nothing.

    `logging.config.dictConfig` disables every logger that the configuration does not name, unless
    told otherwise: with many a Django LOGGING setting a reactor would fall silent. So neither that
    nor an app's record factory, filters, handlers or `sys.stderr` count here. The arguments of a
    record may be an app's: what their `__str__` raises costs the record its details.
    """

    formatter: logging.Formatter
    descriptor: int | None
    """Where lines go; None if there is no stderr."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def _log(
        self,
        level: int,
        msg: object,
        args: Any,
        exc_info: Any = None,
        extra: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
    ) -> None:
        try:
            if exc_info is True:
                exc_info = sys.exc_info()
            elif exc_info is not None and exc_info is not False:
                exc_info = type(exc_info), exc_info, None
            line = self._line(level, msg, args, exc_info)
        except BaseException:
            line = f"[{os.getpid()}] {msg} (the details cannot be shown)\n"
        data = memoryview(line.encode("utf-8", "backslashreplace"))
        try:
            while data and self.descriptor is not None:
                data = data[os.write(self.descriptor, data) :]
        except OSError:
            pass

    def _line(self, level: int, msg: object, args: Any, exc_info: Any) -> str:
        record = _Record(self.name, level, "", 0, msg, args, exc_info)
        line = self.formatter.format(record)
        if len(line) > _LINE_MAX:
            line = f"{line[:_LINE_MAX]} ... ({len(line) - _LINE_MAX} characters more)"
        return line + "\n"


class _Formatter(LineFormatter):
    """Shows an exception even if it resists."""

    def formatException(self, ei: Any) -> str:
        return _tell(ei[1], traceback.format_exception)


def configure(level: str, reactor: str) -> None:
    """Send this process's "reactor_run" records from `level` up to stderr, and only there.

    `level` is debug, info, warning, error or critical; `reactor` is the reactor's name, put before
    each message unless it is empty. The root logger and all of the app's are left alone. A second
    call replaces what the first has set. Raises ValueError for an unknown level.
    """
    if level.lower() not in _LEVELS:
        raise ValueError(f"unknown log level {level!r}: choose from {', '.join(_LEVELS)}")
    log.__class__ = _ReactorLogger
    assert isinstance(log, _ReactorLogger)
    log.formatter = _Formatter(f"{reactor}: " if reactor else "")
    # Without a stderr, its number may be that of anything.
    log.descriptor = None if sys.stderr is None else 2
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
    return _tell(exc, _format_cut)


def _format_cut(exc: BaseException) -> list[str]:
    told = traceback.TracebackException.from_exception(exc, compact=True)
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        part = pending.pop()
        if part is not None:
            part.stack[:] = [frame for frame in part.stack if _is_apps(frame)]
            pending += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return list(told.format())


_traceback_of: Final = BaseException.__dict__["__traceback__"].__get__
_name_of: Final = type.__dict__["__name__"].__get__


def _tell(exc: BaseException, form: Callable[[BaseException], list[str]]) -> str:
    """`exc` by `form`, or if that fails, by nothing that its class or modules can change."""
    try:
        return "".join(form(exc)).rstrip("\n")
    except BaseException:
        lines = [f"{_name_of(type(exc))}, which cannot be shown, raised at"]
    places = []
    trace = _traceback_of(exc)
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}')
        trace = trace.tb_next
    return "\n".join(lines + places[-_PLACES_MAX:])


def place_of(exc: BaseException) -> tuple[str, str, int]:
    """What makes two failures one kind for the log: the type's name, and the line that raised."""
    name = _name_of(type(exc))
    trace = _traceback_of(exc)
    if trace is None:
        return name, "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return name, trace.tb_frame.f_code.co_filename, trace.tb_lineno


def summary(exc: BaseException) -> str:
    """`exc` in one line: its type, and the first line of its text if there is any."""
    name = type(exc).__qualname__
    try:
        text = str(exc).strip()
    except BaseException:  # an app's exception may be broken, too
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
    try:
        return _find_hint(exc, runtime)
    except BaseException:  # an app's exception may be broken
        return None


def _find_hint(exc: BaseException, runtime: str) -> str | None:
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
