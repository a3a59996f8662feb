"""What is measured: each measure's name in reports, and how a value is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Measure:
    """One measure; values are in the unit of `Sample`: seconds, bytes, counts."""

    label: str
    form: str
    """A format, applied after the division by `unit`."""
    unit: float = 1.0
    less_is_better: bool = True

    def shown(self, value: float) -> str:
        return format(value / self.unit, self.form)


MEASURES: Final = {
    "rate": Measure("requests/s", ",.0f", less_is_better=False),
    "p50": Measure("p50 ms", ",.2f", 1e-3),
    "p99": Measure("p99 ms", ",.2f", 1e-3),
    "p99.9": Measure("p99.9 ms", ",.2f", 1e-3),
    "slow_p50": Measure("slow ones, p50 ms", ",.1f", 1e-3),
    "slow_p99": Measure("slow ones, p99 ms", ",.1f", 1e-3),
    "cpu": Measure("CPU µs/request", ",.1f", 1e-6),
    "cpu_front": Measure("of that, front end", ",.1f", 1e-6),
    "cpu_reactors": Measure("reactors", ",.1f", 1e-6),
    "rate_two": Measure("requests/s, two cores", ",.0f", less_is_better=False),
    "p99_two": Measure("p99 ms, two cores", ",.2f", 1e-3),
    "cpu_two": Measure("CPU µs/request, two cores", ",.1f", 1e-6),
    "cpu_event": Measure("CPU µs/event", ",.1f", 1e-6),
    "speed": Measure("MB/s", ",.0f", 1e6, less_is_better=False),
    "cpu_gib": Measure("CPU s/GiB", ".2f"),
    "failed": Measure("failed", ",.0f"),
    "resets": Measure("reset or closed", ",.0f"),
    "late": Measure("late events", ",.0f"),
    "lost": Measure("lost events", ",.0f"),
    "cpu_second": Measure("CPU ms/s", ",.0f", 1e-3),
    "memory": Measure("memory MiB", ",.1f", 1 << 20),
    "per_client": Measure("KiB per client", ",.1f", 1 << 10),
    "per_connection": Measure("KiB/connection", ",.2f", 1 << 10),
    "in_workers": Measure("KiB/connection in workers", ",.2f", 1 << 10),
    "without": Measure("requests/s without", ",.0f", less_is_better=False),
    "beside": Measure("with / without", ".2f", less_is_better=False),
    "given_up": Measure("slow clients closed", ",.0f"),
    "capacity": Measure("capacity/s", ",.0f", less_is_better=False),
    "goodput": Measure("goodput / capacity", ".2f", less_is_better=False),
    "refused": Measure("503 with Retry-After", ",.0f"),
    "lost_requests": Measure("refused otherwise, or lost", ",.0f"),
    "slowest_refusal": Measure("slowest refusal s", ".2f"),
    "quiet_p99": Measure("p99 ms when quiet", ",.2f", 1e-3),
    "p99_ratio": Measure("p99 / quiet", ".2f"),
    "actions": Measure("kills or reloads", ",.0f"),
    "victim": Measure("answered by the app at fault", ".0%", less_is_better=False),
    "start": Measure("s to first answer", ".3f"),
    "edit": Measure("s from a saved file to its first answer", ".3f"),
    "replaced": Measure("ms to a replacement", ",.0f", 1e-3),
    "rest": Measure("MiB at rest", ",.1f", 1 << 20),
}
