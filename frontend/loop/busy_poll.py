"""Busy polling: asking for the next event again and again instead of sleeping.

It is done while a single client sends one request after another. To sleep and be woken takes longer
than such a client needs for its next request. So when the same two descriptors, the client's and
its reactor's, have reported alternately and in quick succession, SURE times, the loop polls for at
most LOOK seconds, and yields the processor meanwhile. After a poll that found nothing, or any other
event, the count begins again. An idle server sleeps. Where several clients ask, sleeping is what
gathers their requests.

`--busy-poll off` switches it off. The row hello/1 of the benchmark shows what it brings.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

from reactor_run.turns import Turns

__all__ = ["LOOK", "PAUSE", "SURE", "BusyPoll"]

LOOK: Final = 0.00005
"""Seconds that are spent looking, at most."""
PAUSE: Final = 0.001
"""Seconds between two events from which on they are not in quick succession."""
SURE: Final = 16
"""Events that came as expected before it is looked for the next."""

Events: TypeAlias = "list[tuple[int, int]]"
"""Descriptors and their epoll events."""


class BusyPoll:
    """What the last batches of events say of the next."""

    __slots__ = ("_before", "_expected", "_last", "_on", "_when", "found", "missed")

    def __init__(self, *, on: bool = True) -> None:
        """`on`: whether it is ever due."""
        self._on = on
        self.found = 0
        """Polls that found an event."""
        self.missed = 0
        """Polls that found none in LOOK seconds."""
        self._before: Events = []
        self._last: Events = []
        """The last two batches."""
        self._when = 0.0
        self._expected = 0
        """How many in a row were as expected."""

    @property
    def due(self) -> bool:
        """The next event is to be looked for."""
        return self._expected >= SURE and self._on

    def look(self, poll: Callable[[int], Events], turns: Turns) -> Events:
        """The next event, if it comes soon. `poll(0)` tells what there is."""
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
        """These are a batch, at this time of the monotonic clock."""
        if len(events) == 1 and events == self._before and now - self._when < PAUSE:
            self._expected += 1
        else:
            self._expected = 0
        self._before = self._last
        self._last = events
        self._when = now
