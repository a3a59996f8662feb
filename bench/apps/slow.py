"""Requests that take a while. Anything else is answered at once.

/burn/MS     uses so many milliseconds of CPU time
/sleep/MS    waits: by ASGI the wait is awaited, by WSGI it blocks the thread
/block/MS    blocks the thread: as /burn does, but the processor is left to the load
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
    path: str = scope["path"].removeprefix(scope["root_path"])
    if (seconds := _milliseconds(path, "/burn/")) is not None:
        burn(seconds)
    elif (seconds := _milliseconds(path, "/sleep/")) is not None:
        await anyio.sleep(seconds)
    elif (seconds := _milliseconds(path, "/block/")) is not None:
        time.sleep(seconds)  # noqa: ASYNC251 - to block is what it is for
    await answer(send, HELLO)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path: str = environ["PATH_INFO"]
    if (seconds := _milliseconds(path, "/burn/")) is not None:
        burn(seconds)
    else:
        for kind in "/sleep/", "/block/":
            if (seconds := _milliseconds(path, kind)) is not None:
                time.sleep(seconds)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]
