"""Tells an app's slow step from a step that other processes have interrupted.

On a busy or virtual machine any step may seem slow for reasons outside of the app. If the thread
has not waited since the step began, it was computing, or it had no CPU. Then the CPU time of the
thread is the time of the step.

With several threads this cannot be told, because each thread waits while another one holds the
interpreter's lock.
"""

from __future__ import annotations

import resource
from time import thread_time

__all__ = ["Interruptions"]


class Interruptions:
    """Measures the steps of one thread. All methods are called in it."""

    __slots__ = ("_burnt", "_waits")

    def __init__(self) -> None:
        self._burnt = 0.0
        self._waits = -1

    def begin(self) -> None:
        """A step begins now."""
        self._burnt = thread_time()
        self._waits = _waits()

    def own_seconds(self, took: float) -> float:
        """Return how long the step, which has just taken `took` seconds, would have taken alone.

        Another step begins now.
        """
        burnt, waits = self._burnt, self._waits
        self.begin()
        return min(took, self._burnt - burnt) if self._waits == waits else took


def _waits() -> int:
    """Return how often this thread gave up the CPU to wait (getrusage(2), ru_nvcsw)."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
