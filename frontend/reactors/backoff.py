"""How long to wait before the next start of a process that keeps failing."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Backoff"]


class Backoff(NamedTuple):
    """A pause that doubles with each failure in a row. Seconds."""

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """Return the pause after so many failures in a row, at least 1."""
        return min(self.first * 2.0 ** (failures - 1), self.longest)
