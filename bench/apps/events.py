"""Server-sent events for as long as the client stays: `/events` sends one a second, `/events/MS`
one every so many milliseconds.

`data: NUMBER DUE`, where DUE is when the event was to be sent, on the monotonic clock, which all
processes of a machine share.
"""

import time

import anyio

from bench.apps.asgi import Message, Receive, Send, answer, with_lifespan
from bench.apps.hello import HELLO


@with_lifespan
async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    _, route, *period = scope["path"].split("/")
    if route != "events":
        await answer(send, HELLO)
        return
    seconds = float(period[0]) / 1e3 if period else 1.0
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    async with anyio.create_task_group() as group:

        async def leave_with_the_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(leave_with_the_client)
        due = time.monotonic()
        number = 0
        while True:
            event = f"data: {number} {due:.6f}\n\n".encode()
            try:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            except OSError:
                group.cancel_scope.cancel()
            number += 1
            due += seconds
            await anyio.sleep(max(0.0, due - time.monotonic()))
