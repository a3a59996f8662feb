"""Just enough between an app's routes and bare ASGI that a route says only what it is about.

Trio and asyncio are imported where they are used. At the start of a reactor on asyncio, Trio would
take a third of the time.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import anyio
import sniffio

from tests.integration.apps.shared import is_open, note

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fields = Iterable[tuple[bytes, bytes]]


class Disconnected(Exception):
    """`http.disconnect` came before the end of the request body."""


class Exchange:
    """One request and its response, as ASGI shows it to an app."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))

    def number(self, name: str, default: float) -> float:
        return float(self.query.get(name, default))

    def field(self, name: bytes) -> bytes | None:
        return dict(self.scope["headers"]).get(name)

    def note(self, text: str) -> None:
        note(self.query.get("notes", ""), text)

    async def gate(self) -> None:
        """Wait until the test opens the gate that the query names."""
        while not is_open(self.query.get("gate", "")):  # noqa: ASYNC110 - a file tells nobody
            await anyio.sleep(0.005)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The request body as it comes."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            yield message.get("body", b"")

    async def start(self, status: int = 200, fields: Fields = ()) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(fields)})

    async def body(self, data: bytes = b"", *, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, data: bytes, status: int = 200, fields: Fields = ()) -> None:
        """A whole response with Content-Length."""
        length = (b"content-length", str(len(data)).encode())
        await self.start(status, [(b"content-type", b"text/plain"), length, *fields])
        await self.body(data)

    async def reply_json(self, value: Any) -> None:
        await self.reply(json.dumps(value).encode())


Route = Callable[[Exchange], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def app_of(routes: Iterable[Route]) -> App:
    """An app with each function at the path of its name, and a lifespan that starts at once."""
    table = {"/" + route.__name__.replace("_", "-"): route for route in routes}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        exchange = Exchange(scope, receive, send)
        route = table.get(scope["path"].removeprefix(scope["root_path"]))
        if route is None:
            await exchange.reply(b"no such route", 404)
            return
        await route(exchange)

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


# Routes that every app has, so that any test can put a neighbour beside its subject.


async def hello(http: Exchange) -> None:
    await http.reply(http.query.get("say", "hello").encode())


async def pid(http: Exchange) -> None:
    await http.reply_json(os.getpid())


async def wait(http: Exchange) -> None:
    """Answer when the gate is open; the note tells which process waits."""
    http.note(str(os.getpid()))
    await http.gate()
    await http.reply(http.query.get("say", "waited").encode())


async def tasks(http: Exchange) -> None:
    """This process, and how many tasks live in it."""
    if sniffio.current_async_library() == "trio":
        import trio

        count = trio.lowlevel.current_statistics().tasks_living
    else:
        import asyncio

        count = len(asyncio.all_tasks())
    await http.reply_json([os.getpid(), count])


async def leave(http: Exchange) -> None:
    """End the reactor's process."""
    os._exit(3)


COMMON: list[Route] = [hello, pid, wait, tasks, leave]
