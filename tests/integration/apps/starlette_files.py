"""Starlette's own file responses, as its documentation shows them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route


async def file(request: Request) -> FileResponse:
    return FileResponse(request.query_params["path"])


app = Starlette(routes=[Route("/file", file)])
