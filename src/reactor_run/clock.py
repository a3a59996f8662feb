"""Times as text: the `date` field of responses (RFC 9110 §6.6.1), and local times of log lines."""

from __future__ import annotations

from math import floor
from time import gmtime, localtime, time
from typing import Final

__all__ = ["Zone", "date_field", "http_date"]

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


class Zone:
    """A time zone with a fixed offset from UTC, and times in it as text.

    The offset is taken once. So all processes of a service write one zone, also if the app sets TZ,
    and no hour occurs twice when summer time ends.
    """

    def __init__(self, offset: int | None = None) -> None:
        """`offset`: seconds to add to UTC; None: what they are now in the zone of this process."""
        self.offset = localtime().tm_gmtoff if offset is None else offset
        minutes = abs(self.offset) // 60
        self._hours = f"{'-' if self.offset < 0 else '+'}{minutes // 60:02}"
        self._minutes = f"{minutes % 60:02}"
        self._second = -1
        self._clf = self._iso = b""

    def clf(self, now: float) -> bytes:
        """Return a time as in `[20/Nov/2026:15:04:05 +0100]`. `now`: seconds since 1970."""
        if int(now) != self._second:
            self._begin(int(now))
        return self._clf

    def iso(self, now: float) -> bytes:
        """Return a time as in `2026-11-20T15:04:05.123+01:00` (RFC 3339). `now`: as for `clf`."""
        if int(now) != self._second:
            self._begin(int(now))
        return b"%b.%03d%b" % (self._iso, now % 1 * 1000, self._iso_offset)

    def plain(self, now: float) -> str:
        """Return a time as in `2026-11-20 15:04:05 +0100`. `now`: as for `clf`."""
        year, month, day, hour, minute, second, *_ = gmtime(now + self.offset)
        return (
            f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} "
            f"{self._hours}{self._minutes}"
        )

    def _begin(self, second: int) -> None:
        year, month, day, hour, minute, seconds, *_ = gmtime(second + self.offset)
        clock = f"{hour:02}:{minute:02}:{seconds:02}"
        name = _MONTHS[month - 1]
        self._clf = f"[{day:02}/{name}/{year:04}:{clock} {self._hours}{self._minutes}]".encode()
        self._iso = f"{year:04}-{month:02}-{day:02}T{clock}".encode()
        self._second = second

    @property
    def _iso_offset(self) -> bytes:
        return f"{self._hours}:{self._minutes}".encode()
