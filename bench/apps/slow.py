"""Requests that take a while: `/burn/MS` uses so many milliseconds of CPU time, `/sleep/MS` waits.

By ASGI the wait is awaited, by WSGI it blocks. Anything else is answered at once.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import anyio

from bench.apps.asgi import Message, Receive, Send, answer, with_lifespan
from bench.apps.hello import HELLO


def burn(seconds: float) -> None:
    """Compute until this thread has had so many seconds of CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(200):
            pass


def _milliseconds(path: str, kind: str) -> float | None:
    return float(path[len(kind) :]) / 1e3 if path.startswith(kind) else None


@with_lifespan
async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    if (seconds := _milliseconds(path, "/burn/")) is not None:
        burn(seconds)
    elif (seconds := _milliseconds(path, "/sleep/")) is not None:
        await anyio.sleep(seconds)
    await answer(send, HELLO)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path: str = environ["PATH_INFO"]
    if (seconds := _milliseconds(path, "/burn/")) is not None:
        burn(seconds)
    elif (seconds := _milliseconds(path, "/sleep/")) is not None:
        time.sleep(seconds)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]
