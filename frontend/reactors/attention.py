"""Whether a reactor would begin an exchange at once, as far as the front end can tell.

The front end looks at the reactor's pulse, and at the steps that the reactor has reported. It does
not know how the reactor gets its exchanges.
"""

from __future__ import annotations

from collections.abc import Callable

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.stall_budget import StallBudget
from reactor_run.pulse import NOT_BEGUN, STALLED_AFTER, Pulse

__all__ = ["Attention"]


class Attention:
    """What one reactor does with the exchanges that it has."""

    __slots__ = ("_budget", "_loop", "_pulse", "_stuck", "_unstarted", "stall_seconds")

    def __init__(self, loop: Loop, pulse: Pulse, unstarted: Callable[[], list[Exchange]]) -> None:
        """`unstarted`: returns the exchanges that the reactor was given and has not begun."""
        self._loop = loop
        self._pulse = pulse
        self._unstarted = unstarted
        self._budget = StallBudget()
        self._stuck: Exchange | None = None
        """An exchange that it has had for long and has not begun; None: there is none."""
        self.stall_seconds = 0.0
        """The seconds of all steps of apps that have stalled its loop, and are over."""

    @property
    def attentive(self) -> bool:
        """Whether it would begin an exchange at once, as far as the front end can tell.

        If not, the reactor tells when that changes.
        """
        if self._is_attentive():
            return True
        self._pulse.awaited[0] = 1
        # It may have changed before the reactor could see that.
        return self._is_attentive()

    def _is_attentive(self) -> bool:
        """Return whether it would begin an exchange at once.

        It is not attentive in three cases. A step of an app stalls its loop, for longer than usual
        (stall_budget.py). It has an exchange that it has not begun for long. Or its stall budget
        allows no more unstarted exchanges.
        """
        since = self._pulse.since[0]
        now = self._loop.now
        if since != 0.0 and now - since > STALLED_AFTER:
            usual = self._budget.usual if now <= self._budget.until else 0.0
            if now - since > usual:
                return False
        if self._stuck is not None and self._is_behind():
            return False
        return now > self._budget.until or self._budget.allows(len(self._unstarted()))

    def _is_behind(self) -> bool:
        """Return whether it has had an exchange for long and has not begun it."""
        stuck = self._stuck
        if stuck is not None and (stuck.app_done or self.has_begun(stuck)):
            stuck = self._stuck = None
        return stuck is not None

    def falls_behind(self, stuck: Exchange) -> None:
        """Note that it has not begun `stuck` for long.

        It is not attentive until it begins the exchange or gives it back.
        """
        self._stuck = stuck

    @property
    def step_began(self) -> float:
        """When the running step of an app began, in seconds of CLOCK_MONOTONIC; 0.0: none runs."""
        return self._pulse.since[0]

    def step_seconds(self, now: float) -> float:
        """Return how long the running step of an app has run, in seconds; 0.0: none runs.

        `now`: the time in seconds of the loop's clock.
        """
        began = self.step_began
        return max(0.0, now - began) if began else 0.0

    def has_begun(self, exchange: Exchange) -> bool:
        """Return whether the app of an exchange was called, or is about to be.

        Do not call this once the app is done.
        """
        if exchange.number:
            return exchange.number <= self._pulse.begun[0]
        return self._pulse.lanes[exchange.slot] != NOT_BEGUN

    def turned(self, seconds: float, served: int) -> None:
        """Note that a step of its app has ended. `served`: how many exchanges it was given."""
        self.stall_seconds += seconds
        self._budget.turned(seconds, served - len(self._unstarted()), self._loop.now)
