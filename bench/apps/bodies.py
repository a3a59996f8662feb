"""Bodies: `GET /N` answers N bytes, `POST` answers what it was sent.

`GET /down/N` streams N bytes in messages of CHUNK bytes; `POST /up` reads a body as it comes and
answers how many bytes it had. Those two never hold more than a piece of the body.
`GET /chunks/COUNT/SIZE` streams so many pieces of this size without saying so beforehand.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final

from bench.apps.asgi import Message, Receive, Send, answer, read_body, with_lifespan

CHUNK: Final = 64 * 1024
"""Bytes of each piece that is streamed, by every server and every client here."""

_PIECE: Final = b"x" * CHUNK


@cache
def _bytes(size: int) -> bytes:
    return b"x" * size


@with_lifespan
async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    if path.startswith("/down/"):
        left = int(path.removeprefix("/down/"))
        fields = [(b"content-length", str(left).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        while left > CHUNK:
            await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
            left -= CHUNK
        await send({"type": "http.response.body", "body": _bytes(left)})
    elif path.startswith("/chunks/"):
        count, piece = _chunks(path)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(count):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/up":
        size = 0
        more = True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await answer(send, str(size).encode())
    elif scope["method"] == "POST":
        await answer(send, await read_body(receive), "application/octet-stream")
    else:
        await answer(send, _bytes(int(path[1:] or "0")), "application/octet-stream")


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path: str = environ["PATH_INFO"]
    if path.startswith("/down/"):
        size = int(path.removeprefix("/down/"))
        start_response("200 OK", [("Content-Length", str(size))])
        return _pieces(size)
    if path.startswith("/chunks/"):
        count, piece = _chunks(path)
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (piece for _ in range(count))
    body = environ["wsgi.input"]
    if path == "/up":
        left = expected = int(environ.get("CONTENT_LENGTH") or 0)
        while left and (piece := body.read(min(left, CHUNK))):
            left -= len(piece)
        content = str(expected - left).encode()
    elif environ["REQUEST_METHOD"] == "POST":
        content = body.read(int(environ.get("CONTENT_LENGTH") or 0))
    else:
        content = _bytes(int(path[1:] or "0"))
    start_response(
        "200 OK",
        [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(content)))],
    )
    return [content]


def _chunks(path: str) -> tuple[int, bytes]:
    _, _, count, size = path.split("/")
    return int(count), _bytes(int(size))


def _pieces(size: int) -> Iterator[bytes]:
    while size > CHUNK:
        yield _PIECE
        size -= CHUNK
    yield _bytes(size)
