"""Routes: a guess at which requests run the same code of an app.

Two requests have the same route if their methods and paths are equal apart from digits. A number in
a path mostly names one object, and the same code serves all such objects.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ROUTE_MAX", "route_of"]

ROUTE_MAX: Final = 200
"""Most bytes of a route. A longer one is cut, so routes that begin alike become one."""

_DIGITS: Final = b"0123456789"


def route_of(method: bytes, target: bytes) -> bytes:
    """Return the route of a request: `GET /orders//lines` for GET /orders/17/lines?page=2."""
    path, _, _ = target.partition(b"?")
    return (method + b" " + path.translate(None, _DIGITS))[:ROUTE_MAX]
