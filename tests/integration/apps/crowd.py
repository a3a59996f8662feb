"""An ASGI app that counts how many of its calls run at once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

running = peak = calls = 0


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """`/counts`: what runs, the most that ran since the last question, and how many calls there
    were. `/wait`: wait for the end of the body, or for the client to leave. `/large`: 1 MiB."""
    global running, peak, calls
    if scope["type"] != "http":
        raise NotImplementedError
    body = b"hello"
    if scope["path"] == "/counts":
        body = json.dumps([running, peak, calls]).encode()
        peak = running
        await reply(send, body)
        return
    calls += 1
    running += 1
    peak = max(peak, running)
    try:
        if scope["path"] == "/wait":
            while (await receive()).get("more_body"):
                pass
        if scope["path"] == "/leave":
            while (await receive())["type"] != "http.disconnect":
                pass
        await reply(send, bytes(1 << 20) if scope["path"] == "/large" else body)
    except OSError:
        pass
    finally:
        running -= 1


async def reply(send: Callable[[dict[str, Any]], Awaitable[None]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
