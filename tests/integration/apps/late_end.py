"""Says that its answer is complete a while after all of its Content-Length was sent."""

from __future__ import annotations

from typing import Any

import anyio

SIZE = 100_000
ended: list[str] = []
"""How each call of the app has ended."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/ended":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(ended).encode()})
        return
    fields = [(b"content-length", str(2 * SIZE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"x" * SIZE, "more_body": True})
    await send({"type": "http.response.body", "body": b"x" * SIZE, "more_body": True})
    with anyio.move_on_after(0.3):
        while True:
            if (await receive())["type"] == "http.disconnect":
                ended.append("cut")
                return
    await send({"type": "http.response.body"})
    ended.append("whole")
