"""A FastAPI app with WebSockets as its users write them. GET /seen tells what it has seen."""

# FastAPI reads the annotations of handlers, so they are no strings here.
from contextlib import suppress
from typing import Annotated, Any

import anyio
from fastapi import Depends, FastAPI, Header, Query, WebSocket, WebSocketDisconnect
from fastapi.exceptions import WebSocketException
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI()
seen: list[list[Any]] = []
room: set[WebSocket] = set()


class OutOfStock(Exception):
    pass


class Order(BaseModel):
    name: str
    count: int


@app.exception_handler(OutOfStock)
async def out_of_stock(websocket: WebSocket, error: OutOfStock) -> None:
    await websocket.close(4409, "out of stock")


@app.get("/seen")
async def tell() -> list[list[Any]]:
    return seen


async def user_of(
    token: Annotated[str | None, Query()] = None, x_token: Annotated[str | None, Header()] = None
) -> str:
    if (token or x_token) != "secret":
        raise WebSocketException(code=1008, reason="no token")
    return "ada"


async def tracked(websocket: WebSocket) -> Any:
    """A dependency with an end, which comes after that of the WebSocket."""
    seen.append(["tracked", "begins"])
    yield "tracked"
    seen.append(["tracked", "ends", websocket.url.path])


@app.websocket("/items/{item_id}")
async def items(
    websocket: WebSocket,
    item_id: int,
    user: Annotated[str, Depends(user_of)],
    _: Annotated[str, Depends(tracked)],
    q: str = "none",
) -> None:
    await websocket.accept()
    await websocket.send_json({"item": item_id, "user": user, "q": q})
    async for text in websocket.iter_text():
        await websocket.send_text(f"{item_id}: {text}")
    seen.append(["items", "over"])


@app.websocket("/late-token")
async def late_token(websocket: WebSocket) -> None:
    await websocket.accept()
    if await websocket.receive_text() != "secret":
        raise WebSocketException(code=1008, reason="wrong token")
    await websocket.send_text("welcome")
    await websocket.close()


@app.websocket("/orders")
async def orders(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        order = Order.model_validate(await websocket.receive_json())
        if order.count > 10:
            raise OutOfStock
        await websocket.send_json({"ordered": order.model_dump()})


@app.websocket("/denied")
async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(JSONResponse({"detail": "pay first"}, 402))


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """All who are here get what one of them says."""
    await websocket.accept(subprotocol="chat.v1", headers=[(b"x-room", b"main")])
    room.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            for each in list(room):
                await each.send_text(text)
    except WebSocketDisconnect as end:
        seen.append(["chat", end.code, end.reason])
    finally:
        room.discard(websocket)


@app.websocket("/feed")
async def feed(websocket: WebSocket) -> None:
    """Send in one task, and wait for the disconnect in another. Either may notice it first."""
    await websocket.accept()

    async def send() -> None:
        number = 0
        # It may be the first to find the client gone.
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.send_json({"number": number})
                number += 1
                await anyio.sleep(0.01)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while websocket.client_state.name != "DISCONNECTED":
                await websocket.receive()
            tasks.cancel_scope.cancel()
    finally:
        seen.append(["feed", "over"])


@app.websocket("/pour")
async def pour(websocket: WebSocket) -> None:
    """Send until that fails."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("more")
    finally:
        seen.append(["pour", "over"])
