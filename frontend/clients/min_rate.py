"""The minimum rate at which a client must send a body, or take an answer.

A client has a number of seconds. Time uses them up. Bytes that move earn them back, one second for
each `rate` bytes, up to the full number. A client that stops is given up after that time, and one
that drips soon after it. One that was fast may stop for as long as any other. With rate 0 any byte
earns all of them.
"""

from __future__ import annotations

from math import inf

__all__ = ["MinimumRate"]


class MinimumRate:
    """Judges one client and one direction; nothing is due before `begin`."""

    __slots__ = ("_rate", "_seconds", "due")

    def __init__(self, seconds: float, rate: int) -> None:
        """`seconds`: the full number, 0 for no end; `rate`: bytes a second."""
        self._seconds = seconds or inf
        self._rate = rate
        self.due = inf
        """When the client is given up, by the loop's clock."""

    def begin(self, now: float) -> None:
        """It is the client's turn: give it the full number of seconds."""
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
