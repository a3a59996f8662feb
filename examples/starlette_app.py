"""An ordinary Starlette app: JSON, upload, streaming, lifespan state, background task, long poll.

    reactor-run examples.starlette_app:app

It runs on every runtime (`--runtime trio`, `asyncio` or `uvloop`). Each reactor is a process with a
counter of its own.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


class Counter:
    """A number. Readers can wait until it grows."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = anyio.Event()

    async def increase(self) -> None:
        """Add one. A coroutine, because Starlette runs plain functions in a thread."""
        self.value += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_beyond(self, seen: int) -> int:
        while self.value <= seen:
            await self._changed.wait()
        return self.value


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"greeting": "hello from the lifespan", "counter": Counter()}


async def index(request: Request) -> Response:
    return JSONResponse({"framework": "Starlette", "client": request.client})


async def user(request: Request) -> Response:
    return JSONResponse(
        {"user": request.path_params["name"], "query": list(request.query_params.multi_items())}
    )


async def echo(request: Request) -> Response:
    media_type = request.headers.get("content-type", "application/octet-stream")
    return Response(await request.body(), media_type=media_type)


async def upload(request: Request) -> Response:
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(400, "send a file in the field 'file'")
        digest = hashlib.sha256()
        size = 0
        while chunk := await file.read(64 * 1024):
            digest.update(chunk)
            size += len(chunk)
        return JSONResponse({"filename": file.filename, "size": size, "sha256": digest.hexdigest()})


async def stream(request: Request) -> Response:
    lines = int(request.query_params.get("lines", "10"))

    async def produce() -> AsyncIterator[str]:
        for number in range(lines):
            yield f"line {number}\n"

    return StreamingResponse(produce(), media_type="text/plain")


async def state(request: Request) -> Response:
    return JSONResponse({"greeting": request.state.greeting})


async def later(request: Request) -> Response:
    """Respond at once. Count after the response has been sent."""
    task = BackgroundTask(request.state.counter.increase)
    return PlainTextResponse("counted soon\n", status_code=202, background=task)


async def count(request: Request) -> Response:
    """Long poll: return the count when it exceeds `seen`, or 204 after `wait` seconds."""
    seen = int(request.query_params.get("seen", "0"))
    with anyio.move_on_after(float(request.query_params.get("wait", "25"))):
        return JSONResponse({"count": await request.state.counter.wait_beyond(seen)})
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/", index),
        Route("/users/{name}", user),
        Route("/echo", echo, methods=["POST", "PUT"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/state", state),
        Route("/later", later, methods=["POST"]),
        Route("/count", count),
    ],
    lifespan=lifespan,
)
