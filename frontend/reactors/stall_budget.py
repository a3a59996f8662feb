"""How much a reactor is given at once that nothing is known of yet: any of it may be the next slow
step, and what stands behind that waits although another reactor could have taken it.

A step of an app that takes longer than SLOW makes its reactor distrusted for DISTRUST. Meanwhile
the exchanges that it has and has not begun are bounded: by what slow steps have cost each exchange
lately, all of them together cost AT_ONCE. So an app of which every twentieth request takes 50 ms
gets them one by one, and one that stands still now and then, for a garbage collection, hardly
notices.
"""

from __future__ import annotations

from typing import Final

from reactor_run.pulse import DISTRUST, SLOW

__all__ = ["Trust"]

AT_ONCE: Final = 0.0025
"""Seconds that slow steps may cost, as a mean, among what has not begun."""
REMEMBERED: Final = 1024
"""Exchanges that count at most for the times when all went well: an app may have changed."""


class Trust:
    """What is known of one reactor's loop. Times are seconds of the loop's clock."""

    __slots__ = ("_exchanges", "_seconds", "_slow_at", "_window", "until")

    def __init__(self) -> None:
        self._slow_at = 0
        """Exchanges that it had begun, ever, at the last slow step."""
        self._seconds = 0.0
        """What slow steps took, and"""
        self._exchanges = 0.0
        """among how many exchanges they were; with each slow step all before counts half."""
        self._window = 1
        self.until = 0.0
        """When it is trusted again."""

    def turned(self, seconds: float, begun: int, now: float) -> None:
        """A step has taken so long; so many exchanges have begun, ever."""
        if seconds > SLOW:
            self._seconds = self._seconds / 2 + seconds
            self._exchanges = min(self._exchanges / 2 + begun - self._slow_at, REMEMBERED)
            self._slow_at = begun
            self._window = max(1, int(AT_ONCE * self._exchanges / self._seconds))
            self.until = now + DISTRUST

    def allows(self, unstarted: int) -> bool:
        """Whether a reactor that is distrusted may have another, beside so many unstarted ones."""
        return unstarted < self._window
