"""A python-socketio server, as its users write it."""

from __future__ import annotations

from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
app = socketio.ASGIApp(server)


@server.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str] | None) -> None:
    if auth != {"token": "secret"}:
        raise socketio.exceptions.ConnectionRefusedError("no token")
    await server.save_session(sid, {"query": environ["QUERY_STRING"]})
    await server.enter_room(sid, "main")


@server.event
async def add(sid: str, first: int, second: int) -> int:
    return first + second


@server.event
async def reverse(sid: str, data: bytes) -> bytes:
    return data[::-1]


@server.event
async def say(sid: str, text: str) -> None:
    await server.emit("said", {"text": text}, room="main")


@server.event
async def tick(sid: str, count: int) -> None:
    """Send from a task in the background."""

    async def run() -> None:
        for number in range(count):
            await server.emit("tick", number, to=sid)
            await server.sleep(0.01)

    server.start_background_task(run)


@server.event
async def transport_of(sid: str) -> str:
    return str(server.transport(sid))


@server.event
async def disconnect(sid: str, reason: str) -> None:
    await server.emit("left", {"reason": reason}, room="main")
