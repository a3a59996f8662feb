"""The head that a WSGI app passes to start_response, checked.

C (protocol/_response.c) judges the fields first. What it does not accept is decided here. Status
lines, and names of fields that C has left, are remembered if they were seen lately.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, TypeAlias

from reactor_run.native import copy_fields
from reactor_run.protocol.fields import TOKEN

__all__ = ["AppHead", "judge_fields", "read_app_head"]

_NAME_SIZE: Final = 64
"""Most characters of a field name or a status line that is remembered."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
"""Finds a byte that a field value must not contain (RFC 9110 §5.5)."""
_STATUS: Final = re.compile("[2-9][0-9][0-9](?: .*)?", re.DOTALL).fullmatch
_TOKEN: Final = re.compile(TOKEN).fullmatch


Fields: TypeAlias = tuple[tuple[str, str], ...]
"""The app's fields, also hop-by-hop fields. Names are tokens. Values have no control characters."""

AppHead: TypeAlias = tuple[int, str, Fields, int | None]
"""The head of an app's answer: its status code, the reason phrase, which may be empty, the fields,
and the Content-Length in bytes, None without one. All texts are latin-1.

It is a plain tuple, because an object of a class takes longer to make than all else here."""


def read_app_head(status: str, headers: list[tuple[str, str]]) -> AppHead:
    """Check the arguments of start_response, and return the head that they give.

    Raises TypeError or ValueError if they cannot be sent.
    """
    if not isinstance(headers, list):
        raise TypeError(f"headers are a list of tuples, not {headers!r}")
    short = type(status) is str and len(status) <= _NAME_SIZE
    code, reason = _short_status_line(status) if short else _status_line(status)
    fields, declared = copy_fields(headers) or judge_fields(headers)
    return code, reason, fields, declared


def judge_fields(headers: Any) -> tuple[Fields, int | None]:
    """Check and copy the fields in Python alone. Return them, and the Content-Length.

    Raises TypeError or ValueError if they cannot be sent.
    """
    declared = None
    fields = []
    for name, value in headers:
        short = type(name) is str and len(name) <= _NAME_SIZE
        text, is_length = _short_field_name(name) if short else _field_name(name)
        if not isinstance(value, str):
            raise TypeError(f"value of {name} is a str, not {value!r}")
        raw = value.encode("latin-1")
        if not value.isprintable() and _CONTROL(raw):
            raise ValueError(f"value of {name} has control characters: {value!r}")
        if is_length:
            length = _content_length(value)
            if declared is not None and declared != length:
                raise ValueError(f"two Content-Lengths: {declared} and {length}")
            declared = length
        # A subclass of str may change what it says.
        fields.append((text, raw.decode("latin-1")))
    return tuple(fields), declared


def _status_line(status: str) -> tuple[int, str]:
    """Return the code and the reason, which may be empty (RFC 9112 §4). An app cannot send 1xx."""
    if not isinstance(status, str):
        raise TypeError(f"status is a str, not {status!r}")
    reason = status[4:].encode("latin-1")
    if not _STATUS(status) or _CONTROL(reason):
        raise ValueError(f"status is a code and a reason, such as '200 OK', not {status!r}")
    return int(status[:3]), reason.decode("latin-1")


def _field_name(name: str) -> tuple[str, bool]:
    """Return the name, and whether it is Content-Length."""
    if not isinstance(name, str):
        raise TypeError(f"a field name is a str, not {name!r}")
    encoded = name.encode("latin-1")
    if not _TOKEN(encoded):
        raise ValueError(f"not a field name: {name!r}")
    return encoded.decode("latin-1"), encoded.lower() == b"content-length"


_short_status_line = lru_cache(maxsize=256)(_status_line)
_short_field_name = lru_cache(maxsize=256)(_field_name)


def _content_length(value: str) -> int:
    """Return the bytes in a Content-Length (RFC 9110 §8.6): digits, with optional white space
    around them (§5.5)."""
    value = value.strip(" \t")
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length is a number of bytes, not {value!r}")
    return int(value)
