"""Request heads: what a client's first lines mean, and whether they are let in.

Theory of operation. picohttpparser (through gunicorn_h1c) finds the pieces; it is lenient, so
each of its pieces passes one check here before anything is believed. It does refuse, by itself,
control characters in targets and values, a CR that no LF follows, and names that are no tokens.
What it lets through, and where it is caught:

    bare LF line ends                  the head must hold one CR for each line
    obs-fold                           comes out as a field with an empty name
    leading empty lines, wide spaces   the request line is measured against its pieces
    bytes beyond ASCII, fragments      `_check_target`
    Host missing, repeated, malformed  `_read_fields`
    framing fields in any disguise     `_read_fields`, by our own reading, not the parser's

The common path costs no regular expression: field names are looked up in a table that says which
of them mean anything to a server, a name is checked by grammar once and then remembered.
"""

from __future__ import annotations

import re
from typing import Final

from gunicorn_h1c import (
    InvalidHeader,
    InvalidHeaderName,
    InvalidHTTPVersion,
    InvalidRequestMethod,
    LimitRequestHeaders,
    LimitRequestLine,
    parse_request_fast,
)

# The fast parser raises an IncompleteError and a ParseError of its own, which the package does not
# export; its ParseError is a ValueError like the exported one.
from gunicorn_h1c._parser_fast import IncompleteError

from reactor_run.protocol import policy
from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.policy import Limits, Refused
from reactor_run.protocol.target import SCHEME_AND_AUTHORITY

__all__ = ["KnownHeads", "RequestHead", "parse_request_head", "read_relayed_head", "reframe"]

Fields = tuple[tuple[bytes, bytes], ...]


class RequestHead:
    """A request's head, read and accepted (RFC 9112 §3, §5, §6).

    method, target: as sent. minor_version: 0 or 1, of HTTP/1.x.
    fields: names as sent, values without surrounding white space.
    size: bytes of the head, its empty line included.
    body: bytes of Content-Length, 0 without a body, or CHUNKED.
    keep_alive: the client would go on after this exchange (RFC 9112 §9.3).
    expect_continue: it waits for 100 Continue (RFC 9110 §10.1.1).
    upgrade: it wishes another protocol, or a tunnel (RFC 9110 §7.8, §9.3.6).
    """

    __slots__ = (
        "body",
        "expect_continue",
        "fields",
        "keep_alive",
        "known",
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
        self.known = False
        """It is remembered, and stands for more requests than one."""


# Which field names mean anything to a server. Everything else is PLAIN: it is the app's.
PLAIN, HOST, LENGTH, CODING, CONNECTION, EXPECT, UPGRADE, FOLD = range(8)
_MEANINGS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"": FOLD,
}
# Spellings seen so far, a name in the sender's case to its meaning; bounded, never the only check.
_seen: dict[bytes, int] = {}
_SEEN_MAX: Final = 1024
_SEEN_SIZE: Final = 256
"""Bytes of what is worth remembering."""

_ANY_SIZE: Final = Limits(1 << 20, 1 << 16, 1 << 20, 1 << 24, 0)
_REFRAMED: Final = (LENGTH, CODING, EXPECT)
# Values and targets that have passed their grammar lately; bounded in the same way.
_hosts_seen: set[bytes] = set()
_paths_seen: set[bytes] = set()
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+\]"
    rb"|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AUTHORITY_WITH_PORT = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+):[0-9]+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
# RFC 3986 §2: what may stand in a target besides percent-escapes. Quotes, braces, pipes, carets,
# back-slashes and angle brackets may not, but browsers send them in queries: these pass there.
_ILLEGAL_IN_PATH = re.compile(rb"""[^A-Za-z0-9\-._~:/@!$&'()*+,;=%\[\]|^`{}"<>\\]""")


class KnownHeads:
    """Heads that were read lately, so that a request that is repeated is not read again.

    Clients on kept connections, probes and other services send the same head again and again. Only
    heads without a body are remembered: short ones, few, and not before they came a second time, so
    that requests which all differ cost next to nothing more.
    """

    __slots__ = ("_heads", "_once")

    MAX: Final = 512
    SIZE: Final = 1024
    """Bytes of the longest head that is remembered."""

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._once: set[int] = set()
        """Hashes of what came once. A wrong one only has a head remembered too early."""

    def get(self, data: bytes) -> RequestHead | None:
        """The head that `data` is, if it was remembered. Not to be changed: others share it."""
        return self._heads.get(data)

    def add(self, data: bytes, head: RequestHead) -> None:
        """Remember what `data` was read as, if it is all of a request and worth it."""
        if head.body == 0 and head.size == len(data) <= self.SIZE:
            sighting = hash(data)
            if sighting not in self._once:
                if len(self._once) >= self.MAX:
                    self._once.clear()
                self._once.add(sighting)
                return
            if len(self._heads) >= self.MAX:
                self._heads.clear()
            self._heads[data] = head
            head.known = True


def parse_request_head(data: bytes, limits: Limits, last_len: int = 0) -> RequestHead | None:
    """Read the head at the start of `data`; None while it is incomplete.

    `last_len` is how many bytes an earlier, incomplete call was given: it saves parsing them
    again. Bytes beyond the head are left alone. Raises `Refused`.
    """
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
        _check_incomplete(data, limits)
        return None
    except ValueError as error:
        raise Refused(_verdict(error)) from None

    method = parsed.method
    target = parsed.path
    size = parsed.consumed
    minor_version = parsed.minor_version
    count = parsed.header_count

    line = data.find(b"\r")
    if line != len(method) + len(target) + 10:
        return _after_empty_line(data, line, limits)
    if data.count(b"\r", 0, size) != count + 2:
        raise Refused(policy.LINE_END)
    if (
        line > limits.request_line
        or count > limits.field_count
        or size > limits.field_size
        or size > limits.head_size
    ):
        _check_sizes(line, parsed.headers, size, limits)

    fields: Fields = parsed.headers
    hosts = 0
    for name, value in fields:
        meaning = _seen.get(name)
        if meaning == PLAIN or (
            meaning == CONNECTION and value == b"keep-alive" and minor_version == 1
        ):
            continue
        if meaning == HOST and value in _hosts_seen:
            hosts += 1
        else:
            hosts = -1
            break
    if hosts == 1:
        # By far the most frequent: nothing about the fields needs a closer look.
        body = 0
        keep_alive = minor_version == 1
        expect = upgrade = False
    else:
        body, keep_alive, expect, upgrade = _read_fields(fields, minor_version)
        if 0 < limits.body_size < body:
            raise Refused(policy.BODY_TOO_LARGE)
    if target not in _paths_seen or method == b"CONNECT":
        _check_target(method, target)
        upgrade = upgrade or method == b"CONNECT"
    return RequestHead(
        method, target, minor_version, fields, size, body, keep_alive, expect, upgrade
    )


def _after_empty_line(data: bytes, line: int, limits: Limits) -> RequestHead | None:
    """The request line is not as long as its pieces: right only if an empty line stands before.

    RFC 9112 §2.2: one is ignored, for the sake of old clients.
    """
    if line == 0 and data.startswith(b"\r\n") and not data.startswith((b"\r\n\r", b"\r\n\n")):
        head = parse_request_head(data[2:], limits)
        if head is not None:
            head.size += 2
        return head
    raise Refused(policy.LINE_END if b"\n" in data[: line + 1] else policy.REQUEST_LINE)


def _check_sizes(line: int, fields: Fields, size: int, limits: Limits) -> None:
    """What a head of some size must be asked: whether one of its parts is too large."""
    if line > limits.request_line:
        raise Refused(policy.REQUEST_LINE_TOO_LONG)
    if len(fields) > limits.field_count:
        raise Refused(policy.FIELDS_TOO_MANY)
    if any(len(name) + len(value) > limits.field_size for name, value in fields):
        raise Refused(policy.FIELD_TOO_LARGE)
    if size > limits.head_size:
        raise Refused(policy.HEAD_TOO_LARGE)


def read_relayed_head(data: bytes, last_len: int = 0) -> RequestHead | None:
    """Read a head that the front end has accepted, for the reactor; None while it is incomplete.

    The policy has been applied, and is not applied twice: this reads the pieces, and their framing
    as the parser sees it. Raises `Refused` for what no policy would have let through.
    """
    try:
        parsed = parse_request_fast(data, last_len)
    except IncompleteError:
        return None
    except ValueError as error:
        if not isinstance(error, LimitRequestLine | LimitRequestHeaders):
            raise Refused(_verdict(error)) from None
        # The operator allows more than the parser does by default.
        return parse_request_head(data, _ANY_SIZE, last_len)
    if parsed.has_chunked:
        body = CHUNKED
    else:
        body = parsed.content_length
        if body <= 0:
            return RequestHead(
                parsed.method,
                parsed.path,
                parsed.minor_version,
                parsed.headers,
                parsed.consumed,
                0,
                True,
                False,
                False,
            )
    return RequestHead(
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
    """The head of the same request with a body of `length` bytes that is at hand.

    For a body that was buffered: Transfer-Encoding is replaced by Content-Length (RFC 9112 §6.1),
    and nobody is to be asked to go on any more (RFC 9110 §10.1.1).
    """
    lines = [b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor_version)]
    lines += [
        b"%b: %b" % field
        for field in head.fields
        if _MEANINGS.get(field[0].lower()) not in _REFRAMED
    ]
    lines.append(b"content-length: %d\r\n\r\n" % length)
    return b"\r\n".join(lines)


def _read_fields(fields: Fields, minor_version: int) -> tuple[int, bool, bool, bool]:
    """Body framing, keep-alive, 100-continue and upgrade wish, as the fields tell."""
    hosts = 0
    length = -1
    chunked = False
    keep_alive = minor_version == 1
    expect = upgrade = wants_upgrade = close = False
    for name, value in fields:
        meaning = _seen.get(name)
        if meaning is None:
            meaning = _meaning(name)
        if meaning == PLAIN:
            continue
        if meaning == HOST:
            hosts += 1
            if value not in _hosts_seen:
                _check_host(value)
        elif meaning == CONNECTION:
            options = [option.strip(b" \t") for option in value.lower().split(b",")]
            close = close or b"close" in options
            keep_alive = not close and (keep_alive or b"keep-alive" in options)
            wants_upgrade = wants_upgrade or b"upgrade" in options
        elif meaning == LENGTH:
            if length >= 0:
                raise Refused(policy.CONTENT_LENGTH_REPEATED)
            # isdigit on bytes is ASCII only; 18 digits cannot overflow anybody's 64 bits.
            if not value.isdigit() or len(value) > 18:
                raise Refused(policy.CONTENT_LENGTH)
            length = int(value)
        elif meaning == CODING:
            if chunked or value.lower() != b"chunked":
                raise Refused(policy.TRANSFER_ENCODING)
            chunked = True
        elif meaning == EXPECT:
            if value.lower() != b"100-continue":
                raise Refused(policy.EXPECTATION)
            expect = minor_version == 1
        elif meaning == UPGRADE:
            upgrade = True
        else:
            raise Refused(policy.OBS_FOLD)
    if hosts != 1:
        if hosts > 1:
            raise Refused(policy.HOST_REPEATED)
        if minor_version == 1:
            raise Refused(policy.HOST_MISSING)
    if chunked:
        if length >= 0:
            raise Refused(policy.FRAMING_CONFLICT)
        if minor_version == 0:
            raise Refused(policy.TRANSFER_ENCODING_VERSION)
        return CHUNKED, keep_alive, expect, upgrade and wants_upgrade
    if length > 0:
        return length, keep_alive, expect, upgrade and wants_upgrade
    return 0, keep_alive, False, upgrade and wants_upgrade


def _meaning(name: bytes) -> int:
    """What a field name means to a server; its spelling is checked here, once, and remembered."""
    meaning = _MEANINGS.get(name.lower(), PLAIN)
    if meaning != FOLD:
        if _TOKEN.fullmatch(name) is None:
            raise Refused(policy.FIELD_NAME)
        # A name that some other program would read as a framing field must not pass for an
        # ordinary one: `Transfer_Encoding` is one to whoever writes CGI variables.
        disguised = name.lower().replace(b"_", b"-")
        if meaning == PLAIN and _MEANINGS.get(disguised, PLAIN) in (LENGTH, CODING):
            raise Refused(policy.FIELD_NAME)
    if len(name) <= _SEEN_SIZE:
        if len(_seen) >= _SEEN_MAX:
            _seen.clear()
        _seen[name] = meaning
    return meaning


def _check_host(value: bytes) -> None:
    """RFC 9110 §7.2: uri-host [":" port]; empty is legal where the target names no authority."""
    if _HOST.fullmatch(value) is None:
        raise Refused(policy.HOST_MALFORMED)
    _remember(_hosts_seen, value)


def _remember(seen: set[bytes], value: bytes) -> None:
    if len(value) <= _SEEN_SIZE:
        if len(seen) >= _SEEN_MAX:
            seen.clear()
        seen.add(value)


def _check_target(method: bytes, target: bytes) -> None:
    """RFC 9112 §3.2: which of the four forms a target has, and whether the method allows it."""
    if not target.isascii() or b"#" in target:
        raise Refused(policy.TARGET_CHARACTER)
    if method == b"CONNECT":
        if _AUTHORITY_WITH_PORT.fullmatch(target) is None:
            raise Refused(policy.TARGET)
        return
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(policy.TARGET)
        return
    path = target
    if not target.startswith(b"/"):
        absolute = SCHEME_AND_AUTHORITY.match(target)
        if absolute is None or absolute[1] == b"" or b"@" in absolute[1]:
            raise Refused(policy.TARGET)
        _check_host(absolute[1])
        path = target[absolute.end() :]
    path = path.partition(b"?")[0]
    if b"%" in path and _BAD_ESCAPE.search(path) is not None:
        raise Refused(policy.TARGET_ESCAPE)
    if _ILLEGAL_IN_PATH.search(path) is not None:
        raise Refused(policy.TARGET_CHARACTER)
    if target.startswith(b"/"):
        _remember(_paths_seen, target)


def _check_incomplete(data: bytes, limits: Limits) -> None:
    """A head that is not there yet may already be too large, whatever comes."""
    size = len(data)
    if size > limits.request_line and b"\r" not in data[: limits.request_line + 1]:
        raise Refused(policy.REQUEST_LINE_TOO_LONG)
    if size > limits.head_size:
        raise Refused(policy.HEAD_TOO_LARGE)


_VERDICTS: Final = (
    (LimitRequestLine, policy.REQUEST_LINE_TOO_LONG),
    (InvalidHTTPVersion, policy.VERSION),
    (InvalidRequestMethod, policy.METHOD),
    (InvalidHeaderName, policy.FIELD_NAME),
)


def _verdict(error: ValueError) -> policy.Rule:
    """Our rule for what the parser refused by itself."""
    for kind, rule in _VERDICTS:
        if isinstance(error, kind):
            return rule
    message = str(error)
    if isinstance(error, LimitRequestHeaders):
        return policy.FIELDS_TOO_MANY if "Number" in message else policy.FIELD_TOO_LARGE
    if isinstance(error, InvalidHeader):
        if "Duplicate" in message:
            return policy.HOST_REPEATED if "Host" in message else policy.CONTENT_LENGTH_REPEATED
        if "HTTP/1.0" in message:
            return policy.TRANSFER_ENCODING_VERSION
        if "with Transfer-Encoding" in message:
            return policy.FRAMING_CONFLICT
        if "Content-Length" in message:
            return policy.CONTENT_LENGTH
        if "Transfer-Encoding" in message:
            return policy.TRANSFER_ENCODING
        return policy.FIELD_VALUE
    return policy.TARGET if "request-target" in message else policy.REQUEST_MALFORMED
