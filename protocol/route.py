"""Which requests are alike, as far as a server can guess: a route of the app's, more or less.

Two requests are, if they have the method and the path in common, but for digits: numbers in paths
name things, and the same code answers for all of them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ROUTE_MAX", "route_of"]

ROUTE_MAX: Final = 200
"""Bytes of a route, at most: longer ones are alike if they begin alike."""

_DIGITS: Final = b"0123456789"


def route_of(method: bytes, target: bytes) -> bytes:
    """`GET /orders//lines` for the targets /orders/17/lines?page=2 and /orders/4/lines of GET."""
    path, _, _ = target.partition(b"?")
    return (method + b" " + path.translate(None, _DIGITS))[:ROUTE_MAX]
