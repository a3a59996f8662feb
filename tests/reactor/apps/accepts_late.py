"""Receives in one task, and accepts the WebSocket in another one when GET /accept has come.

GET /receiving is answered when the first task waits for a message.
"""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

events: dict[str, anyio.Event] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        events.update(receiving=anyio.Event(), accept=anyio.Event())
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        if scope["path"] == "/accept":
            events["accept"].set()
        await events["receiving"].wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
    else:
        await receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_disconnect, receive)
            await anyio.lowlevel.checkpoint()
            events["receiving"].set()
            await events["accept"].wait()
            await send({"type": "websocket.accept"})


async def until_disconnect(receive: Any) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
