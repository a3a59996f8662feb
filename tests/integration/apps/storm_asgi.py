"""The ASGI app for storms: it knows that clients may leave at any time."""

from __future__ import annotations

import functools

from tests.integration.apps.asgi import download, echo, hash
from tests.integration.apps.asgi_kit import COMMON, Disconnected, Exchange, Route, app_of


def forgiving(route: Route) -> Route:
    """The route, to which a client that leaves is no error."""

    @functools.wraps(route)
    async def forgive(http: Exchange) -> None:
        try:
            await route(http)
        except (Disconnected, OSError):
            return

    return forgive


app = app_of([*COMMON, *map(forgiving, (download, echo, hash))])
