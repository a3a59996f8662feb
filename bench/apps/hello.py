"""13 bytes for every request."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from bench.apps.asgi import Message, Receive, Send, lifespan

HELLO: Final = b"Hello, world!"

_TYPE = "text/plain; charset=utf-8"
_LENGTH = str(len(HELLO))
_ASGI_FIELDS = [(b"content-type", _TYPE.encode()), (b"content-length", _LENGTH.encode())]
_WSGI_FIELDS = [("Content-Type", _TYPE), ("Content-Length", _LENGTH)]


async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    """Answer every request with the same 13 bytes."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": _ASGI_FIELDS})
    await send({"type": "http.response.body", "body": HELLO})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with the same 13 bytes."""
    start_response("200 OK", _WSGI_FIELDS)
    return [HELLO]
