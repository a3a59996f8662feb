"""Sets of values that passed their grammar lately, so that the check is not repeated.

They are plain sets: a lookup in a subclass of `set` takes 1.5 times as long.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SEEN_MAX", "SEEN_SIZE", "remember"]

SEEN_MAX: Final = 1024
"""Most values in one set."""
SEEN_SIZE: Final = 256
"""Most bytes of a value that is remembered."""


def remember(seen: set[bytes], value: bytes) -> None:
    """Add `value` to `seen` if it has at most SEEN_SIZE bytes.

    A full set is emptied first, and fills again with the values in use. So clients cannot make it
    grow. If a full set rejected new values instead, one client could fill it for good.
    """
    if len(value) <= SEEN_SIZE:
        if len(seen) >= SEEN_MAX:
            seen.clear()
        seen.add(value)
