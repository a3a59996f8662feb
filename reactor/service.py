"""How much an inline WSGI reactor takes at once.

It runs one app call at a time, so its capacity is one, plus a prefetch that saves a round trip to
the front end for each call: as many exchanges as take less than BUDGET together. Behind a slow call
nothing should wait that another reactor could have taken, so an app that has been slow twice within
SLOW_WITHIN seconds gets no prefetch for a while.

Once is not enough: on a busy or virtual machine any call now and then seems slow for reasons that
are not the app's. Where the thread neither went to sleep nor burnt the time itself, the kernel gave
the processor to somebody else, and the call is not counted at all.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Final

__all__ = ["Prefetch"]

BUDGET: Final = 0.001
"""Seconds that all of a prefetch may take."""
PREFETCH_MAX: Final = 64
CALLS: Final = 64
"""Calls whose mean service time decides; before as many were seen, nothing is known of the app."""
SLOW: Final = 0.002
"""Seconds from which on a call is slow."""
SLOW_WITHIN: Final = 1.0
DISTRUST: Final = 5.0
"""Seconds without prefetch after slow calls."""


class Prefetch:
    """Watches service times, and announces the capacity that follows whenever it changes."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self.capacity = 1
        self._calls = 0
        self._spent = 0.0
        """Seconds that the calls since the last decision took."""
        self._slow_at = 0.0
        self._distrust_until = 0.0
        self.begin_batch()

    def begin_batch(self) -> None:
        """The loop has slept, and is about to run calls."""
        self._began = perf_counter()
        self._burnt = thread_time()
        self._sleeps = _sleeps()

    def observe(self) -> None:
        """One app call has ended; it began when the one before ended, or the batch."""
        now = perf_counter()
        took = now - self._began
        self._began = now
        if took > SLOW:
            burnt, sleeps = thread_time(), _sleeps()
            slow = sleeps != self._sleeps or burnt - self._burnt > SLOW
            self._burnt, self._sleeps = burnt, sleeps
            if not slow:
                return
            if now - self._slow_at < SLOW_WITHIN or took > BUDGET * CALLS:
                self._distrust_until = now + DISTRUST
                self._set(1)
            self._slow_at = now
        self._spent += took
        self._calls += 1
        if self._calls == CALLS:
            room = int(BUDGET * CALLS / self._spent)
            self._calls = 0
            self._spent = 0.0
            if room < 2 or now < self._distrust_until:
                self._set(1)
                return
            # Powers of two, and up only with room to spare, so that small changes change nothing.
            capacity = 1 << min(room, PREFETCH_MAX).bit_length() - 1
            if capacity > self.capacity and room < capacity * 3 // 2:
                capacity = max(capacity // 2, self.capacity)
            self._set(capacity)

    def _set(self, capacity: int) -> None:
        if capacity != self.capacity:
            self.capacity = capacity
            self._announce(capacity)


def _sleeps() -> int:
    """How often this thread has waited for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
