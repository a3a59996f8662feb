"""The log of a reactor process.

It owns the logger, and the form in which failures of the app are reported: the traceback without
frames of this package (`cut_traceback`), and advice if the app needs another runtime
(`runtime_hint`). It does not know what the app was doing.
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

from reactor_run.clock import Zone
from reactor_run.log_config import LogConfigError, apply_log_config
from reactor_run.log_format import Form, JsonFormatter, LineFormatter, wants_colours
from reactor_run.logs import ERROR_LOGGER, RepeatLimit, summary

__all__ = [
    "AppFailure",
    "app_frames",
    "configure",
    "configure_by",
    "cut_traceback",
    "limited",
    "log",
    "place_of",
    "prompt_hint",
    "rename",
    "runtime_hint",
]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_PLACES_MAX: Final = 20
"""Most frames that are shown of an exception that traceback cannot format."""

# Kept from before the app's import, because an app may replace it.
_Record = logging.LogRecord

log: Final = logging.getLogger(ERROR_LOGGER)
"""The logger of a reactor process. Before `configure` it is an ordinary logger."""

limited: Final = RepeatLimit(log)
"""The logger for lines that a client or an app can cause any number of times. It limits repeats."""


class AppFailure(Exception):
    """A failure of the app after which the reactor cannot go on.

    `message` is one line: what happened, and how to fix it. `details` is mostly the traceback, cut
    to the app's frames; None if there are no details.
    """

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message, details)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message if self.details is None else f"{self.message}\n{self.details}"


class _ReactorLogger(logging.Logger):
    """A logger that an app cannot change, and that raises nothing.

    By default `logging.config.dictConfig` disables every logger that the configuration does not
    name. So many Django LOGGING settings would disable the reactor's logger. Therefore this logger
    ignores `disabled`, and an app's record factory, filters, handlers and `sys.stderr`.

    The arguments of a record may be objects of an app. If their `__str__` raises, the record is
    written without details.
    """

    formatter: logging.Formatter
    descriptor: int | None
    """The descriptor that lines are written to; None if there is no stderr."""
    reactor: str
    """The name of this reactor; empty: it has none."""
    chosen: tuple[logging.Handler, ...]
    """The handlers of --log-config, which replace the descriptor; empty: there are none."""

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
            if self.chosen:
                self._give(level, msg, args, exc_info)
                return
            line = self.formatter.format(_Record(self.name, level, "", 0, msg, args, exc_info))
            line += "\n"
        except BaseException:
            line = f"[{os.getpid()}] {msg} (the details cannot be shown)\n"
        data = memoryview(line.encode("utf-8", "backslashreplace"))
        try:
            while data and self.descriptor is not None:
                data = data[os.write(self.descriptor, data) :]
        except OSError:
            pass

    def _give(self, level: int, msg: object, args: Any, exc_info: Any) -> None:
        """Give a record to the handlers of the operator."""
        told = f"{self.reactor.replace('%', '%%') if args else self.reactor}: {msg}"
        record = _Record(self.name, level, "", 0, told if self.reactor else msg, args, exc_info)
        record.reactor = self.reactor
        for handler in self.chosen:
            if level >= handler.level:
                handler.handle(record)


class _LineFormatter(LineFormatter):
    """Formats an exception even if its own methods raise."""

    def formatException(self, ei: Any) -> str:
        return _tell(ei[1], traceback.format_exception)


class _JsonFormatter(JsonFormatter):
    """Formats an exception even if its own methods raise."""

    def formatException(self, ei: Any) -> str:
        return _tell(ei[1], traceback.format_exception)


def configure(level: str, reactor: str, form: Form = "text", zone: Zone | None = None) -> None:
    """Write the records of this process from `level` up to stderr, and only there.

    `level` is debug, info, warning, error or critical. `reactor` is the reactor's name. It is put
    before each message unless it is empty. `zone`: of the times; None: that of this process now.
    The root logger and the app's loggers do not change. A second call replaces the settings of the
    first. Raises ValueError for an unknown level.
    """
    if level.lower() not in _LEVELS:
        raise ValueError(f"unknown log level {level!r}: choose from {', '.join(_LEVELS)}")
    log.__class__ = _ReactorLogger
    assert isinstance(log, _ReactorLogger)
    if form == "json":
        log.formatter = _JsonFormatter(reactor, zone)
    else:
        colours = wants_colours(sys.stderr, os.environ) if sys.stderr is not None else False
        log.formatter = _LineFormatter(reactor, zone, colours=colours)
    # Without a stderr, descriptor 2 may be any other file.
    log.descriptor = None if sys.stderr is None else 2
    log.reactor = reactor
    log.chosen = ()
    log.setLevel(_LEVELS[level.lower()])
    log.propagate = False


def rename(reactor: str) -> None:
    """Name this process anew in its log lines. Call `configure` before."""
    assert isinstance(log, _ReactorLogger)
    log.reactor = reactor
    formatter = log.formatter
    assert isinstance(formatter, LineFormatter | JsonFormatter)
    formatter.rename(reactor)


def configure_by(path: str) -> None:
    """Apply the operator's configuration of logging, before the app is imported.

    It may set another level, and handlers, for this logger or for the root; then these get all
    records. Raises AppFailure, as the app cannot run as it was asked to.
    """
    assert isinstance(log, _ReactorLogger)
    level = log.level
    log.propagate = True
    log.setLevel(logging.NOTSET)
    try:
        with open(path, encoding="utf-8-sig") as file:
            apply_log_config(path, file.read())
    except (OSError, UnicodeError, LogConfigError) as error:
        raise AppFailure(f"--log-config: {error}") from None
    finally:
        if log.level == logging.NOTSET:
            log.setLevel(level)
        log.chosen = tuple(_handlers_of(log))
        log.propagate = False


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get the records of a logger."""
    each: logging.Logger | None = logger
    while each is not None:
        yield from each.handlers
        each = each.parent if each.propagate else None


# The package directory `reactor_run/`, as the import system spells it in code objects.
_OWN_ROOM: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORTLIB: Final = os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep


def _is_apps(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((_OWN_ROOM, _IMPORTLIB, "<frozen importlib"))


def app_frames(exc: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of `exc`, outermost first, without those of importlib and this package."""
    return [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_apps(frame)]


def cut_traceback(exc: BaseException) -> str:
    """Return the traceback of `exc` as Python prints it, without frames of importlib and this
    package.

    The tracebacks of causes, contexts and members of exception groups are cut too. Frames of other
    libraries stay, because they show what the app was doing. The text does not end with a newline.
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
    """Return `exc` formatted by `form`. If `form` raises, use only what an app cannot change."""
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
    """Return the name of the type of `exc`, and the file and line that raised it.

    Two failures with the same place are repeats for the log.
    """
    name = _name_of(type(exc))
    trace = _traceback_of(exc)
    if trace is None:
        return name, "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return name, trace.tb_frame.f_code.co_filename, trace.tb_lineno


# Patterns of the error texts that an app gets on the wrong runtime. The texts are those of asyncio
# (3.11 to 3.14) and trio (0.30 to 0.35), and of their task runners when they get an object that the
# other runtime's awaitables yield. They are compiled only after an app has failed.
_ASYNCIO_IS_MISSING: Final = (
    # "no running event loop", "There is no current event loop", and the like of other libraries.
    r"(?i)\bevent loop\b"
    r"|trio\.run received unrecognized yield message"
    # asyncio.Lock, Event and Queue use the running loop without checking that there is one.
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
    """Return advice in one line if `exc` shows that the app needs another runtime, else None.

    `runtime` is the current one: trio, asyncio or uvloop. Causes, contexts and members of exception
    groups are examined too.
    """
    try:
        return _find_hint(exc, runtime)
    except BaseException:  # The attributes of an app's exception may raise.
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


def prompt_hint(exc: BaseException) -> str | None:
    """Return advice in one line if `exc` comes from a prompt without a terminal, else None."""
    if type(exc) is not EOFError and type(exc).__name__ != "BdbQuit":
        return None
    if os.isatty(0):
        # The developer has left the prompt.
        return None
    return "breakpoint() and input() need a terminal, and --reactors 1"


def _with_relatives(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc` and all its causes, contexts and group members, each once."""
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
