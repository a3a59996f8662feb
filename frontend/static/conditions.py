"""Conditional and range requests for a file (RFC 9110 §13, §14).

The preconditions count in the order of RFC 9110 §13.2.2:

    If-Match             does not match           412
    If-Unmodified-Since  without If-Match: later  412
    If-None-Match        matches                  304
    If-Modified-Since    without If-None-Match:   304
                         not later
    If-Range             does not match           Range does not count

A field that is malformed does not count. So does a Range with several ranges: the client gets all.
"""

from __future__ import annotations

import re
from calendar import timegm
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from reactor_run.protocol.request import RequestHead

__all__ = ["CONDITIONS", "Decision", "decide", "parse_http_date"]

CONDITIONS: Final = (
    b"if-match",
    b"if-unmodified-since",
    b"if-none-match",
    b"if-modified-since",
    b"range",
    b"if-range",
)
"""The fields that `decide` needs, in lower case."""

_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) "
        rb"(?P<year>\d{4}) " + _TIME + rb" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{2})-"
        rb"(?P<year>\d\d) " + _TIME + rb" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) "
        + _TIME
        + rb" (?P<year>\d{4})"
    ),
)
"""The three forms of an HTTP-date (RFC 9110 §5.6.7)."""
_TAG: Final = re.compile(rb'\s*(W/)?("[!#-~\x80-\xff]*+")\s*')
_RANGE: Final = re.compile(rb"bytes=[ \t]*0*(\d*)-0*(\d*)[ \t]*", re.IGNORECASE)
_ANY_DIGIT: Final = re.compile(rb"=[ \t]*(?:\d+-\d*|\d*-\d+)[ \t]*\Z")
_DIGITS_MAX: Final = 18


class Decision(NamedTuple):
    """What to answer: a status, and which bytes of the file, if any.

    start, end: of the bytes that are sent; `end` is behind the last one.
    """

    status: int
    start: int
    end: int


def parse_http_date(text: bytes) -> int | None:
    """Return seconds since 1970; None: this is no HTTP-date (RFC 9110 §5.6.7)."""
    for form in _DATES:
        parts = form.fullmatch(text)
        if parts is not None and parts["month"] in _MONTHS:
            year = int(parts["year"])
            if year < 100:
                # Not more than 50 years in the future.
                year += 2000 if year < 70 else 1900
            return timegm(
                (
                    year,
                    _MONTHS.index(parts["month"]) + 1,
                    int(parts["day"]),
                    int(parts["hour"]),
                    int(parts["minute"]),
                    int(parts["second"]),
                )
            )
    return None


def decide(
    head: RequestHead, values: list[bytes], tag: bytes, modified: int, size: int
) -> Decision:
    """Return what to answer to a GET or HEAD.

    `values`: of the fields of CONDITIONS, with surrounding white space stripped. `tag`: the entity
    tag of the file, a strong one. `modified`: in seconds since 1970. `size`: bytes of the file.
    """
    if_match, unmodified_since, if_none_match, modified_since, wanted, if_range = values
    if if_match:
        if not _matches(_all(head, b"if-match"), tag, weakly=False):
            return Decision(412, 0, 0)
    elif unmodified_since:
        when = parse_http_date(unmodified_since)
        if when is not None and modified > when:
            return Decision(412, 0, 0)
    if if_none_match:
        if _matches(_all(head, b"if-none-match"), tag, weakly=True):
            return Decision(304, 0, 0)
    elif modified_since:
        when = parse_http_date(modified_since)
        if when is not None and modified <= when:
            return Decision(304, 0, 0)
    if wanted and head.method == b"GET" and _same(if_range, tag, modified):
        return _part(wanted, size)
    return Decision(200, 0, size)


def _all(head: RequestHead, name: bytes) -> bytes:
    """Return the values of all fields of this name as one list (RFC 9110 §5.3)."""
    return b",".join([value for each, value in head.fields if each.lower() == name])


def _matches(field: bytes, tag: bytes, *, weakly: bool) -> bool:
    """Whether a list of entity tags has this one (RFC 9110 §8.8.3.2)."""
    if field.strip() == b"*":
        return True
    place = 0
    while place < len(field):
        match = _TAG.match(field, place)
        if match is None:
            return False
        if match[2] == tag and (weakly or not match[1]):
            return True
        place = match.end()
        if place < len(field) and field[place] != 0x2C:
            return False
        place += 1
    return False


def _same(if_range: bytes, tag: bytes, modified: int) -> bool:
    """Whether the client has the other parts of this file (RFC 9110 §13.1.5)."""
    if not if_range:
        return True
    if if_range.startswith((b'"', b"W/")):
        return if_range == tag
    return parse_http_date(if_range) == modified


def _part(wanted: bytes, size: int) -> Decision:
    """Return the decision for a Range (RFC 9110 §14.1.2)."""
    whole = Decision(200, 0, size)
    match = _RANGE.fullmatch(wanted)
    if match is None or _ANY_DIGIT.search(wanted) is None:
        return whole
    first, last = match[1], match[2]
    has_first = wanted[wanted.index(b"=") + 1 :].lstrip()[:1] != b"-"
    has_last = wanted.rstrip()[-1:] != b"-"
    begin, end = _number(first), _number(last)
    if not has_first:
        if not end:
            return Decision(416, 0, size)
        return Decision(206, max(size - end, 0), size) if size else whole
    if has_last and end < begin:
        return whole
    if begin >= size:
        # Some clients ask each time for the bytes from 0 on. An empty file has them all.
        return Decision(416, 0, size) if begin or size else whole
    return Decision(206, begin, min(end + 1, size) if has_last else size)


def _number(digits: bytes) -> int:
    """Return the number, or a very large one in its place."""
    if not digits:
        return 0
    return int(digits) if len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX
