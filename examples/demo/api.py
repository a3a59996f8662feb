"""The demo's API: FastAPI. Its routes begin with /api in the service, and not here."""

import asyncio
import os
import signal
import time
from typing import Annotated

from fastapi import Body, FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

app = FastAPI(title="reactor-run demo")
preflights = 0
"""How many preflights have reached this app: none, as the front end answers them."""


@app.middleware("http")
async def count_preflights(request: Request, call_next: RequestResponseEndpoint) -> Response:
    global preflights
    preflights += request.method == "OPTIONS"
    return await call_next(request)


@app.get("/hello")
async def hello(name: str) -> dict[str, object]:
    loop = type(asyncio.get_running_loop()).__module__
    return {"message": f"Hello, {name}", "pid": os.getpid(), "loop": loop}


@app.put("/note")
async def put_note(text: Annotated[str, Body(embed=True)]) -> dict[str, object]:
    """A browser asks before it lets a page of another origin do this: a preflight."""
    return {"text": text, "preflights": preflights}


@app.post("/crash")
async def crash() -> None:
    """End this reactor."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.post("/hang")
async def hang() -> None:
    """Stall the loop of this reactor, until the front end kills it."""
    time.sleep(3600)  # noqa: ASYNC251 - this is the fault that it shows
