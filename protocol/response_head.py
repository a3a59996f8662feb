"""Response heads from a reactor: where a head ends, and the framing of its body.

One regular expression reads them. It matches exactly the heads that are accepted, which have at
most one framing field. A head that does not match is incomplete or wrong, and `_explain` tells
which. That path may be slow.
"""

from __future__ import annotations

import re
from typing import Final

from reactor_run.protocol.body import CHUNKED, UNTIL_CLOSE
from reactor_run.protocol.fields import FIELD_LINE, FIELD_TEXT
from reactor_run.protocol.response import BODYLESS, HEAD_MAX, LENGTH_DIGITS, shown

__all__ = ["BadResponse", "KnownResponseHeads", "ResponseHead", "parse_response_head"]


class BadResponse(Exception):
    """The bytes from a reactor are not a response that can be relayed."""


class ResponseHead:
    """A response's head, read and accepted (RFC 9112 §4, §5, §6.3).

    status: 100 to 999. size: bytes of the head, its empty line included.
    body: bytes of the body, CHUNKED or UNTIL_CLOSE. A tunnel is UNTIL_CLOSE.
    interim: another head follows (1xx but 101).
    upgrade: the connection becomes a tunnel (101). A CONNECT never gets a response from an app.
    minor_version: 0 or 1, of HTTP/1.x.
    event_stream: it is a stream of server-sent events, of unknown length.
    """

    __slots__ = ("body", "event_stream", "interim", "minor_version", "size", "status", "upgrade")

    def __init__(
        self,
        status: int,
        size: int,
        body: int,
        interim: bool,
        upgrade: bool,
        minor_version: int,
        event_stream: bool = False,
    ) -> None:
        self.status = status
        self.size = size
        self.body = body
        self.interim = interim
        self.upgrade = upgrade
        self.minor_version = minor_version
        self.event_stream = event_stream


_STATUS_LINE: Final = rb"HTTP/1\.([01]) ([1-9][0-9]{2}) " + FIELD_TEXT + rb"\r\n"
_FRAMING_NAME: Final = rb"(?i:content-length|transfer-encoding):"
_OTHER_LINES: Final = rb"(?:(?!" + _FRAMING_NAME + rb")" + FIELD_LINE + rb")*+"
_FRAMING_LINE: Final = (
    rb"(?:(?i:content-length):[\t ]*+([0-9]{1,%d})|(?i:transfer-encoding):[\t ]*+((?i:chunked)))"
    rb"[\t ]*+\r\n" % LENGTH_DIGITS
)
_match_head: Final = re.compile(
    _STATUS_LINE + _OTHER_LINES + rb"(?:" + _FRAMING_LINE + _OTHER_LINES + rb")?+\r\n"
).match
_search_event_stream: Final = re.compile(
    rb"\n(?i:content-type):[\t ]*(?i:text/event-stream)[\t ]*[;\r]"
).search


def parse_response_head(data: bytes, method: bytes, start: int = 0) -> ResponseHead | None:
    """Read the head at index `start` of a response to `method`; return None while it is incomplete.

    Bytes after the head are ignored. Raises `BadResponse`. This is stricter than RFC 9112 where the
    RFC leaves a choice, because the bytes are relayed unchanged: at most one Content-Length, with
    one value; no transfer coding but chunked, and only where it is allowed (§6.1); never both
    fields.
    """
    match = _match_head(data, start)
    if match is None:
        _explain(data, start)
        return None
    size = match.end() - start
    if size > HEAD_MAX:
        raise BadResponse(f"the head has more than {HEAD_MAX} bytes")
    minor, code, length, coding = match.groups()
    status = int(code)
    interim = upgrade = False
    if coding is not None and (minor == b"0" or status < 200 or status == 204):
        raise BadResponse(f"Transfer-Encoding in a {status} response of HTTP/1.{minor.decode()}")
    if status < 200:
        if status == 101:
            upgrade = True
            body = UNTIL_CLOSE
        else:
            interim = True
            body = 0
    elif method == b"HEAD" or status in BODYLESS:
        body = 0
    elif length is not None:
        body = int(length)
    elif coding is not None:
        body = CHUNKED
    else:
        body = UNTIL_CLOSE
    streamed = body < 0 and _search_event_stream(data, start, match.end()) is not None
    return ResponseHead(status, size, body, interim, upgrade, 1 if minor == b"1" else 0, streamed)


class KnownResponseHeads:
    """A cache of response heads, because the heads of one app often differ only in their Date.

    Responses to HEAD are not cached, because HEAD changes what a head means.
    """

    __slots__ = ("_heads",)

    MAX: Final = 256
    """Most heads that are remembered."""
    SIZE: Final = 1024
    """Most bytes of a head that is remembered."""

    def __init__(self) -> None:
        self._heads: dict[bytes, ResponseHead] = {}

    def parse(self, data: bytes, method: bytes, start: int = 0) -> ResponseHead | None:
        """Do what `parse_response_head` does. The head is shared and must not be changed."""
        end = data.find(b"\r\n\r\n", start) + 4
        if end - start > self.SIZE or end < 4 or method == b"HEAD":
            return parse_response_head(data, method, start)
        text = data[start:end]
        head = self._heads.get(text)
        if head is None:
            head = parse_response_head(data, method, start)
            if head is not None:
                if len(self._heads) >= self.MAX:
                    self._heads.clear()
                self._heads[text] = head
        return head


_LONE_CR_OR_LF: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_framing_lines: Final = re.compile(rb"\n(" + _FRAMING_NAME + FIELD_TEXT + rb")").findall


def _explain(data: bytes, start: int) -> None:
    """Return if `data` can still become a valid head. Raise `BadResponse` if it cannot."""
    end = data.find(b"\r\n\r\n", start)
    head = data[start:] if end < 0 else data[start : end + 4]
    if len(head) > HEAD_MAX:
        raise BadResponse(f"the head has more than {HEAD_MAX} bytes")
    if _LONE_CR_OR_LF.search(head) is not None:
        raise BadResponse("a line of the head does not end with CR LF")
    if not head.startswith(b"HTTP/1."[: len(head)]):
        raise BadResponse(f"not a response of HTTP/1: {shown(head[:40])}")
    if end < 0:
        return
    lines = head[:-2].splitlines(keepends=True)
    if re.fullmatch(_STATUS_LINE, lines[0]) is None:
        raise BadResponse(f"not a status line: {shown(lines[0])}")
    for line in lines[1:]:
        if line.startswith((b" ", b"\t")):
            raise BadResponse(f"a field value is folded: {shown(line)}")
        if re.fullmatch(FIELD_LINE, line) is None:
            raise BadResponse(f"not a field: {shown(line)}")
    raise BadResponse(f"no clear framing: {shown(b' and '.join(_framing_lines(head)))}")
