"""The minimum rate at which a client must send a body or take an answer.

A client has a credit of `seconds`. Time uses it up. Each `rate` bytes that move earn one second, up
to the full credit. So a client that stops is aborted after `seconds`, and one below the rate soon
after that. A fast client earns no more than the full credit. With rate 0 any byte earns all of it.
"""

from __future__ import annotations

from math import inf

__all__ = ["MinimumRate"]


class MinimumRate:
    """The credit of one client in one direction. It has no deadline before `begin`."""

    __slots__ = ("_rate", "_seconds", "due")

    def __init__(self, seconds: float, rate: int) -> None:
        """`seconds`: the full credit; 0: no limit. `rate`: bytes per second."""
        self._seconds = seconds or inf
        self._rate = rate
        self.due = inf
        """When the credit is used up, in seconds of the loop's clock; inf: never."""

    def begin(self, now: float) -> None:
        """Start with the full credit: the client must move bytes from now on."""
        self.due = now + self._seconds

    def rest(self) -> None:
        """Stop: the client need not move bytes now."""
        self.due = inf

    def moved(self, count: int, now: float) -> None:
        """Add credit for `count` bytes that were received or taken."""
        full = now + self._seconds
        if self._rate:
            self.due = min(full, self.due + count / self._rate)
        elif count:
            self.due = full
