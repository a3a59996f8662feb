"""The `date` field of responses, made once a second (RFC 9110 §6.6.1)."""

from __future__ import annotations

from email.utils import formatdate
from time import time

__all__ = ["date_field"]

_second = 0
_field = b""


def date_field() -> bytes:
    """The whole field line, for now."""
    global _second, _field
    second = int(time())
    if second != _second:
        _field = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        _second = second
    return _field
