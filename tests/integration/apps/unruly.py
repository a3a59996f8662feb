"""An ASGI app that does to its server what no app should, on whichever runtime it finds itself.

Whatever a request does here, other requests must come out right and the reactor must live.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import anyio
import anyio.lowlevel
import sniffio

from tests.integration.apps.asgi import endless, timer
from tests.integration.apps.asgi_kit import COMMON, Exchange, app_of

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
KEPT: dict[str, Any] = {}


def runs_on_trio() -> bool:
    return sniffio.current_async_library() == "trio"


async def maybe_suspend(http: Exchange) -> None:
    """Suspend for real where the query says so: an app that did is another case for the server."""
    if http.number("suspend", 0):
        await anyio.sleep(0.001)


async def contextvar(http: Exchange) -> None:
    """What the variable was before this request, which sets it."""
    before = VARIABLE.get()
    VARIABLE.set(http.query["value"])
    await maybe_suspend(http)
    assert VARIABLE.get() == http.query["value"]
    await http.reply(before.encode())


# Handles that outlive their request


async def keep_task(http: Exchange) -> None:
    """Store the task that runs this request."""
    await maybe_suspend(http)
    if runs_on_trio():
        import trio

        KEPT["task"] = trio.lowlevel.current_task()
    else:
        KEPT["task"] = asyncio.current_task()
    await http.reply(b"kept")


async def cancel_task(http: Exchange) -> None:
    """Cancel the stored task, which has long been done with its request.

    A Trio task has no method for it; the scope around it is what an app could reach.
    """
    task = KEPT.pop("task")
    if runs_on_trio():
        import trio

        if task is not trio.lowlevel.current_task() and task.parent_nursery is not None:
            task.parent_nursery.cancel_scope.cancel()
    elif task is not asyncio.current_task():
        task.cancel()
    await http.reply(b"cancelled")


async def keep_scope(http: Exchange) -> None:
    """Store a cancel scope that was entered and left as it should be."""
    with anyio.CancelScope() as scope:
        await maybe_suspend(http)
    KEPT["scope"] = scope
    await http.reply(b"kept")


async def open_scope(http: Exchange) -> None:
    """Enter a cancel scope and never leave it."""
    await maybe_suspend(http)
    KEPT["scope"] = anyio.CancelScope()
    KEPT["scope"].__enter__()
    await http.reply(b"opened")


async def open_shield(http: Exchange) -> None:
    """The same with a shield, which would keep the server's own cancellation out."""
    await maybe_suspend(http)
    KEPT["scope"] = anyio.CancelScope(shield=True)
    KEPT["scope"].__enter__()
    await http.reply(b"opened")


async def open_deadline(http: Exchange) -> None:
    """The same with a deadline, which strikes whoever runs in the task by then."""
    await maybe_suspend(http)
    KEPT["scope"] = anyio.move_on_after(0.02)
    KEPT["scope"].__enter__()
    await http.reply(b"opened")


async def cancel_scope(http: Exchange) -> None:
    """Cancel the stored scope."""
    KEPT.pop("scope").cancel()
    await http.reply(b"cancelled")


# Apps that cancel themselves


async def cancel_self(http: Exchange) -> None:
    """Cancel the own task or scope and then await."""
    await maybe_suspend(http)
    _cancel_self()
    await anyio.sleep(5)
    await http.reply(b"never")


async def cancel_self_last(http: Exchange) -> None:
    """Answer, cancel the own task or scope, and return before that can take effect."""
    await maybe_suspend(http)
    await http.reply(b"answered")
    _cancel_self()


def _cancel_self() -> None:
    if runs_on_trio():
        scope = anyio.CancelScope()
        scope.__enter__()
        scope.cancel()
    else:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


# Apps that raise what nobody expects

BASE_EXCEPTIONS: dict[str, BaseException | type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopAsyncIteration": StopAsyncIteration,
    "BaseExceptionGroup": BaseExceptionGroup("both", [SystemExit(3), ValueError("this")]),
}


async def base_exception(http: Exchange) -> None:
    await maybe_suspend(http)
    raise BASE_EXCEPTIONS[http.query["kind"]]


async def late_base_exception(http: Exchange) -> None:
    """Raise it once the answer has begun."""
    await http.start()
    await http.body(b"some of it", more=True)
    await maybe_suspend(http)
    raise BASE_EXCEPTIONS[http.query["kind"]]


async def exception_context(http: Exchange) -> None:
    """Whether an exception in the app has a context that is the server's and not its own."""
    await maybe_suspend(http)
    try:
        raise ValueError("mine")
    except ValueError as error:
        await http.reply_json(repr(error.__context__))


async def handled_exception(http: Exchange) -> None:
    """What the app sees as the exception being handled right now, where it handles none."""
    await maybe_suspend(http)
    await http.reply_json(repr(sys.exc_info()[1]))


app = app_of(
    [
        *COMMON,
        endless,
        timer,
        contextvar,
        keep_task,
        cancel_task,
        keep_scope,
        open_scope,
        open_shield,
        open_deadline,
        cancel_scope,
        cancel_self,
        cancel_self_last,
        base_exception,
        late_base_exception,
        exception_context,
        handled_exception,
    ]
)
