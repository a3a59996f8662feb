"""The head of a WSGI app's answer, as it gives it to start_response: checked, and in bytes.

An app's answers have few different heads, so those seen lately are remembered as a whole, and of
the others the status lines and names. What cannot be remembered is only read each time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from reactor_run.protocol.fields import TOKEN

__all__ = ["AppHead", "read_app_head"]

_remembered: dict[Any, AppHead] = {}
_REMEMBERED_MAX: Final = 256
"""Heads that are remembered at once."""
_REMEMBERED_FIELDS: Final = 16
"""Fields of a head that is worth remembering."""
_REMEMBERED_SIZE: Final = 1024
"""Bytes of a head that is worth remembering: some hold what a client has sent."""
_NAME_SIZE: Final = 64
"""Characters of a name or a status line that is worth remembering."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
"""RFC 9110 §5.5: what a field value must not contain."""
_STATUS: Final = re.compile("[2-9][0-9][0-9](?: .*)?", re.DOTALL).fullmatch
_TOKEN: Final = re.compile(TOKEN).fullmatch


class AppHead:
    """status: the code. reason: the reason phrase, which may be empty.
    fields: the app's, hop-by-hop ones among them. Names are tokens, values free of control
    characters.
    declared: its Content-Length, None without.
    bodyless: the status allows no body.

    Not to be changed: answers share it.
    """

    __slots__ = ("bodyless", "declared", "fields", "reason", "status")

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
        declared: int | None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.declared = declared
        self.bodyless = status == 204 or status == 304


def read_app_head(status: str, headers: list[tuple[str, str]]) -> AppHead:
    """What an app gave to start_response. Raises TypeError or ValueError if it cannot be sent."""
    if not isinstance(headers, list):
        raise TypeError(f"headers are a list of tuples, not {headers!r}")
    key: Any = None
    if len(headers) <= _REMEMBERED_FIELDS:
        try:
            key = status, tuple(headers)
            known = _remembered.get(key)
            if known is not None:
                return known
        except TypeError:
            # It is of no type that can be looked up; whether it can be sent, we shall see.
            key = None
    head = _read(status, headers)
    if key is not None and _size_of(head) <= _REMEMBERED_SIZE:
        if len(_remembered) >= _REMEMBERED_MAX:
            _remembered.clear()
        _remembered[key] = head
    return head


def _size_of(head: AppHead) -> int:
    """Bytes of what stands in a head."""
    return len(head.reason) + sum(len(name) + len(value) for name, value in head.fields)


def _read(status: str, headers: Any) -> AppHead:
    short = type(status) is str and len(status) <= _NAME_SIZE
    code, reason = _short_status_line(status) if short else _status_line(status)
    declared = None
    fields = []
    for name, value in headers:
        short = type(name) is str and len(name) <= _NAME_SIZE
        encoded, is_length = _short_field_name(name) if short else _field_name(name)
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
        fields.append((encoded, raw))
    return AppHead(code, reason, tuple(fields), declared)


def _status_line(status: str) -> tuple[int, bytes]:
    """The code and the reason, which may be empty (RFC 9112 §4). 1xx are not an app's to send."""
    if not isinstance(status, str):
        raise TypeError(f"status is a str, not {status!r}")
    reason = status[4:].encode("latin-1")
    if not _STATUS(status) or _CONTROL(reason):
        raise ValueError(f"status is a code and a reason, such as '200 OK', not {status!r}")
    return int(status[:3]), reason


def _field_name(name: str) -> tuple[bytes, bool]:
    """The name, and whether it is Content-Length."""
    if not isinstance(name, str):
        raise TypeError(f"a field name is a str, not {name!r}")
    encoded = name.encode("latin-1")
    if not _TOKEN(encoded):
        raise ValueError(f"not a field name: {name!r}")
    return encoded, encoded.lower() == b"content-length"


_short_status_line = lru_cache(maxsize=256)(_status_line)
_short_field_name = lru_cache(maxsize=256)(_field_name)


def _content_length(value: str) -> int:
    """RFC 9110 §8.6: digits, and the white space that a value may have around it (§5.5)."""
    value = value.strip(" \t")
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length is a number of bytes, not {value!r}")
    return int(value)
