"""An ASGI app whose WebSockets do what their path says. GET /seen tells what it has seen."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel

from tests.integration.apps.shared import is_open

Message = dict[str, Any]

seen: list[list[Any]] = []
"""What happened in this process: each entry begins with the path."""


async def app(scope: Message, receive: Any, send: Any) -> None:
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["type"] == "http":
        await _http(scope, send)
        return
    assert scope["type"] == "websocket"
    assert await receive() == {"type": "websocket.connect"}
    name = scope["path"].strip("/").replace("-", "_")
    await globals()[f"on_{name}"](scope, receive, send, query)


async def _http(scope: Message, send: Any) -> None:
    body = json.dumps(seen).encode() if scope["path"] == "/seen" else b"http"
    fields = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _accept(send: Any, **more: Any) -> None:
    await send({"type": "websocket.accept", **more})


async def _text(send: Any, text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def _until_disconnect(path: str, receive: Any) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        seen.append([path, message.get("text")])
    seen.append([path, message["code"], message["reason"]])
    # It stays so.
    assert (await receive()) == message


async def on_echo(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def on_accept_late(scope: Message, receive: Any, send: Any, query: Message) -> None:
    """Receive in one task, and accept in another one a while later."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_disconnect, "accept-late", receive)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        await _accept(send)


async def on_scope(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)
    fields = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    shown = {name: value for name, value in scope.items() if name not in ("headers", "state")}
    shown["raw_path"] = shown["raw_path"].decode()
    shown["query_string"] = shown["query_string"].decode()
    shown["state"] = sorted(scope.get("state", {}))
    await _text(send, json.dumps({**shown, "headers": fields}))
    await _until_disconnect("scope", receive)


async def on_accept(scope: Message, receive: Any, send: Any, query: Message) -> None:
    fields = [(b"x-app", b"yes"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await _accept(send, subprotocol=query.get("subprotocol"), headers=fields)
    await _until_disconnect("accept", receive)


async def on_refuse(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await send({"type": "websocket.close", "code": 4000})
    seen.append(["refuse", (await receive())["type"]])


async def on_deny(scope: Message, receive: Any, send: Any, query: Message) -> None:
    assert "websocket.http.response" in scope["extensions"]
    fields = [(b"content-type", b"text/plain"), (b"x-app", b"no")]
    start = {"type": "websocket.http.response.start", "status": 401, "headers": fields}
    await send(start)
    for piece in b"not ", b"you":
        await send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
        await anyio.lowlevel.checkpoint()
    await send({"type": "websocket.http.response.body", "body": b"!"})


async def on_fail_early(scope: Message, receive: Any, send: Any, query: Message) -> None:
    raise ValueError("early")


async def on_return_early(scope: Message, receive: Any, send: Any, query: Message) -> None:
    return


async def on_fail(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)
    raise ValueError("late")


async def on_return(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)


async def on_close(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)
    if "code" in query:
        code = int(query["code"])
        await send({"type": "websocket.close", "code": code, "reason": query.get("reason")})
    else:
        await send({"type": "websocket.close"})
    await _until_disconnect("close", receive)


async def on_order(scope: Message, receive: Any, send: Any, query: Message) -> None:
    """Send each message where it is out of order or wrong, and tell what `send` raised."""
    raised = []

    async def attempt(message: Message) -> None:
        try:
            await send(message)
        except Exception as error:
            raised.append(f"{message['type'].removeprefix('websocket.')}: {type(error).__name__}")
        else:
            raised.append(f"{message['type']}: sent")

    await attempt({"type": "websocket.send", "text": "early"})
    await attempt({"type": "websocket.hello"})
    await attempt({"type": "websocket.accept", "subprotocol": "not offered"})
    await attempt({"type": "websocket.accept", "headers": [(b"sec-websocket-accept", b"x")]})
    await attempt({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]})
    await _accept(send)
    await attempt({"type": "websocket.accept"})
    await attempt({"type": "websocket.http.response.start", "status": 400})
    await attempt({"type": "websocket.send"})
    await attempt({"type": "websocket.send", "text": b"bytes"})
    await attempt({"type": "websocket.close", "code": 1005})
    await _text(send, json.dumps(raised))
    raised.clear()
    await send({"type": "websocket.close"})
    await attempt({"type": "websocket.send", "text": "late"})
    await attempt({"type": "websocket.close"})
    seen.append(["order", *raised])


async def on_watch(scope: Message, receive: Any, send: Any, query: Message) -> None:
    await _accept(send)
    await _until_disconnect("watch", receive)
    try:
        await _text(send, "late")
    except OSError:
        seen.append(["watch", "send raises OSError"])
    # It has no effect.
    await send({"type": "websocket.close"})
    seen.append(["watch", "closed"])


async def on_stream(scope: Message, receive: Any, send: Any, query: Message) -> None:
    """Send `count` messages of `size` bytes, and tell how many went."""
    await _accept(send)
    message = {"type": "websocket.send", "bytes": b"x" * int(query["size"])}
    for sent in range(int(query["count"])):
        try:
            await send(message)
        except OSError:
            seen.append(["stream", "OSError"])
            return
        seen[:] = [each for each in seen if each[0] != "sent"]
        seen.append(["sent", sent + 1])
    seen.append(["stream", "all sent"])
    await _until_disconnect("stream", receive)


async def on_deaf(scope: Message, receive: Any, send: Any, query: Message) -> None:
    """Receive nothing until the gate opens, then count bytes."""
    await _accept(send)
    while not is_open(query["gate"]):  # noqa: ASYNC110 - a file tells nobody
        await anyio.sleep(0.005)
    size = count = 0
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("bytes") or message.get("text") or ""
        size += len(data)
        count += 1
        if data == "end":
            await _text(send, f"{count} {size}")


async def on_broadcast(scope: Message, receive: Any, send: Any, query: Message) -> None:
    """Receive in one task and send in another."""
    await _accept(send)

    async def tick() -> None:
        number = 0
        while True:
            await _text(send, str(number))
            number += 1
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await _until_disconnect("broadcast", receive)
        group.cancel_scope.cancel()
