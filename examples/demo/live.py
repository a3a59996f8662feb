"""The demo's WebSockets: a bare ASGI app, written for Trio.

Each client gets a line every second, and what any client says. All of them are in one process.
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

mailboxes: Final[set[trio.MemorySendChannel[str]]] = set()
"""One for each client: what is said to it."""


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await talk(receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 426, "headers": []})
        await send({"type": "http.response.body", "body": b"this is a WebSocket\n"})
    else:
        raise NotImplementedError("there is nothing to start and nothing to end")


async def talk(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    mailbox, mail = trio.open_memory_channel[str](64)
    mailboxes.add(mailbox)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, mail, send)
            nursery.start_soon(tick, send)
            while (message := await receive())["type"] == "websocket.receive":
                publish(str(message.get("text")))
            nursery.cancel_scope.cancel()
    finally:
        mailboxes.discard(mailbox)


async def tick(send: Send) -> None:
    second = 0
    while True:
        line = {"pid": os.getpid(), "second": second, "clients": len(mailboxes)}
        await send({"type": "websocket.send", "text": json.dumps(line)})
        await trio.sleep(1)
        second += 1


async def tell(mail: trio.MemoryReceiveChannel[str], send: Send) -> None:
    async for text in mail:
        await send({"type": "websocket.send", "text": json.dumps({"said": text})})


def publish(text: str) -> None:
    """Tell all clients, apart from those that do not keep up."""
    for mailbox in mailboxes:
        try:
            mailbox.send_nowait(text)
        except trio.WouldBlock:
            pass
