"""The diagnosis of a bad head: which rule it breaks, read line by line.

The parser says that a head is bad, but not reliably why. It also calls some heads incomplete that
no further byte can make valid. So such heads are read strictly here, and the first violation in the
order of the bytes counts. A violation depends only on the bytes up to it: later bytes do not change
the verdict.

    request line        method SP target SP HTTP-version CRLF
    each field line     token ":" text CRLF, its size, and how many there were
    with the head whole what the fields mean, and what the target is

`diagnose` reads a head that is known to be bad from its start, at most once per connection.
`check_incomplete` is for a head that arrives in pieces. It reads each complete line once, and the
last, unfinished line again with each piece.
"""

from __future__ import annotations

import re
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.fields import FIELD_TEXT, TOKEN
from reactor_run.protocol.meaning import Fields, read_fields
from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits, Rejected, Rule
from reactor_run.protocol.target import accept_target

__all__ = ["check_incomplete", "diagnose", "field_line_size"]

_METHOD_MIN: Final = 3
_METHOD: Final = re.compile(rb"[!$%&'*+\-.^_`|~0-9A-Z]{0,20}+")
"""A token in upper case, without the `#` that the parser rejects."""
_TOKEN: Final = re.compile(TOKEN)
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]*+")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_VERSIONS: Final = (b"HTTP/1.0", b"HTTP/1.1")
_VERSION_SO_FAR: Final = re.compile(rb"H(?:T(?:T(?:P(?:/(?:[0-9]\.?)?)?)?)?)?")
_TEXT: Final = re.compile(FIELD_TEXT)

_Fault = tuple[int, Rule]
"""The position of a violation in its line, and the rule that is broken."""


def diagnose(data: bytes, limits: Limits) -> Rule:
    """Return the first rule that the head at the start of `data` breaks.

    The head may be incomplete.
    """
    try:
        _read_head(data, limits)
    except Rejected as rejected:
        return rejected.rule
    return policy.REQUEST_MALFORMED


def field_line_size(line: bytes) -> int:
    """Return the bytes that count for a field line, given without its line end.

    White space after the colon counts as one space.
    """
    colon = line.find(b":")
    return len(line) + 2 + (line[colon + 1 : colon + 2] not in (b" ", b"\t"))


def check_incomplete(data: bytes, limits: Limits, checked: int) -> None:
    """Check a head that the parser calls incomplete.

    Raises `Rejected` if no further byte can make it valid. `checked`: bytes at the start of `data`
    that an earlier call accepted.
    """
    if data == b"\r":
        return
    start = 2 if data.startswith(b"\r\n") else 0
    checked = max(start, data.rfind(b"\n", start, checked) + 1)
    before = data.count(b"\n", start, checked)
    wrong = len(data) - start > limits.head_size
    try:
        # An empty line ends every head: the parser must have judged this one.
        wrong = _read_lines(data[checked:], limits, before) is not None or wrong
    except Rejected:
        wrong = True
    if wrong:
        raise Rejected(diagnose(data, limits))


def _read_head(data: bytes, limits: Limits) -> None:
    start = 2 if data.startswith(b"\r\n") else 0
    if data.startswith(b"\r", start):
        raise Rejected(policy.EMPTY_LINES if start else policy.LINE_END)
    if data.startswith(b"\n", start):
        raise Rejected(policy.LINE_END)
    too_large = len(data) - start > limits.head_size
    # Bytes beyond the limit may or may not have arrived yet. They do not count.
    data = data[start : start + limits.head_size]
    fields = _read_lines(data, limits)
    if fields is None:
        if too_large:
            raise Rejected(policy.HEAD_TOO_LARGE)
        return
    method, target, version = data[: data.index(b"\r")].split(b" ")
    read_fields(fields, int(version[-1:]))
    accept_target(method, target, limits.path_policy)
    if sum(name.lower() == b"content-type" for name, _ in fields) > 1:
        raise Rejected(policy.CONTENT_TYPE_REPEATED)


def _read_lines(data: bytes, limits: Limits, before: int = 0) -> Fields | None:
    """Return the fields once the empty line has arrived, else None.

    `before`: how many lines of the head precede `data`. Raises `Rejected`.
    """
    *lines, rest = data.split(b"\n")
    fields: list[tuple[bytes, bytes]] = []
    most = min(limits.field_count, FIELD_COUNT_MAX)
    for number, line in enumerate(lines, before):
        if number == 0:
            _read_request_line(line, limits, True)
        elif line == b"\r":
            return tuple(fields)
        elif not line:
            raise Rejected(policy.LINE_END)
        elif number > most:
            raise Rejected(policy.FIELDS_TOO_MANY)
        else:
            fields.append(_read_field_line(line, limits, True))
    number = before + len(lines)
    if number == 0:
        _read_request_line(rest, limits, False)
    elif rest not in (b"\r", b""):
        if number > most:
            raise Rejected(policy.FIELDS_TOO_MANY)
        _read_field_line(rest, limits, False)
    return None


def _read_request_line(line: bytes, limits: Limits, whole: bool) -> None:
    fault = _request_line_fault(line, whole)
    if len(_judged(line, fault)) > limits.request_line:
        raise Rejected(policy.REQUEST_LINE_TOO_LONG)
    if fault is not None:
        raise Rejected(fault[1])


def _read_field_line(line: bytes, limits: Limits, whole: bool) -> tuple[bytes, bytes]:
    """Return name and value. Raises `Rejected`."""
    fault = _field_line_fault(line, whole)
    judged = _judged(line, fault)
    if field_line_size(judged) > limits.field_size:
        raise Rejected(policy.FIELD_TOO_LARGE)
    if fault is not None:
        raise Rejected(fault[1])
    name, _, value = judged.partition(b":")
    return name, value.strip(b" \t")


def _judged(line: bytes, fault: _Fault | None) -> bytes:
    """Return the line up to and with its fault, without the CR of its end.

    The size of a line counts only up to there: of a fault and a limit, the one that comes first in
    the bytes is broken. A byte that is beyond the limit breaks the limit, whatever it is.
    """
    if fault is not None:
        line = line[: fault[0] + 1]
    return line.removesuffix(b"\r")


def _request_line_fault(line: bytes, whole: bool) -> _Fault | None:
    """Return the first fault of a request line (RFC 9112 §3). A whole line comes without its LF."""
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
    """Return the first fault of a field line (RFC 9112 §5). A whole line comes without its LF."""
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
    """Return the fault at `position`, where the line should end."""
    rest = line[position:]
    if rest == b"\r" or (not rest and not whole):
        return None
    if not rest or rest.startswith(b"\r"):
        return position, policy.LINE_END
    return position, otherwise
