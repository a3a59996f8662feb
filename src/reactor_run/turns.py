"""Giving others a turn on this processor before a batch is collected.

Front end and reactor often share a processor. When one is woken, the other is mostly in the midst
of handing over more: let it finish, and all of it is taken at once, with fewer wake-ups and fewer
system calls on either side. Where each has a processor of its own this costs next to nothing. A
stranger that computes would keep the processor for milliseconds: then nothing is given for a while.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Final

__all__ = ["Turns"]

_NOBODY: Final = 0.000005
"""Seconds within which the processor comes back if nobody wanted it."""
_TOO_LONG: Final = 0.0025
"""Seconds that nobody who hands over something needs."""
_PAUSE: Final = 0.25
"""Seconds without giving a turn, after somebody took too long."""


class Turns:
    """The turns that one process gives."""

    __slots__ = ("_not_before",)

    def __init__(self) -> None:
        self._not_before = 0.0

    def give(self) -> bool:
        """Let others run; whether somebody did."""
        began = monotonic()
        if began < self._not_before:
            return False
        os.sched_yield()
        taken = monotonic() - began
        if taken > _TOO_LONG:
            self._not_before = began + _PAUSE
        return taken > _NOBODY
