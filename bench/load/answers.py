"""What became of requests: how each ended, how late it was sent, how long it took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Final

_LATE: Final = 0.005
"""Seconds from which on the generator's lateness is told."""


class Outcome(StrEnum):
    """How a request ended, as its client saw it."""

    OK = "answered"
    REFUSED = "503 with Retry-After"
    BARE_503 = "503 without Retry-After"
    STATUS = "another status"
    CONNECT = "connection refused"
    RESET = "reset"
    CLOSED = "closed without an answer"
    CUT = "closed within the answer"
    TIMEOUT = "no answer in time"
    GARBLED = "no HTTP"


@dataclass(slots=True)
class Answer:
    """One request. Times are seconds of the monotonic clock."""

    kind: str
    due: float
    """When it was to be sent; latency counts from here, whenever it was sent."""
    noticed: float
    """When the generator came to it."""
    ended: float = 0.0
    outcome: Outcome | None = None
    """None while it is under way."""

    @property
    def latency(self) -> float:
        return self.ended - self.due

    @property
    def lateness(self) -> float:
        """How much too late the generator came to it, in seconds: its own fault."""
        return self.noticed - self.due


@dataclass
class Answers:
    """All requests of a run."""

    begin: float
    end: float
    """The last request was due before this."""
    all: list[Answer] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What makes the run doubtful: the load was not what it was to be."""

    def finish(self) -> None:
        """Give up what is left, and say so if the generator did not keep its schedule."""
        now = time.monotonic()
        for answer in self.all:
            if answer.outcome is None:
                answer.outcome, answer.ended = Outcome.TIMEOUT, now
        if self.late() > _LATE:
            self.remarks.append(
                f"the generator came to 1 % of the requests more than {_LATE * 1e3:g} ms too late"
            )

    def late(self) -> float:
        """Seconds that the generator was late, at the 99th percentile."""
        found = sorted(answer.lateness for answer in self.all)
        return percentile(found, 0.99) if found else 0.0

    @classmethod
    def together(cls, parts: Sequence[Answers]) -> Answers:
        """Those of runs that came one after another."""
        every = [answer for part in parts for answer in part.all]
        remarks = dict.fromkeys(remark for part in parts for remark in part.remarks)
        return cls(parts[0].begin, parts[-1].end, every, list(remarks))

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def outcomes(self, kind: str | None = None) -> dict[str, int]:
        """How many ended how."""
        counts = Counter(a.outcome for a in self._of(kind))
        return {str(outcome): counts[outcome] for outcome in Outcome if counts[outcome]}

    def failed(self, kind: str | None = None) -> int:
        """How many had anything but an answer below 400."""
        return sum(a.outcome is not Outcome.OK for a in self._of(kind))

    def answered_in_time(self) -> int:
        """How many were answered before the run's end."""
        return sum(a.outcome is Outcome.OK and a.ended <= self.end for a in self.all)

    def latencies(self, kind: str | None = None) -> list[float]:
        """Seconds; of requests that were answered, and of those that were given up for it."""
        counted = (Outcome.OK, Outcome.TIMEOUT)
        return sorted(a.latency for a in self._of(kind) if a.outcome in counted)

    def percentiles(self, kind: str | None = None) -> dict[str, float]:
        """Seconds, by name: p50, p99, p99.9, max; empty if nothing was answered."""
        found = self.latencies(kind)
        if not found:
            return {}
        shares = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
        return {name: percentile(found, share) for name, share in shares}

    def _of(self, kind: str | None) -> Iterable[Answer]:
        return self.all if kind is None else (a for a in self.all if a.kind == kind)


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile of values in order: no value in between is made up."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
