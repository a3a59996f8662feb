"""WebSockets: `/echo` sends back what it receives, `/all` sends it to all of its kind."""

from bench.apps.asgi import Message, Receive, Send, answer, with_lifespan
from bench.apps.hello import HELLO

everyone: dict[int, Send] = {}
"""What sends to each WebSocket of `/all`."""


@with_lifespan
async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        await answer(send, HELLO)
        return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/all":
        await _to_all(receive, send)
        return
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def _to_all(receive: Receive, send: Send) -> None:
    everyone[id(send)] = send
    try:
        while (message := await receive())["type"] == "websocket.receive":
            for each in list(everyone.values()):
                await each({"type": "websocket.send", "text": message["text"]})
    finally:
        del everyone[id(send)]
