"""Request heads: what a head means, and whether it is accepted.

Theory of operation. The reader in C (_head.c) is asked first. It accepts most heads, but only such
as are accepted here too, and with the same meaning. It rejects nothing. What it does not accept is
read here, by the policy. So the policy is complete by itself: without the extension it reads all.

picohttpparser (through gunicorn_h1c) splits a head into pieces. It is lenient, so each piece passes
one check here. By itself the parser rejects only control characters in targets and values, a CR
without LF, and names that are not tokens. It accepts the following, which is caught here:

    bare LF line ends                  the head must hold one CR for each line
    obs-fold                           comes out as a field with an empty name (before 0.6.10)
    leading empty lines, wide spaces   the request line is measured against its pieces
    forms of targets, dot segments     `accept_target`, in target.py
    Host, and framing fields in any    `read_fields`, in meaning.py, which does not rely on how the
    disguise                           parser read them

If the syntax of a head is wrong, `diagnose` in diagnosis.py names the rule. So the verdict does not
depend on the parser, nor on how the bytes were cut into pieces.

Field names are looked up in a table that tells their meaning. A name is checked by its grammar
once, and then remembered.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from gunicorn_h1c import LimitRequestHeaders, LimitRequestLine, parse_request_fast

# The fast parser raises an IncompleteError and a ParseError of its own, which the package does not
# export; its ParseError is a ValueError like the exported one.
from gunicorn_h1c._parser_fast import IncompleteError

from reactor_run.native import read_head
from reactor_run.protocol import policy
from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.diagnosis import check_incomplete, diagnose, field_line_size
from reactor_run.protocol.meaning import (
    CODING,
    EXPECT,
    HOST,
    LENGTH,
    Fields,
    meaning_of,
    read_fields,
)
from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits, Rejected
from reactor_run.protocol.target import accept_target, authority_of

__all__ = [
    "ParsedHead",
    "RequestHead",
    "Rewritten",
    "judge_request_head",
    "parse_request_head",
    "read_relayed_head",
    "reframe",
]


@runtime_checkable
class RequestHead(Protocol):
    """A request's head, read and accepted (RFC 9112 §3, §5, §6): by the reader in C, or here.

    method, target: as sent. minor_version: 0 or 1, of HTTP/1.x.
    fields: names as sent, values without surrounding white space.
    line: the request line, without its line end.
    size: bytes of the head, its empty line included.
    body: bytes of Content-Length, 0 without a body, or CHUNKED.
    keep_alive: the client allows another request after this one (RFC 9112 §9.3).
    expect_continue: the client waits for 100 Continue (RFC 9110 §10.1.1).
    upgrade: the client asks for another protocol (RFC 9110 §7.8).
    """

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def minor_version(self) -> int: ...
    @property
    def fields(self) -> Fields: ...
    @property
    def line(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def body(self) -> int: ...
    @property
    def keep_alive(self) -> bool: ...

    expect_continue: bool

    @property
    def upgrade(self) -> bool: ...

    def values(self, names: tuple[bytes, ...], /) -> list[bytes]:
        """Return the value of the last field of each name, in lower case; b"" if there is none."""


class ParsedHead:
    """A head that was read here (`RequestHead`)."""

    __slots__ = (
        "body",
        "expect_continue",
        "fields",
        "keep_alive",
        "method",
        "minor_version",
        "size",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor_version: int,
        fields: Fields,
        size: int,
        body: int,
        keep_alive: bool,
        expect_continue: bool,
        upgrade: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.minor_version = minor_version
        self.fields = fields
        self.size = size
        self.body = body
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.upgrade = upgrade

    @property
    def line(self) -> bytes:
        """The request line, without its line end."""
        return b"%b %b HTTP/1.%d" % (self.method, self.target, self.minor_version)

    def values(self, names: tuple[bytes, ...], /) -> list[bytes]:
        """Return the value of the last field of each name, in lower case; b"" if there is none."""
        values = {name.lower(): value for name, value in self.fields}
        return [values.get(name, b"") for name in names]


_ANY_SIZE: Final = Limits(1 << 20, FIELD_COUNT_MAX, 1 << 20, 1 << 24, 0, "pass")
_ANY_BOUNDS: Final = _ANY_SIZE.bounds
_REFRAMED: Final = (LENGTH, CODING, EXPECT)


class Rewritten(Exception):
    """The request must be changed: read and relay `data` instead of the bytes that arrived.

    Either the path policy changed the path, or the target names a host, which replaces Host (RFC
    9112 §3.2.2). It is an exception because it is rare, and because the original bytes must not be
    relayed: the reactor would see another path, or two hosts.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data


def parse_request_head(data: bytes, limits: Limits, last_len: int = 0) -> RequestHead | None:
    """Read the head at the start of `data`; return None while it is incomplete.

    `last_len`: how many bytes an earlier, incomplete call was given. They are not parsed again.
    Bytes after the head are ignored. Raises `Rejected`, and `Rewritten` if the request must be
    changed.
    """
    # A head in pieces goes to the policy: the reader in C would read it from the start each time.
    head = None if last_len else read_head(data, limits.bounds)
    return head or judge_request_head(data, limits, last_len)


def judge_request_head(data: bytes, limits: Limits, last_len: int = 0) -> ParsedHead | None:
    """Do the same by the policy alone."""
    try:
        if limits.wider_than_parser:
            parsed = parse_request_fast(
                data,
                last_len,
                limit_request_line=limits.request_line,
                limit_request_fields=limits.field_count,
                limit_request_field_size=limits.field_size,
            )
        else:
            parsed = parse_request_fast(data, last_len)
    except IncompleteError:
        check_incomplete(data, limits, last_len)
        return None
    except ValueError:
        raise Rejected(diagnose(data, limits)) from None

    method = parsed.method
    target = parsed.path
    size = parsed.consumed
    minor_version = parsed.minor_version
    count = parsed.header_count

    line = data.find(b"\r")
    if line != len(method) + len(target) + 10:
        return _after_empty_line(data, line, limits)
    if data.count(b"\r", 0, size) != count + 2:
        raise Rejected(diagnose(data, limits))
    if (
        line > limits.request_line
        or count > limits.field_count
        or size > limits.field_size
        or size > limits.head_size
    ) and _is_too_large(data[:size], limits):
        raise Rejected(diagnose(data, limits))

    fields: Fields = parsed.headers
    try:
        body, keep_alive, expect, upgrade = read_fields(fields, minor_version)
    except Rejected:
        # A violation of the syntax takes precedence over one of the meaning.
        raise Rejected(diagnose(data, limits)) from None
    if 0 < limits.body_size < body:
        raise Rejected(policy.BODY_TOO_LARGE)
    accepted = accept_target(method, target, limits.path_policy)
    host = b"" if target[:1] == b"/" else authority_of(target)
    if accepted != target or (host and host != _host_of(fields)):
        line_and_fields = data[: size - 4]
        raise Rewritten(_rewrite(line_and_fields, accepted, host) + data[size - 4 :])
    return ParsedHead(
        method, target, minor_version, fields, size, body, keep_alive, expect, upgrade
    )


def _after_empty_line(data: bytes, line: int, limits: Limits) -> ParsedHead | None:
    """Read a head whose request line is not as long as its pieces.

    That is valid only after one empty line, which a server ignores for the sake of old clients (RFC
    9112 §2.2). Raises `Rejected` in all other cases.
    """
    if line == 0 and data.startswith(b"\r\n") and not data.startswith((b"\r\n\r", b"\r\n\n")):
        head = judge_request_head(data[2:], limits)
        if head is not None:
            head.size += 2
        return head
    raise Rejected(diagnose(data, limits))


def _host_of(fields: Fields) -> bytes | None:
    return next((value for name, value in fields if meaning_of(name) == HOST), None)


def _rewrite(lines: bytes, target: bytes, host: bytes) -> bytes:
    """Return the request line and field lines with this target and, unless it is empty, this
    Host."""
    request_line, *fields = lines.split(b"\r\n")
    method, _, version = request_line.split(b" ")
    if host:
        # It replaces the client's Host field, if there is one (RFC 9112 §3.2.2).
        others = [line for line in fields if meaning_of(line.partition(b":")[0]) != HOST]
        fields = [b"Host: " + host, *others]
    return b"\r\n".join([method + b" " + target + b" " + version, *fields])


def _is_too_large(head: bytes, limits: Limits) -> bool:
    """Whether a head, or one of its parts, exceeds a limit."""
    request_line, *fields = head[:-4].split(b"\r\n")
    return (
        len(request_line) > limits.request_line
        or len(fields) > limits.field_count
        or any(field_line_size(line) > limits.field_size for line in fields)
        or len(head) > limits.head_size
    )


def read_relayed_head(data: bytes, last_len: int = 0) -> RequestHead | None:
    """Read a head that the front end has accepted; return None while it is incomplete.

    Reactors use this. The front end has applied the policy, so this only splits the head, and takes
    the framing as the parser reads it. Raises `Rejected` for a head that no policy accepts.
    """
    head = None if last_len else read_head(data, _ANY_BOUNDS)
    return head or _split_relayed_head(data, last_len)


def _split_relayed_head(data: bytes, last_len: int) -> ParsedHead | None:
    try:
        parsed = parse_request_fast(data, last_len)
    except IncompleteError:
        return None
    except ValueError as error:
        if not isinstance(error, LimitRequestLine | LimitRequestHeaders):
            raise Rejected(diagnose(data, _ANY_SIZE)) from None
        # The operator's limits are wider than the parser's defaults.
        return judge_request_head(data, _ANY_SIZE, last_len)
    if parsed.has_chunked:
        body = CHUNKED
    else:
        body = parsed.content_length
        if body <= 0:
            return ParsedHead(
                parsed.method,
                parsed.path,
                parsed.minor_version,
                parsed.headers,
                parsed.consumed,
                0,
                True,
                False,
                parsed.minor_version == 1 and parsed.get_header(b"upgrade") is not None,
            )
    return ParsedHead(
        parsed.method,
        parsed.path,
        parsed.minor_version,
        parsed.headers,
        parsed.consumed,
        body,
        True,
        parsed.minor_version == 1 and parsed.get_header(b"expect") is not None,
        False,
    )


def reframe(head: RequestHead, length: int) -> bytes:
    """Return the head of the same request with a buffered body of `length` bytes.

    Content-Length replaces Transfer-Encoding (RFC 9112 §6.1). Expect is dropped: the body has
    arrived (RFC 9110 §10.1.1).
    """
    lines = [b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor_version)]
    lines += [b"%b: %b" % field for field in head.fields if meaning_of(field[0]) not in _REFRAMED]
    lines.append(b"content-length: %d\r\n\r\n" % length)
    return b"\r\n".join(lines)
