"""An app that can be checked: what it answers follows from the request, and it notes each POST.

    GET  /say/TEXT        the text
    GET  /large/SEED      200,000 bytes that follow from the seed, in pieces
    POST /count/ID        notes the ID, reads the body to its end, answers with its SHA-256

The notes are lines in the file that the environment variable LIFE_NOTES names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

from tests.integration.apps.shared import note

Message = MutableMapping[str, Any]

PIECE = 20_000
PIECES = 10


def large(seed: str) -> Iterator[bytes]:
    """The pieces of a large answer."""
    block = hashlib.shake_128(seed.encode()).digest(PIECE)
    for _ in range(PIECES):
        yield block


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    _, kind, text = scope["path"].split("/", 2)
    if kind == "large":
        await send({"type": "http.response.start", "status": 200})
        for piece in large(text):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
        return
    answer = text.encode()
    if kind == "count":
        note(os.environ["LIFE_NOTES"], text)
        body = hashlib.sha256()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body.update(message["body"])
            more = message["more_body"]
        answer = body.hexdigest().encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": answer})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    _, kind, text = environ["PATH_INFO"].split("/", 2)
    if kind == "large":
        start_response("200 OK", [])
        return large(text)
    answer = text.encode()
    if kind == "count":
        note(os.environ["LIFE_NOTES"], text)
        answer = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
