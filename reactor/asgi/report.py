"""Logs how an ASGI app ended an exchange, unless it ended as it should.

The app may have changed its scope and its error. So nothing here uses the scope, and of an error
only its type and its traceback are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import anyio

from reactor_run.reactor.log import cut_traceback, limited, place_of, prompt_hint, runtime_hint

__all__ = ["is_cancellation", "report_end", "report_handled_error"]

_DEPARTURES: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})
"""The names of Starlette's exceptions after the client has left."""


def report_end(
    name: str, error: BaseException | None, runtime: str, *, left: bool, part: str, state: str
) -> None:
    """Log how the app ended. Call it unless the app has returned and completed everything.

    `name`: the exchange. `error`: what the app raised; None: it has returned. `runtime`: the one
    that the app runs on. `left`: whether the client has left. `part`: what the app did not
    complete, such as "response". `state`: a text for its state, such as "incomplete".
    """
    if left and (error is None or _is_departure(error)):
        limited.debug("%s: the client left before the %s was complete", name, part)
    elif error is None:
        limited.error("%s: the app returned with its %s %s", name, part, state)
    elif is_cancellation(error):
        limited.info("%s: cancelled", name)
    else:
        hint = runtime_hint(error, runtime) or prompt_hint(error)
        advice = f" ({hint})" if hint else ""
        limited.error(
            "%s: the app failed%s\n%s",
            name,
            advice,
            cut_traceback(error),
            kind=place_of(error),
        )


def report_handled_error(name: str, status: int, runtime: str) -> None:
    """Log advice if the app handles an error that shows that it needs another runtime.

    Litestar and other frameworks answer 500 themselves, and the reactor does not get the error.
    But while they handle it, it is the current exception of the app's coroutines. `status`: the
    status code of the answer.
    """
    error = sys.exception()
    if error is None:
        return
    hint = runtime_hint(error, runtime)
    if hint is not None:
        limited.error(
            "%s: the app responds %d (%s)\n%s",
            name,
            status,
            hint,
            cut_traceback(error),
            kind=place_of(error),
        )


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is a cancellation, or a group that holds only cancellations."""
    cancelled = anyio.get_cancelled_exc_class()
    return _holds_only(error, lambda each: issubclass(type(each), cancelled))


def _is_departure(error: BaseException) -> bool:
    """Whether `error` is what `send` raises when the client is gone, or a group of these.

    Starlette raises exceptions of its own instead.
    """
    return _holds_only(
        error, lambda each: issubclass(type(each), OSError) or type(each).__name__ in _DEPARTURES
    )


def _holds_only(error: BaseException, wanted: Callable[[BaseException], bool]) -> bool:
    """Whether `error` is wanted, or a group that holds only wanted ones."""
    if not issubclass(type(error), BaseExceptionGroup):
        return wanted(error)
    group: Any = error
    try:
        return BaseExceptionGroup.split(group, wanted)[1] is None
    except BaseException:  # the app's `derive` failed
        return False
