"""What happened in the last seconds: requests per second, and quantiles of their duration.

Totals are kept about once a second, at most, and only while requests come. So an idle service does
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from reactor_run.frontend.metrics.histogram import quantile

__all__ = ["WINDOW", "Figures", "Recent"]

WINDOW: Final = 10.0
"""Seconds that the figures are about."""
_EVERY: Final = 1.0
"""Fewest seconds between two times at which totals are kept."""


class Figures(NamedTuple):
    """What happened in the last WINDOW seconds.

    p50, p99: estimated quantiles of the duration of answered requests, in seconds; None: there were
    none.
    """

    requests_per_second: float
    p50: float | None
    p99: float | None


class _Totals(NamedTuple):
    when: float
    requests: int
    counts: tuple[int, ...]


class Recent:
    """The totals of the last WINDOW seconds."""

    def __init__(self, now: float) -> None:
        """`now`: when counting begins, in seconds of the loop's clock."""
        self.due = now
        """When totals are kept the next time."""
        self._begun = now
        self._kept: deque[_Totals] = deque(maxlen=int(WINDOW / _EVERY) + 2)

    def keep(self, now: float, requests: int, counts: Sequence[int]) -> None:
        """Keep the totals as they are before the requests of this turn are counted."""
        self.due = now + _EVERY
        self._kept.append(_Totals(now, requests, tuple(counts)))

    def figures(self, now: float, requests: int, counts: Sequence[int]) -> Figures:
        """Return the figures. The arguments are the totals now."""
        # Totals are kept before the first request after each second. So no request of the window
        # came between its begin and the first totals that are found here.
        since = now - WINDOW - _EVERY
        before = next((totals for totals in self._kept if totals.when >= since), None)
        if before is None:
            return Figures(0.0, None, None)
        seconds = max(now - before.when, min(WINDOW, now - self._begun), _EVERY)
        new = [count - old for count, old in zip(counts, before.counts, strict=True)]
        return Figures(
            round((requests - before.requests) / seconds, 1),
            quantile(0.5, new),
            quantile(0.99, new),
        )
