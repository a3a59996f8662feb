"""Memory that a reactor shares with the front end: what its app does now, and what it has begun.

A reactor whose loop is stalled can send no message. Memory can be read nevertheless: the reactor
writes it as it goes on, and the front end looks when it has to know. It belongs to neither room.

    bytes        what stands there                                          who writes
    0 to 7       a float: since when a step of an app runs in the loop,     reactor
                 in seconds of CLOCK_MONOTONIC; 0.0 between steps
    8 to 15      an integer: the number of the last exchange of the         reactor
                 express lane that has begun
    16 and on    a byte for each lane: NOT_BEGUN, BEGUN or WAITS, of the    front end, before it
                 exchange on that lane                                      sends a request; reactor

An exchange has begun when its app is about to be called. The reactor says so before it calls the
app: what has not begun by these words has had no effect. Numbers of the express lane grow, and the
reactor begins its exchanges in that order, so one number tells of them all. Those of lanes begin in
any order, and each lane has one exchange at a time, so each has a byte. Which byte that is, its
slot, the front end says as it opens the lane.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, TypeAlias

__all__ = [
    "BEGUN",
    "DISTRUST",
    "HELD_UP_AFTER",
    "NOT_BEGUN",
    "SLOTS",
    "SLOW",
    "WAITS",
    "Pulse",
    "Word",
]

HELD_UP_AFTER: Final = 0.001
"""Seconds that a step may take before the loop counts as held up."""
SLOW: Final = 0.005
"""Seconds of a step after which the loop is distrusted for a while."""
DISTRUST: Final = 1.0
"""Seconds for which that is so. Meanwhile the front end bounds what the reactor has not begun, and
the reactor tells the end of each batch."""

NOT_BEGUN: Final = 0
BEGUN: Final = 1
WAITS: Final = 2
"""It has begun, and its app waits for more of the request's body."""

Word: TypeAlias = "memoryview[float]"

_SIZE: Final = 65536
_LANES: Final = 16
SLOTS: Final = _SIZE - _LANES
"""Lanes that can have a byte, at once."""


class Pulse:
    """This memory, as three views."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: of the memory, which may be closed then; None: memory that is not shared.

        Raises OSError where memory or descriptors are short, and ValueError if `fd` is no memory of
        this size.
        """
        self._memory = mmap.mmap(-1 if fd is None else fd, _SIZE)
        self._view = memoryview(self._memory)
        self.since: Word = self._view[:8].cast("d")
        self.begun: memoryview[int] = self._view[8:_LANES].cast("Q")
        self.lanes: memoryview[int] = self._view[_LANES:]

    @classmethod
    def share(cls) -> tuple[Pulse, int]:
        """A new one, and the descriptor by which another process has it too. Raises OSError."""
        fd = os.memfd_create("reactor-run-pulse", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _SIZE)
            return cls(fd), fd
        except OSError:
            os.close(fd)
            raise

    def close(self) -> None:
        """Give back the memory, and the descriptor that Python keeps of it."""
        for view in self.since, self.begun, self.lanes, self._view:
            view.release()
        self._memory.close()
