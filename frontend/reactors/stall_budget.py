"""How much a reactor is given at once that nothing is known of yet: any of it may be the next slow
step, and what stands behind that waits although another reactor could have taken it.

A step of an app that takes longer than SLOW puts its reactor under a stall budget for
STALL_BUDGET_SECONDS. Meanwhile the exchanges that it has and has not begun are bounded: by what
slow steps have cost each exchange lately, all of them together cost AT_ONCE. So an app of which
every twentieth request takes 50 ms gets them one by one, and one that stands still now and then,
for a garbage collection, hardly notices.

Where all exchanges are alike, each with a slow step that takes about as long as the others, there
is no better place to wait than behind one of them. So AHEAD may wait in the reactor, also while
such a step runs, and it need not idle until it is given the next. A step that takes longer than
usual is a stall like any other.
"""

from __future__ import annotations

from typing import Final

from reactor_run.pulse import SLOW, STALL_BUDGET_SECONDS

__all__ = ["Trust"]

AT_ONCE: Final = 0.0025
"""Seconds that slow steps may cost, as a mean, among what has not begun."""
AHEAD: Final = 2
"""Exchanges that may wait in a reactor where all are alike."""
ALIKE: Final = 1.25
"""Exchanges for each slow step, at most, where all are alike."""
USUAL: Final = 1.25
"""Times as long as the mean a step may take where all are alike."""
REMEMBERED: Final = 1024
"""Exchanges that count at most for the times when all went well: an app may have changed."""


class Trust:
    """What is known of one reactor's loop. Times are seconds of the loop's clock."""

    __slots__ = (
        "_exchanges",
        "_longest",
        "_seconds",
        "_slow_at",
        "_steps",
        "_window",
        "until",
        "usual",
    )

    def __init__(self) -> None:
        self._slow_at = 0
        """Exchanges that it had begun, ever, at the last slow step."""
        self._seconds = 0.0
        """What slow steps took. With each slow step all before counts half, here and below."""
        self._steps = 0.0
        """How many slow steps these were."""
        self._exchanges = 0.0
        """Among how many exchanges they were."""
        self._longest = 0.0
        """Seconds of the longest slow step."""
        self._window = 1
        self.until = 0.0
        """When it is trusted again."""
        self.usual = 0.0
        """Where all exchanges are alike: how long a step may take, in seconds. Else 0."""

    def turned(self, seconds: float, begun: int, now: float) -> None:
        """A step has taken so long; so many exchanges have begun, ever."""
        if seconds > SLOW:
            self._seconds = self._seconds / 2 + seconds
            self._exchanges = min(self._exchanges / 2 + begun - self._slow_at, REMEMBERED)
            self._steps = self._steps / 2 + 1
            self._longest = max(self._longest / 2, seconds)
            self._slow_at = begun
            usual = USUAL * self._seconds / self._steps
            alike = self._steps > 1 and self._exchanges <= ALIKE * self._steps
            self.usual = usual if alike and self._longest <= usual else 0.0
            least = AHEAD if self.usual else 1
            self._window = max(least, int(AT_ONCE * self._exchanges / self._seconds))
            self.until = now + STALL_BUDGET_SECONDS

    def allows(self, unstarted: int) -> bool:
        """Whether a reactor that is distrusted may have another, beside so many unstarted ones."""
        return unstarted < self._window
