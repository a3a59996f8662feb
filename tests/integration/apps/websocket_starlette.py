"""A Starlette app with WebSockets as its users write them. GET /seen tells what it has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

seen: list[list[Any]] = []


class Cookie(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.cookies.get("user")
        return None if name is None else (AuthCredentials(["member"]), SimpleUser(name))


class Echo(WebSocketEndpoint):
    encoding = "json"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        seen.append(["connect", websocket.path_params["name"]])

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_json({"got": data, "state": websocket.state.greeting})

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        seen.append(["disconnect", close_code])


@requires("member")
async def members(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"hello {websocket.user.display_name}")
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data[::-1])
    seen.append(["members", "over"])


async def fails(websocket: WebSocket) -> None:
    await websocket.accept()
    raise ValueError("the app is broken")


async def url(websocket: WebSocket) -> None:
    await websocket.accept()
    assert websocket.client is not None
    told = {
        "url": str(websocket.url),
        "for": str(websocket.url_for("ws:echo", name="x")),
        "client": websocket.client.host,
    }
    await websocket.send_json(told)
    await websocket.close(3000, "enough")


async def tell(request: Request) -> JSONResponse:
    return JSONResponse(seen)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
    yield {"greeting": "hello"}


app = Starlette(
    routes=[
        Route("/seen", tell),
        Mount(
            "/ws",
            name="ws",
            routes=[
                WebSocketRoute("/echo/{name}", Echo, name="echo"),
                WebSocketRoute("/members", members),
                WebSocketRoute("/fails", fails),
                WebSocketRoute("/url", url),
            ],
        ),
    ],
    middleware=[Middleware(AuthenticationMiddleware, backend=Cookie())],
    lifespan=lifespan,
)
