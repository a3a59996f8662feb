"""Values that have passed their grammar lately, so that it is not asked again for each request.

They are kept in plain sets: asking a subclass costs half as much again.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SEEN_MAX", "SEEN_SIZE", "remember"]

SEEN_MAX: Final = 1024
"""Values that are remembered at once."""
SEEN_SIZE: Final = 256
"""Bytes of the longest value that is worth it."""


def remember(seen: set[bytes], value: bytes) -> None:
    """Add `value`, if it is short enough, to a set that clients cannot make grow.

    When it is full it is emptied, and fills again with what is in use: refusing newcomers instead
    would let one client spoil it for good.
    """
    if len(value) <= SEEN_SIZE:
        if len(seen) >= SEEN_MAX:
            seen.clear()
        seen.add(value)
