"""Apps of one service, by ASGI and by WSGI, wherever they are mounted.

…/pid    the number of the process
…/hold   the same, after a fifth of a second
WebSocket: sends back what it gets
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import anyio

Message = MutableMapping[str, Any]

HELD = 0.2
"""Seconds."""


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body = str(os.getpid()).encode()
    if scope["path"].endswith("/hold"):
        await anyio.sleep(HELD)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = str(os.getpid()).encode()
    if environ["PATH_INFO"].endswith("/hold"):
        time.sleep(HELD)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
