"""Values that have passed their grammar lately, so that it is not asked again for each request."""

from __future__ import annotations

from typing import Final

__all__ = ["SEEN_MAX", "SEEN_SIZE", "Seen"]

SEEN_MAX: Final = 1024
"""Values that are remembered at once."""
SEEN_SIZE: Final = 256
"""Bytes of the longest value that is worth it."""


class Seen(set[bytes]):
    """A set that cannot be made to grow by clients that make up values.

    When it is full it is emptied, and fills again with what is in use: refusing newcomers instead
    would let one client spoil it for good.
    """

    __slots__ = ()

    def remember(self, value: bytes) -> None:
        """Add `value`, if it is short enough."""
        if len(value) <= SEEN_SIZE:
            if len(self) >= SEEN_MAX:
                self.clear()
            self.add(value)
