"""A page with 100 images, an event stream and a WebSocket, and what its requests came on."""

from __future__ import annotations

import json
from typing import Any

PAGE = """<!doctype html><title>page</title><script>
const events = new EventSource("/events");
events.onmessage = (e) => { window.event = e.data; };
const ws = new WebSocket(location.href.replace("http", "ws") + "ws");
ws.onopen = () => ws.send("hello");
ws.onmessage = (e) => { window.message = e.data; };
</script>""" + "".join(f'<img src="/image/{number}.svg" alt="">' for number in range(100))
IMAGE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>"""
seen: list[tuple[str, str, int]] = []
"""Of each request: its path, the version of HTTP, the port of its client."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    if path != "/seen":
        seen.append((path, scope["http_version"], scope["client"][1]))
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + " back"})
        return
    if path == "/events":
        await answer(send, b"text/event-stream", b"data: one\n\n", more=True)
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    kinds = {"/": (b"text/html", PAGE.encode()), "/seen": (b"text/json", json.dumps(seen).encode())}
    await answer(send, *kinds.get(path, (b"image/svg+xml", IMAGE)))


async def answer(send: Any, kind: bytes, body: bytes, *, more: bool = False) -> None:
    fields = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": more})
