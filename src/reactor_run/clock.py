"""The `date` field of responses, made once a second (RFC 9110 §6.6.1)."""

from __future__ import annotations

from math import floor
from time import time
from wsgiref.handlers import format_date_time

__all__ = ["date_field"]

_next_second = 0.0
_field = b""


def date_field() -> bytes:
    """The whole field line, for now."""
    global _next_second, _field
    now = time()
    if not _next_second - 1 <= now < _next_second:
        _field = f"date: {format_date_time(now)}\r\n".encode()
        _next_second = floor(now) + 1
    return _field
