"""An ASGI app with endless event streams, each of which notices its end in another way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import sniffio

from tests.integration.apps.asgi_kit import COMMON, Exchange, app_of

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def until_told(http: Exchange) -> None:
    """Ends when `receive` tells of the disconnect, as sse-starlette does."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            while (await http.receive())["type"] != "http.disconnect":
                pass
            http.note("until-told ends")
            group.cancel_scope.cancel()

        group.start_soon(listen)
        await http.start(fields=EVENTS)
        while True:
            await http.body(b"data: 1\n\n", more=True)
            await anyio.sleep(60)


async def until_send_fails(http: Exchange) -> None:
    """Ends when `send` raises."""
    await http.start(fields=EVENTS)
    try:
        while True:
            await http.body(b"data: 1\n\n", more=True)
            await anyio.sleep(0.01)
    except OSError:
        http.note("until-send-fails ends")


async def until_a_task_fails(http: Exchange) -> None:
    """Sends in a task group, which raises a group of errors."""
    async with anyio.create_task_group() as group:

        async def send() -> None:
            await http.start(fields=EVENTS)
            try:
                while True:
                    await http.body(b"data: 1\n\n", more=True)
                    await anyio.sleep(0.01)
            finally:
                http.note("until-a-task-fails ends")

        group.start_soon(send)


async def until_starlette_fails(http: Exchange) -> None:
    """Starlette's own response, which raises ClientDisconnect."""
    from starlette.responses import StreamingResponse

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: 1\n\n"
            await anyio.sleep(0.01)

    try:
        response: Any = StreamingResponse(events(), media_type="text/event-stream")
        await response(http.scope, http.receive, http.send)
    finally:
        http.note("until-starlette-fails ends")


async def until_cancelled(http: Exchange) -> None:
    """Waits for its next event for ever."""
    await http.start(fields=EVENTS)
    await http.body(b"data: 1\n\n", more=True)
    if sniffio.current_async_library() == "trio":
        import trio

        wait: Callable[[], Any] = trio.Event().wait
    else:
        import asyncio

        wait = asyncio.Event().wait
    try:
        await wait()
    finally:
        http.note("until-cancelled ends")


async def finite(http: Exchange) -> None:
    """The answer of a language model: it ends when the gate is open."""
    await http.start(fields=EVENTS)
    await http.body(b"data: 1\n\n", more=True)
    http.note("finite has begun")
    await http.gate()
    await http.body(b"data: 2\n\n")


async def file_like(http: Exchange) -> None:
    """Streams something else, until the gate is open."""
    await http.start(fields=[(b"content-type", b"text/plain")])
    await http.body(b"first", more=True)
    await http.gate()
    await http.body(b"last")


async def late(http: Exchange) -> None:
    """A stream that begins when the gate is open, and lasts."""
    http.note("late was asked")
    await http.gate()
    await until_told(http)


app = app_of(
    [
        *COMMON,
        until_told,
        until_send_fails,
        until_a_task_fails,
        until_starlette_fails,
        until_cancelled,
        finite,
        file_like,
        late,
    ]
)
