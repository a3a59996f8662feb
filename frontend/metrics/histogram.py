"""Counts durations by buckets, and estimates quantiles from the counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["BOUNDS", "Histogram", "quantile"]

BOUNDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""The greatest duration of each bucket, in seconds. One more bucket has all that is longer."""


class Histogram:
    """Durations, counted by bucket.

    counts: the number of durations in each bucket of BOUNDS, and above.
    total: the sum of all durations, in seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration that was found so many times."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times


def quantile(share: float, counts: Sequence[int]) -> float | None:
    """Return an estimate of the duration that this share (0 to 1) of all durations does not exceed.

    `counts`: by bucket. Within a bucket durations count as spread evenly, as PromQL's
    histogram_quantile takes them. None: there are none.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below, lower = 0, 0.0
    for bound, count in zip(BOUNDS, counts, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return lower
