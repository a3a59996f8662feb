"""Durations and sizes, as the operator's commands show them."""

from __future__ import annotations

__all__ = ["brief", "duration", "size"]


def duration(seconds: float) -> str:
    """Return at most two units, as in `3 h 12 min`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2])


def size(count: int) -> str:
    """Return a number of bytes, as in `25.3 MiB`."""
    return f"{count / (1 << 20):.1f} MiB"


def brief(seconds: float | None) -> str:
    """Return a duration that may be short, as in `1.3 ms`, `250 ms`, `2.1 s`, `3 h 12 min`."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
