"""The capacity that a WSGI reactor announces to the front end.

The base of the capacity is the number of app calls that run at once: the number of threads, or one
inline. The prefetch comes on top. It saves a round trip to the front end for each call. It is as
many exchanges as take less than BUDGET seconds together.

No exchange should wait behind a slow call if another reactor could take it. So after two slow calls
within SLOW_WITHIN seconds, the prefetch pauses. The slower the call was, the longer is the pause.

One slow call is not enough. On a busy or virtual machine, any call may seem slow for reasons
outside of the app. Inline, a call that other processes have interrupted is not counted
(reactor/loop/interruptions.py).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from reactor_run.reactor.loop.interruptions import Interruptions

__all__ = ["InlinePrefetch", "ThreadsPrefetch"]

BUDGET: Final = 0.001
"""Seconds that all calls of a prefetch may take together."""
PREFETCH_MAX: Final = 64
"""Highest capacity that a prefetch gives."""
CALLS: Final = 64
"""Least calls between two decisions. Each decision uses the mean time of these calls. Before the
first decision there is no prefetch."""
SLOW: Final = 0.002
"""A call that takes more seconds than this is slow."""
SLOW_WITHIN: Final = 1.0
"""Seconds between two slow calls within which the second one pauses the prefetch."""
STALLED: Final = 0.01
"""Seconds without a free thread after which waiting exchanges count as stalled by slow calls."""
PAUSE_FACTOR: Final = 50.0
"""The length of a pause of the prefetch, as a multiple of the time that the slow call took."""
PAUSE_MAX: Final = 5.0
"""Most seconds of one pause of the prefetch."""


class _Prefetch:
    """Computes the capacity from the times of calls, and announces each change."""

    def __init__(self, announce: Callable[[int], None], threads: int) -> None:
        self._announce = announce
        self._threads = threads
        self.capacity = threads
        self._calls = 0
        self._spent = 0.0
        """Seconds that the calls since the last decision took together."""
        self._slow_at = 0.0
        self._paused_until = 0.0

    def _count(self, took: float, now: float) -> None:
        """Count a call that took `took` seconds and ended at `now`."""
        if took > SLOW:
            if now - self._slow_at < SLOW_WITHIN or took > BUDGET * CALLS:
                self._pause(now, took)
            self._slow_at = now
        self._add(1, took, now)

    def _add(self, calls: int, took: float, now: float) -> None:
        """Count calls that took `took` seconds together. The last one ended at `now`."""
        self._spent += took
        self._calls += calls
        if self._calls >= CALLS:
            self._decide(now)

    def _decide(self, now: float) -> None:
        room = int(BUDGET * self._calls / self._spent)
        self._calls = 0
        self._spent = 0.0
        if room < 2 or now < self._paused_until:
            self._set(1)
            return
        # The capacity is a power of two, and rises only if there is spare room. So it does not
        # follow small changes.
        capacity = 1 << min(room, PREFETCH_MAX).bit_length() - 1
        if capacity > self.capacity and room < capacity * 3 // 2:
            capacity = max(capacity // 2, self.capacity)
        self._set(capacity)

    def _pause(self, now: float, seconds: float) -> None:
        """Pause the prefetch after a call that took `seconds`, or has already taken them."""
        until = now + min(PAUSE_FACTOR * seconds, PAUSE_MAX)
        self._paused_until = max(self._paused_until, until)
        self._set(1)

    def _set(self, capacity: int) -> None:
        capacity = max(capacity, self._threads)
        if capacity != self.capacity:
            self.capacity = capacity
            self._announce(capacity)


class InlinePrefetch(_Prefetch):
    """Measures calls that run inline, one after another in the loop's thread.

    A batch is counted as a whole, except its slow calls.
    """

    def __init__(self, announce: Callable[[int], None]) -> None:
        super().__init__(announce, 1)
        self._interruptions = Interruptions()

    def begin_batch(self) -> None:
        """Handle that the first call of a batch begins."""
        self._interruptions.begin()

    def long(self, took: float, now: float) -> None:
        """Count a call that has just ended, perhaps a slow one."""
        if took <= SLOW or self._interruptions.own_seconds(took) > SLOW:
            self._count(took, now)

    def short(self, calls: int, took: float, now: float) -> None:
        """Count calls of a batch, none of which was slow. They took `took` seconds together."""
        if calls:
            self._add(calls, took, now)


class ThreadsPrefetch(_Prefetch):
    """Measures calls that run in several threads. All methods are called in the loop's thread.

    The loop goes on while the threads run. If prefetched exchanges wait, and no thread has been
    free for STALLED seconds, the prefetch pauses, although no call has ended yet.
    """

    def __init__(self, announce: Callable[[int], None], threads: int) -> None:
        super().__init__(announce, threads)
        self._in_hand = 0
        """Exchanges that were given to the threads and have not ended."""
        self.moved_at = 0.0
        """The time of `perf_counter`, in seconds, at which a thread was last free. The threads set
        it themselves, because the loop may notice it late."""

    def given(self) -> None:
        """Count an exchange that was given to the threads."""
        self._in_hand += 1
        now = perf_counter()
        if self._in_hand <= self._threads:
            self.moved_at = now
        elif self.capacity > self._threads and now - self.moved_at > STALLED:
            self._pause(now, now - self.moved_at)

    def withdrawn(self) -> None:
        """Count an exchange that was taken back from the threads before it began."""
        self._in_hand -= 1

    def ended(self, took: float) -> None:
        """Count an exchange that a thread has ended. Its call took `took` seconds."""
        self._in_hand -= 1
        self._count(took, perf_counter())
