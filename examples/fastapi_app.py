"""An ordinary FastAPI app: JSON, upload, streaming, lifespan state, background tasks, long poll.

    reactor-run examples.fastapi_app:app

It runs on every runtime (`--runtime trio`, `asyncio` or `uvloop`), because FastAPI uses anyio.
Each reactor is a process with an inbox of its own.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from fastapi import BackgroundTasks, FastAPI, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel


class Inbox:
    """An ordered list of messages. Readers can wait for the next one."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._arrived = anyio.Event()

    async def put(self, message: str) -> None:
        """Add `message`. A coroutine, because FastAPI runs plain functions in a thread."""
        self.messages.append(message)
        self._arrived.set()
        self._arrived = anyio.Event()

    async def wait_beyond(self, seen: int) -> list[str]:
        """Return the messages after the first `seen`. Wait until there is one."""
        while len(self.messages) <= seen:
            await self._arrived.wait()
        return self.messages[seen:]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    yield {"greeting": "hello from the lifespan", "inbox": Inbox()}


app = FastAPI(title="reactor-run example", lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float


class Message(BaseModel):
    text: str


@app.get("/")
async def index() -> dict[str, str]:
    return {"framework": "FastAPI", "docs": "/docs"}


@app.get("/items/{item_id}")
async def read_item(
    item_id: int, q: str | None = None, tag: Annotated[list[str] | None, Query()] = None
) -> dict[str, object]:
    return {"item_id": item_id, "q": q, "tags": tag or []}


@app.post("/items", status_code=201)
async def create_item(item: Item) -> Item:
    return item


@app.get("/missing")
async def missing() -> None:
    raise HTTPException(404, "there is no such thing")


@app.get("/broken")
async def broken() -> None:
    raise RuntimeError("this handler always fails")


@app.get("/thread")
def in_a_thread() -> dict[str, int]:
    """A plain function: FastAPI runs it in a worker thread."""
    return {"pid": os.getpid()}


@app.post("/upload")
async def upload(
    file: Annotated[UploadFile, File()], note: Annotated[str, Form()] = ""
) -> dict[str, object]:
    digest = hashlib.sha256()
    size = 0
    while chunk := await file.read(64 * 1024):
        digest.update(chunk)
        size += len(chunk)
    return {"filename": file.filename, "size": size, "sha256": digest.hexdigest(), "note": note}


@app.get("/stream")
async def stream(lines: Annotated[int, Query(ge=0, le=1_000_000)] = 10) -> StreamingResponse:
    async def produce() -> AsyncIterator[str]:
        for number in range(lines):
            yield f"line {number}\n"

    return StreamingResponse(produce(), media_type="text/plain")


@app.get("/state")
async def state(request: Request) -> dict[str, str]:
    return {"greeting": request.state.greeting}


@app.post("/later", status_code=202)
async def later(message: Message, background: BackgroundTasks, request: Request) -> dict[str, bool]:
    """Respond at once. The message reaches the inbox after the response has been sent."""
    background.add_task(request.state.inbox.put, message.text)
    return {"accepted": True}


@app.post("/inbox", status_code=201)
async def put_message(message: Message, request: Request) -> dict[str, int]:
    inbox: Inbox = request.state.inbox
    await inbox.put(message.text)
    return {"count": len(inbox.messages)}


@app.get("/inbox")
async def wait_for_message(
    request: Request, seen: int = 0, wait: Annotated[float, Query(ge=0, le=60)] = 25
) -> Response:
    """Long poll: return the messages after the first `seen`, or 204 after `wait` seconds."""
    inbox: Inbox = request.state.inbox
    with anyio.move_on_after(wait):
        text = "\n".join(await inbox.wait_beyond(seen))
        return Response(text, media_type="text/plain")
    return Response(status_code=204)
