"""Busy polling: asking for the next event again and again instead of sleeping.

The loop does this while a single client sends one request after another. Sleeping and waking takes
longer than such a client needs for its next request. A pattern shows this client: two descriptors,
the client's and its reactor's, report alternately and in quick succession. After SURE such events
the loop polls for at most LOOK seconds, and yields the CPU meanwhile. A poll that finds nothing, or
any other event, starts the count anew. So an idle server sleeps. With several clients the loop
sleeps too, because sleeping gathers their requests into a batch.

`--busy-poll off` switches it off. The row hello/1 of the benchmark shows the gain.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

from reactor_run.turns import Turns

__all__ = ["LOOK", "PAUSE", "SURE", "BusyPoll"]

LOOK: Final = 0.00005
"""Most seconds of one poll."""
PAUSE: Final = 0.001
"""Two events that are this many seconds apart are not in quick succession."""
SURE: Final = 16
"""Events in the pattern before the loop polls for the next one."""

Events: TypeAlias = "list[tuple[int, int]]"
"""Descriptors and their epoll events."""


class BusyPoll:
    """Decides from the last batches of events whether to poll for the next event."""

    __slots__ = ("_before", "_expected", "_last", "_on", "_when", "found", "missed")

    def __init__(self, *, on: bool = True) -> None:
        """`on`: False if it must never be due."""
        self._on = on
        self.found = 0
        """Polls that found an event."""
        self.missed = 0
        """Polls that found no event in LOOK seconds."""
        self._before: Events = []
        """The batch before the last one."""
        self._last: Events = []
        """The last batch."""
        self._when = 0.0
        self._expected = 0
        """How many events in a row fitted the pattern."""

    @property
    def due(self) -> bool:
        """Whether to poll for the next event."""
        return self._expected >= SURE and self._on

    def look(self, poll: Callable[[int], Events], turns: Turns) -> Events:
        """Poll for at most LOOK seconds; return the events. `poll(0)` returns what is ready."""
        events = poll(0)
        until = monotonic() + LOOK
        while not events and monotonic() < until and not turns.paused:
            turns.give()
            events = poll(0)
        if events:
            self.found += 1
        else:
            self.missed += 1
            self._expected = 0
        return events

    def saw(self, events: Events, now: float) -> None:
        """Record a batch of events, at this time of the monotonic clock."""
        if len(events) == 1 and events == self._before and now - self._when < PAUSE:
            self._expected += 1
        else:
            self._expected = 0
        self._before = self._last
        self._last = events
        self._when = now
