"""Small answers that differ: what was asked for and how large the body was, as JSON.

`/await/MS` first awaits a sleep of so many milliseconds; 0 gives way to other tasks once.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import sniffio
import trio

from bench.apps.asgi import Message, Receive, Send, answer, read_body, with_lifespan

_TYPE = "application/json"


def _content(method: str, path: str, size: int) -> bytes:
    return json.dumps({"method": method, "path": path, "received": size}).encode()


async def _sleep(seconds: float) -> None:
    """The runtime's own sleep: anyio's costs the peers time that has nothing to do with them."""
    if sniffio.current_async_library() == "trio":
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


@with_lifespan
async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    if path.startswith("/await/"):
        await _sleep(float(path.removeprefix("/await/")) / 1e3)
    body = await read_body(receive)
    await answer(send, _content(scope["method"], path, len(body)), _TYPE)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    content = _content(environ["REQUEST_METHOD"], environ["PATH_INFO"], len(body))
    start_response("200 OK", [("Content-Type", _TYPE), ("Content-Length", str(len(content)))])
    return [content]
