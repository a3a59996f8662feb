"""Limits how many requests a recently stalled reactor may hold unstarted.

An unstarted exchange may wait behind a stall in one reactor although another reactor is free. So:

1. A step of an app that takes longer than SLOW puts its reactor under a stall budget for
   STALL_BUDGET_SECONDS.
2. Under the budget, the expected cost of all unstarted exchanges in the reactor is at most AT_ONCE.
   The expected cost of one is the time of recent slow steps divided by the exchanges of that time.
   One unstarted exchange is always allowed.
3. If every exchange has a slow step of about the same length, an exchange waits behind such a step
   wherever it goes. Then AHEAD exchanges may wait in the reactor, even during a usual step, so that
   it need not idle. A step that is longer than usual is a stall.

For example, an app whose every twentieth request takes 50 ms gets its requests one by one. An app
that pauses now and then for a garbage collection keeps getting many at once.
"""

from __future__ import annotations

from typing import Final

from reactor_run.pulse import SLOW, STALL_BUDGET_SECONDS

__all__ = ["StallBudget"]

AT_ONCE: Final = 0.0025
"""The budget: seconds of slow steps that all unstarted exchanges of a reactor may cost, as a mean.
"""
AHEAD: Final = 2
"""The least number of unstarted exchanges that a reactor may hold if all exchanges are alike."""
ALIKE: Final = 1.25
"""All exchanges are alike if there are at most this many for each slow step."""
USUAL: Final = 1.25
"""If all exchanges are alike, a usual step takes at most this many times the mean."""
REMEMBERED: Final = 1024
"""The most exchanges without a slow step that count, since the app may have changed."""


class StallBudget:
    """The stall budget of one reactor. Times are seconds of the loop's clock.

    The sums of slow steps decay: each slow step halves the weight of all earlier ones.
    """

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
        """The number of exchanges that the reactor had begun, ever, at the last slow step."""
        self._seconds = 0.0
        """The decaying sum of the seconds of slow steps."""
        self._steps = 0.0
        """The decaying number of slow steps."""
        self._exchanges = 0.0
        """The decaying number of exchanges in which these slow steps occurred."""
        self._longest = 0.0
        """The seconds of the longest slow step. Each slow step halves it."""
        self._window = 1
        """The number of unstarted exchanges that the budget allows."""
        self.until = 0.0
        """When the budget ends."""
        self.usual = 0.0
        """The seconds of a usual step if all exchanges are alike, else 0.0."""

    def turned(self, seconds: float, begun: int, now: float) -> None:
        """Note that a step took `seconds`. `begun`: how many exchanges have begun, ever."""
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
        """Return whether a reactor under the budget may get an exchange beside `unstarted` ones."""
        return unstarted < self._window
