"""The `date` field of responses, made once a second (RFC 9110 §6.6.1)."""

from __future__ import annotations

from math import floor
from time import gmtime, time
from typing import Final

__all__ = ["date_field", "http_date"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
)  # fmt: skip

_next_second = 0.0
_field = b""


def date_field() -> bytes:
    """Return the whole `date` field line for now, with its line end."""
    global _next_second, _field
    now = time()
    if not _next_second - 1 <= now < _next_second:
        _field = f"date: {http_date(now)}\r\n".encode()
        _next_second = floor(now) + 1.0
    return _field


def http_date(seconds: float) -> str:
    """Return an HTTP-date (RFC 9110 §5.6.7), in English in every locale.

    `seconds`: since 1970, in UTC.
    """
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    )
