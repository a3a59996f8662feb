"""Apps that answer with what they saw of a request, in the same form for both interfaces."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Scope = dict[str, Any]
Environ = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

Seen = dict[str, Any]
"""method, target (path and query as sent), path (decoded), version, fields, body (latin-1)."""


def seen_in_scope(scope: Scope, body: bytes) -> Seen:
    """Return what an ASGI app sees. The fields of one name are joined, as WSGI does."""
    fields: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        separator = "; " if key == "cookie" else ", "
        fields[key] = fields[key] + separator + text if key in fields else text
    query = scope["query_string"].decode("latin-1")
    return {
        "method": scope["method"],
        "target": scope["raw_path"].decode("latin-1") + ("?" + query if query else ""),
        "path": scope["path"],
        "version": scope["http_version"],
        "fields": fields,
        "body": body.decode("latin-1"),
    }


def seen_in_environ(environ: Environ, body: bytes) -> Seen:
    """Return what a WSGI app sees. An absolute-form is reduced to path and query, as ASGI does."""
    fields = {
        key.removeprefix("HTTP_").replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    target = environ["REQUEST_URI"]
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    if target == "*":
        path = "*"
    elif not target.startswith("/"):
        target = re.sub(r"^[a-z]+://[^/?]*", "", target, flags=re.IGNORECASE)
        if target[:1] != "/":
            target = "/" + target
    return {
        "method": environ["REQUEST_METHOD"],
        "target": target.removesuffix("?"),
        "path": path,
        "version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "fields": fields,
        "body": body.decode("latin-1"),
    }


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer once the body is complete. A client that leaves before gets no answer."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = json.dumps(seen_in_scope(scope, body)).encode()
    length = (b"content-length", str(len(answer)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})


def wsgi(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    answer = json.dumps(seen_in_environ(environ, environ["wsgi.input"].read())).encode()
    status = "200 Whatever"
    start_response(status, [("Content-Length", str(len(answer)))])
    return [answer]
