"""How long a slow client is waited for, while something of it is to come, or to be taken by it.

There are so many seconds of patience. Time uses them up; bytes that move bring them back, one
second for each `rate` of them, up to the full measure. So a client that stops is given up after
that time, and one that drips soon after it; one that was fast may stop for as long as any other.
With rate 0 any byte brings back all of it.
"""

from __future__ import annotations

from math import inf

__all__ = ["Patience"]


class Patience:
    """Patience with one client about one thing; it lasts for ever until `begin`."""

    __slots__ = ("_rate", "_seconds", "due")

    def __init__(self, seconds: float, rate: int) -> None:
        """`seconds`: the full measure, 0 for no end; `rate`: bytes a second."""
        self._seconds = seconds or inf
        self._rate = rate
        self.due = inf
        """When it is at its end, by the loop's clock."""

    def begin(self, now: float) -> None:
        """It is the client's turn: have the full measure."""
        self.due = now + self._seconds

    def rest(self) -> None:
        """It is not the client's turn."""
        self.due = inf

    def moved(self, count: int, now: float) -> None:
        """So many bytes have come, or were taken."""
        full = now + self._seconds
        if self._rate:
            self.due = min(full, self.due + count / self._rate)
        elif count:
            self.due = full
