"""What a comparison must come to: a ratio of ours to a peer's, and on which side of a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.figures import Figure
from bench.pairs import Comparison, Pair, Run


@dataclass(frozen=True)
class Bar:
    """Requests a second must be at least, p99 at most, so many times the peer's."""

    pair: Pair
    measure: Literal["requests/s", "p99"]
    bound: float

    def ratio(self, comparison: Comparison) -> Figure | None:
        """Ours divided by the peer's, turn by turn."""
        return comparison.ratio(self.pair, self._value)

    def is_met(self, comparison: Comparison) -> bool | None:
        """Whether the median of the ratios passes; None if there is none."""
        ratio = self.ratio(comparison)
        if ratio is None:
            return None
        if self.measure == "p99":
            return ratio.median <= self.bound
        return ratio.median >= self.bound

    def __str__(self) -> str:
        side = "at most" if self.measure == "p99" else "at least"
        return f"{self.pair.ours}: {self.measure} {side} {self.bound:g} x {self.pair.peer}'s"

    def _value(self, run: Run) -> float:
        return run.p99 if self.measure == "p99" else run.rate
