"""FastAPI as services use it: a validated body, one awaited call to a backend, 10 KB of JSON.

The backend is bench.backend. Its connections are kept and shared, as a database driver does it,
with anyio, so that this runs on Trio, asyncio and uvloop.
"""

import os
from typing import Annotated

import anyio
from anyio.abc import SocketStream
from fastapi import FastAPI, Path, Response
from pydantic import BaseModel, Field

from bench.apps.fastapi_items import Order


class Offer(BaseModel):
    sku: str
    name: Annotated[str, Field(max_length=200)]
    seller: int
    price: float
    stock: int
    tags: list[str]


class Quote(BaseModel):
    shop: int
    customer: str
    rate: float
    offers: list[Offer]


app = FastAPI()
_OFFERS = [
    Offer(
        sku=f"sku-{number:05}",
        name=f"Offer {number} of the day, with free delivery to your door within three days",
        seller=number * 7919 % 10_007,
        price=number * 1.25,
        stock=number * 31 % 97,
        tags=["new", "sale", f"section-{number % 8}"],
    )
    for number in range(58)
]
_idle: list[SocketStream] = []
"""Connections to the backend that no request uses."""


async def ask_backend(key: str) -> float:
    """The rate of this customer: one line there, one line back."""
    stream = _idle.pop() if _idle else await _connect()
    await stream.send(f"{key}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive()
    _idle.append(stream)
    return float(line)


async def _connect() -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", int(os.environ["BENCH_BACKEND"]))


@app.get("/")
async def index() -> dict[str, str]:
    return {"framework": "FastAPI"}


@app.post("/shops/{shop}/orders")
async def quote(shop: Annotated[int, Path(ge=1)], placed: Order) -> Response:
    rate = await ask_backend(placed.customer)
    answer = Quote(shop=shop, customer=placed.customer, rate=rate, offers=_OFFERS)
    return Response(answer.model_dump_json(), media_type="application/json")
