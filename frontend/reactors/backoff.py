"""The backoff before the next start of a process that keeps failing."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Backoff"]


class Backoff(NamedTuple):
    """A pause that doubles with each failure in a row, from `first` to `longest` seconds."""

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after this many failures in a row, at least one."""
        return min(self.first * 2.0 ** (failures - 1), self.longest)
