"""An app whose start-up fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


async def app(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})
