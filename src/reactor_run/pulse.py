"""A word of memory that a reactor shares with the front end: since when one step of an app holds up
the reactor's loop.

No message can tell that a loop is held up, since it would have to come from that loop. Memory can:
the reactor writes the time before each step and zero after it, and the front end looks when it
chooses who gets a request. It belongs to neither room.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, TypeAlias

__all__ = ["DISTRUST", "HELD_UP_AFTER", "SLOW", "Pulse", "Word", "unshared"]

HELD_UP_AFTER: Final = 0.001
"""Seconds that a step may take before the loop counts as held up."""
SLOW: Final = 0.005
"""Seconds of a step after which the loop is distrusted for a while."""
DISTRUST: Final = 1.0
"""Seconds for which that is so. Meanwhile the front end bounds what the reactor has not begun, and
the reactor tells the end of each batch."""

Word: TypeAlias = "memoryview[float]"
"""One float: seconds of the monotonic clock, which all processes share; 0.0 between steps."""

_SIZE: Final = 8


class Pulse:
    """A word that is shared; raises OSError where memory or descriptors are short."""

    def __init__(self, fd: int) -> None:
        """`fd`: of the memory, which may be closed then. Raises ValueError if it is none."""
        self._memory = mmap.mmap(fd, _SIZE)
        self.word: Word = memoryview(self._memory).cast("d")

    @classmethod
    def share(cls) -> tuple[Pulse, int]:
        """A new one, and the descriptor by which another process has it too."""
        fd = os.memfd_create("reactor-run-pulse", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _SIZE)
            return cls(fd), fd
        except OSError:
            os.close(fd)
            raise

    def close(self) -> None:
        """Give back the memory, and the descriptor that Python keeps of it."""
        self.word.release()
        self._memory.close()


def unshared() -> Word:
    """A word that nobody else reads."""
    return memoryview(bytearray(_SIZE)).cast("d")
