"""The apps that are measured: no framework, so that what is seen is the servers."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

HELLO = b"Hello, world!"

Message = MutableMapping[str, Any]

_TYPE = "text/plain; charset=utf-8"
_LENGTH = str(len(HELLO))
_ASGI_FIELDS = [(b"content-type", _TYPE.encode()), (b"content-length", _LENGTH.encode())]
_WSGI_FIELDS = [("Content-Type", _TYPE), ("Content-Length", _LENGTH)]


async def hello_asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer every request with 13 bytes."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": _ASGI_FIELDS})
    await send({"type": "http.response.body", "body": HELLO})


def hello_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with the same 13 bytes."""
    start_response("200 OK", _WSGI_FIELDS)
    return [HELLO]


async def _lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
