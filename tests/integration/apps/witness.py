"""Apps that testify what they were given: `asgi` and `wsgi`.

Each answer tells, in the field `x-witness`, what the app saw of its request; `/testimony` answers
with all that it has seen since it was asked last. What an app does with a body, the field `x-do` of
its request says:

    read    read it, then answer (also where there is no such field)
    some    read what comes first, then answer
    early   answer, and read nothing
    late    answer, then read it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tests.integration.apps.asgi_kit import Receive, Scope, Send
from tests.integration.apps.wsgi import Environ, StartResponse

PIECE = 65536


class Sight:
    """One request, as an app sees it."""

    def __init__(self, method: str, target: str) -> None:
        self.method = method
        self.target = target
        self.size = 0
        self.whole = False
        """The body was read to its end."""
        self._digest = hashlib.sha256()
        seen.append(self)

    def read(self, data: bytes) -> None:
        self.size += len(data)
        self._digest.update(data)

    def told(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "target": self.target,
            "size": self.size,
            "sha256": self._digest.hexdigest(),
            "whole": self.whole,
        }


seen: list[Sight] = []


def testimony() -> bytes:
    """All since the last testimony."""
    told = [sight.told() for sight in seen]
    seen.clear()
    return json.dumps(told).encode()


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    if target == b"/testimony":
        await answer(send, testimony())
        return
    sight = Sight(scope["method"], target.decode("ascii"))
    do = dict(scope["headers"]).get(b"x-do", b"read")
    if do in (b"early", b"late"):
        await answer(send, b"", sight)
    while do != b"early" and not sight.whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        sight.read(message.get("body", b""))
        sight.whole = not message.get("more_body", False)
        if do == b"some":
            break
    if do in (b"read", b"some"):
        await answer(send, b"", sight)


async def answer(send: Send, body: bytes, sight: Sight | None = None) -> None:
    fields = [(b"content-length", b"%d" % len(body))]
    if sight is not None:
        fields.append((b"x-witness", json.dumps(sight.told()).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    method, target = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
    if target == "/testimony":
        start_response("200 OK", [])
        yield testimony()
        return
    sight = Sight(method, target)
    do = environ.get("HTTP_X_DO", "read")
    for late in (False, True):
        if late == (do == "late"):
            while do != "early" and not sight.whole:
                piece = environ["wsgi.input"].read(PIECE)
                sight.read(piece)
                sight.whole = not piece
                if do == "some":
                    break
        if not late:
            fields = [("Content-Length", "0"), ("X-Witness", json.dumps(sight.told()))]
            start_response("200 OK", fields)
            yield b""
