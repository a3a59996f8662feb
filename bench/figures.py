"""A figure is the median of several values, with its spread."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """The median, the least and the greatest of what the rounds gave."""

    median: float
    low: float
    high: float


def figure(values: Iterable[float]) -> Figure | None:
    """The figure of these values; None if there are none."""
    found = list(values)
    return Figure(median(found), min(found), max(found)) if found else None
