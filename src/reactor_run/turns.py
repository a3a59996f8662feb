"""Yielding the CPU to the other process around the wait for events.

Front end and reactor often share a CPU. There are two moments to yield it:

    after the wait    the other process is mostly about to hand over more. If it finishes first, all
                      of it is taken in one batch: fewer wake-ups and system calls on both sides
    before the wait   the other process has just been handed something. If it answers first, this
                      process need not be put to sleep and woken

The first is right under high load, the second under low load. The size of the last batch tells
which applies. If each process has a CPU of its own, yielding costs next to nothing. A third process
that computes would keep the CPU for milliseconds. After such a yield there is a pause.

`--sched-yield off` switches it off in all processes.
"""

from __future__ import annotations

import os
from math import inf
from time import monotonic
from typing import Final

__all__ = ["Turns", "switch_off"]

_FEW: Final = 3
"""Load is low if a batch has fewer events than this."""
_MANY: Final = 32
"""A batch with at least this many events is handled without looking for more."""
_NOT_WANTED: Final = 0.000005
"""If a yield takes fewer seconds than this, no other process wanted the CPU."""
_TOO_LONG: Final = 0.0025
"""A yield that takes more seconds than this went to a process other than ours."""
_PAUSE: Final = 0.25
"""Seconds without yielding after a yield that took too long."""


_never = False


def switch_off() -> None:
    """Have no loop of this process yield. Call it before the first `Turns` is made."""
    global _never
    _never = True


class Turns:
    """The yields of one loop."""

    __slots__ = ("_little", "_not_before", "given", "pauses")

    def __init__(self) -> None:
        self._not_before = inf if _never else 0.0
        self._little = True
        self.given = 0
        """How many times the loop has yielded."""
        self.pauses = 0
        """How many yields took too long, so that a pause followed."""

    def before_wait(self) -> None:
        """Yield if load is low. Call it before the loop asks for events, waiting or not."""
        if self._little:
            self.give()

    def after_wait(self, events: int) -> bool:
        """Yield after a batch of so many events; return whether to ask for more events at once."""
        again = not self._little and 0 < events < _MANY and self.give()
        self._little = events < _FEW
        return again

    @property
    def paused(self) -> bool:
        """Whether a yield took too long a moment ago, so that none is made now."""
        return monotonic() < self._not_before

    def give(self) -> bool:
        """Yield the CPU; return whether another process ran."""
        began = monotonic()
        if began < self._not_before:
            return False
        os.sched_yield()
        self.given += 1
        taken = monotonic() - began
        if taken > _TOO_LONG:
            self._not_before = began + _PAUSE
            self.pauses += 1
        return taken > _NOT_WANTED
