"""A Litestar app with WebSockets as its users write them. GET /seen tells what it has seen."""

# Litestar reads the annotations of handlers, so they are no strings here.
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from litestar import Litestar, WebSocket, get, websocket, websocket_listener, websocket_stream
from litestar.connection import ASGIConnection
from litestar.exceptions import (
    NotAuthorizedException,
    WebSocketDisconnect,
    WebSocketException,
)
from litestar.handlers.base import BaseRouteHandler

seen: list[list[Any]] = []


@get("/seen")
async def tell() -> list[list[Any]]:
    return seen


def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.query_params.get("token") != "secret":
        raise NotAuthorizedException("no token")


@websocket("/items/{item_id:int}", guards=[guard])
async def items(socket: WebSocket[Any, Any, Any], item_id: int) -> None:
    await socket.accept(subprotocols="chat.v1")
    await socket.send_json({"item": item_id})
    try:
        while True:
            text = await socket.receive_text()
            await socket.send_text(f"{item_id}: {text}")
    except WebSocketDisconnect as end:
        seen.append(["items", end.code])


@asynccontextmanager
async def listener_lifespan(socket: WebSocket[Any, Any, Any]) -> AsyncIterator[None]:
    seen.append(["listener", "begins"])
    try:
        yield
    finally:
        seen.append(["listener", "ends"])


@websocket_listener("/orders", connection_lifespan=listener_lifespan)
async def orders(data: dict[str, Any]) -> dict[str, Any]:
    if data["count"] > 10:
        raise WebSocketException(detail="out of stock", code=4409)
    return data


@websocket_stream("/feed")
async def feed() -> AsyncGenerator[int, None]:
    number = 0
    try:
        while True:
            yield number
            number += 1
            await anyio.sleep(0.01)
    finally:
        seen.append(["feed", "over"])


app = Litestar([tell, items, orders, feed], openapi_config=None)
