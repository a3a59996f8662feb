"""How much a WSGI reactor takes at once.

It runs as many app calls at once as it has threads, so that is its capacity; one without threads of
their own, inline. To it comes a prefetch that saves a round trip to the front end for each call: as
many exchanges as take less than BUDGET together. Behind slow calls nothing should wait that another
reactor could have taken, so an app that has been slow twice within SLOW_WITHIN seconds gets no
prefetch for a while: the longer, the slower it was.

Once is not enough: on a busy or virtual machine any call now and then seems slow for reasons that
are not the app's. Where the thread neither went to sleep nor burnt the time itself, the kernel gave
the processor to somebody else, and the call is not counted at all. With several threads that cannot
be told apart, since they sleep whenever another has the interpreter's lock.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Final

__all__ = ["InlinePrefetch", "ThreadsPrefetch"]

BUDGET: Final = 0.001
"""Seconds that all of a prefetch may take."""
PREFETCH_MAX: Final = 64
CALLS: Final = 64
"""Calls whose mean service time decides; before as many were seen, nothing is known of the app."""
SLOW: Final = 0.002
"""Seconds from which on a call is slow."""
SLOW_WITHIN: Final = 1.0
STALLED: Final = 0.01
"""Seconds without a free thread after which what waits for one waits behind slow calls."""
DISTRUST: Final = 50.0
"""How many times as long as a slow call took there is no prefetch after it."""
DISTRUST_MAX: Final = 5.0
"""Seconds without prefetch at most, however slow a call was."""


class _Prefetch:
    """Announces the capacity that follows from service times, whenever it changes."""

    def __init__(self, announce: Callable[[int], None], threads: int) -> None:
        self._announce = announce
        self._threads = threads
        self.capacity = threads
        self._calls = 0
        self._spent = 0.0
        """Seconds that the calls since the last decision took."""
        self._slow_at = 0.0
        self._distrust_until = 0.0

    def _count(self, took: float, now: float) -> None:
        """A call has ended that tells something of the app."""
        if took > SLOW:
            if now - self._slow_at < SLOW_WITHIN or took > BUDGET * CALLS:
                self._distrust(now, took)
            self._slow_at = now
        self._spent += took
        self._calls += 1
        if self._calls == CALLS:
            self._decide(now)

    def _decide(self, now: float) -> None:
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

    def _distrust(self, now: float, seconds: float) -> None:
        """A call has taken so long, or takes so long already."""
        until = now + min(DISTRUST * seconds, DISTRUST_MAX)
        self._distrust_until = max(self._distrust_until, until)
        self._set(1)

    def _set(self, capacity: int) -> None:
        capacity = max(capacity, self._threads)
        if capacity != self.capacity:
            self.capacity = capacity
            self._announce(capacity)


class InlinePrefetch(_Prefetch):
    """Watches the calls that one thread, the loop's, makes one after the other."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        super().__init__(announce, 1)
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
        if took > SLOW and self._had_no_processor():
            return
        self._count(took, now)

    def _had_no_processor(self) -> bool:
        """Whether a call took so long because others had it."""
        burnt, sleeps = thread_time(), _sleeps()
        innocent = sleeps == self._sleeps and burnt - self._burnt <= SLOW
        self._burnt, self._sleeps = burnt, sleeps
        return innocent


class ThreadsPrefetch(_Prefetch):
    """Watches the calls that several threads make; by the loop, which gives and gets exchanges.

    The loop goes on whatever the threads do. So if what was fetched for them still waits and none
    of them has come back for more within STALLED, nothing more is fetched, though no call has ended
    that would tell.
    """

    def __init__(self, announce: Callable[[int], None], threads: int) -> None:
        super().__init__(announce, threads)
        self._in_hand = 0
        """Exchanges that the threads were given, and have not given back."""
        self.moved_at = 0.0
        """When a thread last was free. They set it themselves: the loop may hear of it late."""

    def given(self) -> None:
        """The threads have got one more exchange."""
        self._in_hand += 1
        now = perf_counter()
        if self._in_hand <= self._threads:
            self.moved_at = now
        elif self.capacity > self._threads and now - self.moved_at > STALLED:
            self._distrust(now, now - self.moved_at)

    def withdrawn(self) -> None:
        """The threads do not get one that they were given."""
        self._in_hand -= 1

    def ended(self, took: float) -> None:
        """A thread is done with an exchange, the call of which took so many seconds."""
        self._in_hand -= 1
        self._count(took, perf_counter())


def _sleeps() -> int:
    """How often this thread has waited for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
