"""Giving others a turn on this processor around the wait for the next batch.

Front end and reactor often share a processor, and there are two moments to give it away:

    after the wait    the other is mostly in the midst of handing over more: let it finish, and all
                      of it is taken at once, with fewer wake-ups and system calls on either side
    before the wait   the other has just been handed something: let it answer, and there is nothing
                      to wait for, which saves putting this process to sleep and waking it

The first is right while there is much to do, the second while there is little; what the last batch
was tells which it is. Where each has a processor of its own either costs next to nothing. A
stranger that computes would keep the processor for milliseconds: then nothing is given for a while.

`--sched-yield off` switches it off in all processes.
"""

from __future__ import annotations

import os
from math import inf
from time import monotonic
from typing import Final

__all__ = ["Turns", "switch_off"]

_FEW: Final = 3
"""Events of a batch below which there is little to do."""
_MANY: Final = 32
"""Events that are worth handling without looking for more."""
_NOBODY: Final = 0.000005
"""Seconds within which the processor comes back if nobody wanted it."""
_TOO_LONG: Final = 0.0025
"""Seconds that nobody who hands over something needs."""
_PAUSE: Final = 0.25
"""Seconds without giving a turn, after somebody took too long."""


_never = False


def switch_off() -> None:
    """Have no loop of this process give turns; to be called before the first is made."""
    global _never
    _never = True


class Turns:
    """The turns that one loop gives."""

    __slots__ = ("_little", "_not_before", "given", "pauses")

    def __init__(self) -> None:
        self._not_before = inf if _never else 0.0
        self._little = True
        self.given = 0
        """Turns that were given."""
        self.pauses = 0
        """Turns that took too long, after which none was given for a while."""

    def before_wait(self) -> None:
        """To be called before the loop asks for events, waiting or not."""
        if self._little:
            self.give()

    def after_wait(self, events: int) -> bool:
        """There were so many events; whether to ask again, since there may be more by now."""
        again = not self._little and 0 < events < _MANY and self.give()
        self._little = events < _FEW
        return again

    @property
    def paused(self) -> bool:
        """Somebody took too long a moment ago: nothing is given."""
        return monotonic() < self._not_before

    def give(self) -> bool:
        """Let others run; whether somebody did."""
        began = monotonic()
        if began < self._not_before:
            return False
        os.sched_yield()
        self.given += 1
        taken = monotonic() - began
        if taken > _TOO_LONG:
            self._not_before = began + _PAUSE
            self.pauses += 1
        return taken > _NOBODY
