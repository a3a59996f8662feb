"""The app for storms of WebSockets: it knows that clients may leave at any time."""

from __future__ import annotations

import json
import os
from typing import Any

import sniffio

Message = dict[str, Any]
PIECE = b"x" * 20_000


async def app(scope: Message, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await _answer(send, [os.getpid(), _tasks()] if scope["path"] == "/tasks" else "hello")
        return
    await receive()
    try:
        await send({"type": "websocket.accept"})
        if scope["path"] == "/stream":
            while True:
                await send({"type": "websocket.send", "bytes": PIECE})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
    except OSError:
        return


async def _answer(send: Any, content: object) -> None:
    body = json.dumps(content).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _tasks() -> int:
    """The number of tasks in this process."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    import asyncio

    return len(asyncio.all_tasks())
