"""How much an inline WSGI reactor takes at once.

It runs one app call at a time, so its capacity is one, plus a prefetch that saves a round trip to
the front end for each call: as many exchanges as take less than BUDGET together by the worst
service time of the last seconds. Apps that answer at once are batched; behind a slow call nothing
waits that another reactor could have taken.

A call that was slow only because the kernel gave the processor to somebody else says nothing about
the app. A slow call counts if the thread went to sleep in it, or burnt the time itself.
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
WINDOW: Final = 2.5
"""Seconds; the worst of this window and of the one before it counts."""


class Prefetch:
    """Watches service times, and announces the capacity that follows whenever it changes."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self.capacity = 1
        self._worst = 0.0
        self._worst_before = 0.0
        self._calls = 0
        self._window_ends = perf_counter() + WINDOW
        self._cpu = thread_time()
        self._sleeps = self._voluntary_switches()

    @staticmethod
    def _voluntary_switches() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    def begin_batch(self) -> None:
        """The loop is about to run calls without going to sleep in between."""
        self._cpu = thread_time()
        self._sleeps = self._voluntary_switches()

    def observe(self, began: float, ended: float) -> None:
        """One app call took from `began` to `ended`, in seconds of perf_counter."""
        took = ended - began
        if took > self._worst:
            if took > BUDGET:
                cpu, sleeps = thread_time(), self._voluntary_switches()
                if sleeps == self._sleeps and cpu - self._cpu < BUDGET:
                    took = min(took, cpu - self._cpu)
                self._cpu, self._sleeps = cpu, sleeps
            self._worst = max(took, self._worst)
            self._decide()
        self._calls += 1
        if ended > self._window_ends or self._calls == PREFETCH_MAX:
            if ended > self._window_ends:
                self._window_ends = ended + WINDOW
                self._worst_before, self._worst = self._worst, 0.0
            self._decide()

    def _decide(self) -> None:
        worst = max(self._worst, self._worst_before)
        room = BUDGET / worst if worst else PREFETCH_MAX
        # Before enough calls were seen, nothing is known of the app.
        if self._calls < PREFETCH_MAX or room < 2:
            capacity = 1
        else:
            # Powers of two, so that small changes are not worth a message.
            capacity = 1 << min(int(room), PREFETCH_MAX).bit_length() - 1
        if capacity != self.capacity:
            self.capacity = capacity
            self._announce(capacity)
