"""The head that a WSGI app passes to start_response, checked and encoded.

An app sends few different heads. So whole heads that were seen lately are remembered. For all other
heads, status lines and field names are remembered. Everything else is read each time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from reactor_run.protocol.fields import TOKEN

__all__ = ["AppHead", "read_app_head"]

_remembered: dict[Any, AppHead] = {}
_REMEMBERED_MAX: Final = 256
"""Most heads that are remembered at once."""
_REMEMBERED_FIELDS: Final = 16
"""Most fields of a head that is remembered."""
_REMEMBERED_SIZE: Final = 1024
"""Most bytes of a head that is remembered. Larger heads may repeat data of a client."""
_NAME_SIZE: Final = 64
"""Most characters of a field name or a status line that is remembered."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
"""Finds a byte that a field value must not contain (RFC 9110 §5.5)."""
_STATUS: Final = re.compile("[2-9][0-9][0-9](?: .*)?", re.DOTALL).fullmatch
_TOKEN: Final = re.compile(TOKEN).fullmatch


class AppHead:
    """The head of an app's answer. Do not change it: answers share it.

    status: the status code.
    reason: the reason phrase, which may be empty.
    fields: the app's fields, also hop-by-hop fields. Names are tokens. Values have no control
    characters.
    declared: the Content-Length in bytes; None without one.
    bodyless: whether the status allows no body.
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
    """Check and encode the arguments of start_response.

    Raises TypeError or ValueError if they cannot be sent.
    """
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
            # The arguments are not hashable. `_read` decides whether they can be sent.
            key = None
    head = _read(status, headers)
    if key is not None and _size_of(head) <= _REMEMBERED_SIZE:
        if len(_remembered) >= _REMEMBERED_MAX:
            _remembered.clear()
        _remembered[key] = head
    return head


def _size_of(head: AppHead) -> int:
    """Return the bytes of the reason, the names and the values in a head."""
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
    """Return the code and the reason, which may be empty (RFC 9112 §4). An app cannot send 1xx."""
    if not isinstance(status, str):
        raise TypeError(f"status is a str, not {status!r}")
    reason = status[4:].encode("latin-1")
    if not _STATUS(status) or _CONTROL(reason):
        raise ValueError(f"status is a code and a reason, such as '200 OK', not {status!r}")
    return int(status[:3]), reason


def _field_name(name: str) -> tuple[bytes, bool]:
    """Return the encoded name, and whether it is Content-Length."""
    if not isinstance(name, str):
        raise TypeError(f"a field name is a str, not {name!r}")
    encoded = name.encode("latin-1")
    if not _TOKEN(encoded):
        raise ValueError(f"not a field name: {name!r}")
    return encoded, encoded.lower() == b"content-length"


_short_status_line = lru_cache(maxsize=256)(_status_line)
_short_field_name = lru_cache(maxsize=256)(_field_name)


def _content_length(value: str) -> int:
    """Return the bytes in a Content-Length (RFC 9110 §8.6): digits, with optional white space
    around them (§5.5)."""
    value = value.strip(" \t")
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length is a number of bytes, not {value!r}")
    return int(value)
