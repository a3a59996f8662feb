"""Which rule a head breaks, read line by line.

The parser says that a head is bad, not reliably what is bad about it. It also calls some heads
incomplete that no further byte can make right. So these are read here, strictly, and the first
violation in the order of the bytes counts. Each is decided by what stands before it and by itself:
what follows, or has not come yet, changes nothing.

    request line        method SP target SP HTTP-version CRLF
    each field line     token ":" text CRLF, its size, and how many there were
    with the head whole what the fields mean, and what the target is

`diagnose` reads a head that is known to be bad from its start, at most once a connection.
`check_incomplete` reads each line of a head that comes in pieces once, and the last line, which has
not ended, with each piece.
"""

from __future__ import annotations

import re
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.fields import FIELD_TEXT, TOKEN
from reactor_run.protocol.meaning import Fields, read_fields
from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits, Refused, Rule
from reactor_run.protocol.target import accept_target

__all__ = ["check_incomplete", "diagnose", "field_line_size"]

_METHOD_MIN: Final = 3
_METHOD: Final = re.compile(rb"[!$%&'*+\-.^_`|~0-9A-Z]{0,20}+")
"""A token in upper case, and without the `#` that the parser does not take."""
_TOKEN: Final = re.compile(TOKEN)
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]*+")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_VERSIONS: Final = (b"HTTP/1.0", b"HTTP/1.1")
_VERSION_SO_FAR: Final = re.compile(rb"H(?:T(?:T(?:P(?:/(?:[0-9]\.?)?)?)?)?)?")
_TEXT: Final = re.compile(FIELD_TEXT)

_Fault = tuple[int, Rule]
"""Where in its line a violation stands, and what it is."""


def diagnose(data: bytes, limits: Limits) -> Rule:
    """The first rule that the head at the start of `data` breaks; the head need not be whole."""
    try:
        _read_head(data, limits)
    except Refused as refused:
        return refused.rule
    return policy.REQUEST_MALFORMED


def field_line_size(line: bytes) -> int:
    """What a field line, without its line end, counts: one space after the colon in any case."""
    colon = line.find(b":")
    return len(line) + 2 + (line[colon + 1 : colon + 2] not in (b" ", b"\t"))


def check_incomplete(data: bytes, limits: Limits, checked: int) -> None:
    """Refuse what the parser calls an incomplete head if no further byte can make it right.

    `checked`: bytes at the start of `data` that an earlier call has let pass. Raises `Refused`.
    """
    if data == b"\r":
        return
    start = 2 if data.startswith(b"\r\n") else 0
    checked = max(start, data.rfind(b"\n", start, checked) + 1)
    before = data.count(b"\n", start, checked)
    wrong = len(data) - start > limits.head_size
    try:
        # An empty line ends every head: the parser should have judged this one.
        wrong = _read_lines(data[checked:], limits, before) is not None or wrong
    except Refused:
        wrong = True
    if wrong:
        raise Refused(diagnose(data, limits))


def _read_head(data: bytes, limits: Limits) -> None:
    start = 2 if data.startswith(b"\r\n") else 0
    if data.startswith(b"\r", start):
        raise Refused(policy.EMPTY_LINES if start else policy.LINE_END)
    if data.startswith(b"\n", start):
        raise Refused(policy.LINE_END)
    too_large = len(data) - start > limits.head_size
    # What stands beyond the limit may have come with this piece, or not yet: it does not count.
    data = data[start : start + limits.head_size]
    fields = _read_lines(data, limits)
    if fields is None:
        if too_large:
            raise Refused(policy.HEAD_TOO_LARGE)
        return
    method, target, version = data[: data.index(b"\r")].split(b" ")
    read_fields(fields, int(version[-1:]))
    accept_target(method, target, limits.path_policy)
    if sum(name.lower() == b"content-type" for name, _ in fields) > 1:
        raise Refused(policy.CONTENT_TYPE_REPEATED)


def _read_lines(data: bytes, limits: Limits, before: int = 0) -> Fields | None:
    """The fields, once the empty line has come. `before`: lines of the head that stand before."""
    *lines, rest = data.split(b"\n")
    fields: list[tuple[bytes, bytes]] = []
    most = min(limits.field_count, FIELD_COUNT_MAX)
    for number, line in enumerate(lines, before):
        if number == 0:
            _read_request_line(line, limits, True)
        elif line == b"\r":
            return tuple(fields)
        elif not line:
            raise Refused(policy.LINE_END)
        elif number > most:
            raise Refused(policy.FIELDS_TOO_MANY)
        else:
            fields.append(_read_field_line(line, limits, True))
    number = before + len(lines)
    if number == 0:
        _read_request_line(rest, limits, False)
    elif rest not in (b"\r", b""):
        if number > most:
            raise Refused(policy.FIELDS_TOO_MANY)
        _read_field_line(rest, limits, False)
    return None


def _read_request_line(line: bytes, limits: Limits, whole: bool) -> None:
    size = len(line.removesuffix(b"\r"))
    # A CR beyond the limit may be the end of a line that keeps it.
    limit = limits.request_line + line.startswith(b"\r", limits.request_line)
    _judge(_request_line_fault(line, whole), size, limit, policy.REQUEST_LINE_TOO_LONG)


def _read_field_line(line: bytes, limits: Limits, whole: bool) -> tuple[bytes, bytes]:
    """Name and value."""
    fault = _field_line_fault(line, whole)
    line = line.removesuffix(b"\r")
    _judge(fault, field_line_size(line), limits.field_size, policy.FIELD_TOO_LARGE)
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")


def _judge(fault: _Fault | None, size: int, limit: int, too_large: Rule) -> None:
    """A violation that stands beyond the limit comes after that of the limit."""
    if size > limit and (fault is None or fault[0] >= limit):
        raise Refused(too_large)
    if fault is not None:
        raise Refused(fault[1])


def _request_line_fault(line: bytes, whole: bool) -> _Fault | None:
    """RFC 9112 §3; `line` is without its LF, if it is whole."""
    good = _METHOD.match(line)
    assert good is not None
    position = good.end()
    after = line[position : position + 1]
    if after != b" ":
        if not after and not whole:
            return None
        if after in (b"", b"\t", b"\r"):
            return position, policy.REQUEST_LINE
        return position, policy.METHOD if b" " < after < b"\x7f" else policy.REQUEST_MALFORMED
    if position == 0:
        return position, policy.REQUEST_LINE
    if position < _METHOD_MIN:
        return position, policy.METHOD
    begin = position + 1
    target = _TARGET.match(line, begin)
    assert target is not None
    position = target.end()
    after = line[position : position + 1]
    if after != b" ":
        if not after and not whole:
            return None
        if after in (b"", b"\r"):
            return position, policy.REQUEST_LINE
        return position, policy.TARGET_CHARACTER
    if position == begin:
        return position, policy.REQUEST_LINE
    version = _VERSION.match(line, position + 1)
    if version is None:
        good = _VERSION_SO_FAR.match(line, position + 1)
        position = position + 1 if good is None else good.end()
        if position == len(line) and not whole:
            return None
        return position, policy.REQUEST_LINE
    position = version.end()
    after = line[position : position + 1]
    if (after == b"\r" or (whole and not after)) and version[0] not in _VERSIONS:
        return position, policy.VERSION
    return _line_end_fault(line, position, whole, policy.REQUEST_LINE)


def _field_line_fault(line: bytes, whole: bool) -> _Fault | None:
    """RFC 9112 §5; `line` is without its LF, if it is whole."""
    if line[:1] in (b" ", b"\t"):
        return 0, policy.OBS_FOLD
    token = _TOKEN.match(line)
    position = token.end() if token is not None else 0
    after = line[position : position + 1]
    if after != b":" or position == 0:
        if not after and not whole:
            return None
        return position, policy.FIELD_NAME
    text = _TEXT.match(line, position + 1)
    assert text is not None
    return _line_end_fault(line, text.end(), whole, policy.FIELD_VALUE)


def _line_end_fault(line: bytes, position: int, whole: bool, otherwise: Rule) -> _Fault | None:
    """What is wrong with the end of a line that should be at `position`."""
    rest = line[position:]
    if rest == b"\r" or (not rest and not whole):
        return None
    if not rest or rest.startswith(b"\r"):
        return position, policy.LINE_END
    return position, otherwise
