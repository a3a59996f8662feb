"""The rules that a client's bytes must keep, each with its source, status and reason.

Each violation is one of the rules below, raised as `Rejected`. The code that finds a violation
stands with its grammar: target.py, host.py, meaning.py, body.py, proxy.py. diagnosis.py finds those
that the parser reports. This file owns the verdicts, for both processes.

Every violation closes the connection, and the server answers nothing that was sent after it. After
most violations it is unknown where the next request begins. The other rules (417, for one) close
the connection too, so that there is only one way to go on.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["FIELD_COUNT_MAX", "RULES", "Limits", "PathPolicy", "Rejected", "Rule"]


class Rule(NamedTuple):
    """One reason to reject a client's bytes."""

    name: str
    """Identifier for logs and tests, in kebab case."""
    section: str
    """The source of the rule: an RFC section or a section of the PROXY protocol specification."""
    status: int
    """The status of the answer. The connection ends with that answer."""
    reason: str
    """One line for the body of the answer and for the log."""


class Rejected(Exception):
    """A client's bytes break a rule."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(f"{rule.name}: {rule.reason} ({rule.section})")
        self.rule = rule


PathPolicy = Literal["reject", "normalize", "pass"]
"""What happens to a path with dot segments, which target.py defines.

reject      the request is rejected. Browsers and most HTTP libraries remove dot segments before
            they send. A path that still has them is mostly an attempt to leave a directory, or to
            get past an access rule of a proxy that does not normalize paths
normalize   they are removed from the request itself. The app and both processes see only the
            normalized path
pass        they reach the app as they were sent
"""

FIELD_COUNT_MAX: Final = 256
"""Most field lines that the parser can hold. No limit may be higher."""


class Limits:
    """Bounds on what a client may send, in bytes unless said otherwise, and the path policy."""

    __slots__ = (
        "body_size",
        "bounds",
        "field_count",
        "field_size",
        "head_size",
        "path_policy",
        "request_line",
        "wider_than_parser",
    )

    def __init__(
        self,
        request_line: int = 8190,
        field_count: int = 100,
        field_size: int = 8190,
        head_size: int = 65536,
        body_size: int = 1 << 30,
        path_policy: PathPolicy = "reject",
    ) -> None:
        """Raises ValueError for a `field_count` above FIELD_COUNT_MAX."""
        if field_count > FIELD_COUNT_MAX:
            raise ValueError(f"the parser holds at most {FIELD_COUNT_MAX} fields")
        self.request_line = request_line
        self.field_count = field_count
        """Most field lines in a head."""
        self.field_size = field_size
        """Most bytes of one field line with its line end, counted as if one space followed its
        colon."""
        self.head_size = head_size
        self.body_size = body_size
        """Most bytes of content of one request body. 0: no bound."""
        self.path_policy = path_policy
        self.bounds = (request_line, field_count, field_size, head_size, body_size)
        """The limits as the reader in C takes them (_head.c)."""
        self.wider_than_parser = (
            request_line > _PARSER_LINE or field_count > _PARSER_COUNT or field_size > _PARSER_FIELD
        )
        """Whether the parser must be told these limits, because its defaults are narrower."""

    def with_bodies(self, size: int) -> Limits:
        """Return the same limits with another one for bodies."""
        return Limits(
            self.request_line,
            self.field_count,
            self.field_size,
            self.head_size,
            size,
            self.path_policy,
        )


# The default limits of gunicorn_h1c. Passing limits to it makes a parse take three times as long.
_PARSER_LINE: Final = 8190
_PARSER_COUNT: Final = 100
_PARSER_FIELD: Final = 8190


RULES: dict[str, Rule] = {}


def _rule(name: str, section: str, status: int, reason: str) -> Rule:
    rule = RULES[name] = Rule(name, section, status, reason)
    return rule


# The request line -------------------------------------------------------------------------------

REQUEST_MALFORMED = _rule(
    "request-malformed", "RFC 9112 §2.1", 400, "this is not an HTTP/1.1 request"
)
REQUEST_LINE = _rule(
    "request-line", "RFC 9112 §3", 400, "a request line is METHOD SP target SP HTTP-version"
)
REQUEST_LINE_TOO_LONG = _rule(
    "request-line-too-long", "RFC 9110 §15.5.15", 414, "the request line is too long"
)
EMPTY_LINES = _rule(
    "empty-lines", "RFC 9112 §2.2", 400, "more than one empty line stands before the request line"
)
METHOD = _rule(
    "method", "RFC 9110 §9.1", 400, "the method is not a token of 3 to 20 characters in upper case"
)
CONNECT = _rule("connect", "RFC 9110 §9.3.6", 501, "CONNECT is not implemented: this is no proxy")
VERSION = _rule("version", "RFC 9110 §15.6.6", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
TARGET = _rule(
    "target", "RFC 9112 §3.2", 400, "the request target has no form that its method allows"
)
TARGET_CHARACTER = _rule(
    "target-character", "RFC 3986 §2", 400, "the request target holds an illegal character"
)
TARGET_ESCAPE = _rule(
    "target-escape", "RFC 3986 §2.1", 400, "a percent-escape in the path is malformed or hides NUL"
)
DOT_SEGMENT = _rule("dot-segment", "RFC 3986 §3.3", 400, "a segment of the path is . or ..")

# The fields -------------------------------------------------------------------------------------

LINE_END = _rule(
    "line-end", "RFC 9112 §2.2", 400, "a line of a head ends with CR LF, and holds neither"
)
OBS_FOLD = _rule("obs-fold", "RFC 9112 §5.2", 400, "a field line begins with white space")
FIELD_NAME = _rule(
    "field-name", "RFC 9112 §5.1", 400, "a field line does not begin with a token and a colon"
)
FIELD_DISGUISED = _rule(
    "field-disguised", "RFC 9112 §11.2", 400, "a field name could pass for one that frames the body"
)
FIELD_VALUE = _rule("field-value", "RFC 9110 §5.5", 400, "a field value holds a control character")
FIELDS_TOO_MANY = _rule("fields-too-many", "RFC 6585 §5", 431, "too many fields")
FIELD_TOO_LARGE = _rule("field-too-large", "RFC 6585 §5", 431, "a field is too large")
HEAD_TOO_LARGE = _rule("head-too-large", "RFC 6585 §5", 431, "the head is too large")
HOST_MISSING = _rule("host-missing", "RFC 9112 §3.2", 400, "HTTP/1.1 requires a Host field")
HOST_REPEATED = _rule("host-repeated", "RFC 9112 §3.2", 400, "there is more than one Host field")
HOST_MALFORMED = _rule("host-malformed", "RFC 9110 §7.2", 400, "the Host field is malformed")
CONTENT_TYPE_REPEATED = _rule(
    "content-type-repeated", "RFC 9110 §5.3", 400, "there is more than one Content-Type field"
)
EXPECTATION = _rule(
    "expectation", "RFC 9110 §10.1.1", 417, "only the expectation 100-continue can be met"
)

# Framing ----------------------------------------------------------------------------------------

CONTENT_LENGTH = _rule(
    "content-length", "RFC 9110 §8.6", 400, "Content-Length is not one decimal number"
)
CONTENT_LENGTH_REPEATED = _rule(
    "content-length-repeated", "RFC 9112 §6.3", 400, "there is more than one Content-Length field"
)
TRANSFER_ENCODING = _rule(
    "transfer-encoding",
    "RFC 9112 §6.3",
    400,
    "Transfer-Encoding does not end with chunked, once and without parameters",
)
TRANSFER_CODING = _rule(
    "transfer-coding", "RFC 9112 §6.1", 501, "no transfer coding but chunked is implemented"
)
TRANSFER_ENCODING_VERSION = _rule(
    "transfer-encoding-version", "RFC 9112 §6.1", 400, "HTTP/1.0 has no Transfer-Encoding"
)
FRAMING_CONFLICT = _rule(
    "framing-conflict",
    "RFC 9112 §6.1",
    400,
    "Transfer-Encoding and Content-Length exclude each other",
)
BODY_TOO_LARGE = _rule("body-too-large", "RFC 9110 §15.5.14", 413, "the body is too large")
BODY_INCOMPLETE = _rule(
    "body-incomplete", "RFC 9112 §8", 400, "the connection ended within the body"
)
CHUNK_SIZE = _rule("chunk-size", "RFC 9112 §7.1", 400, "a chunk size is not a hexadecimal number")
CHUNK_EXTENSION = _rule(
    "chunk-extension", "RFC 9112 §7.1.1", 400, "a chunk extension is malformed or too long"
)
CHUNK_END = _rule("chunk-end", "RFC 9112 §7.1", 400, "chunk data must be followed by CR LF")
CHUNK_OVERHEAD = _rule(
    "chunk-overhead", "RFC 9112 §7.1.1", 400, "the chunks carry far more framing than content"
)
TRAILER_MALFORMED = _rule(
    "trailer-malformed", "RFC 9112 §7.1.2", 400, "a trailer field is malformed"
)
TRAILER_TOO_LARGE = _rule(
    "trailer-too-large", "RFC 6585 §5", 431, "the trailer section is too large"
)

# The PROXY protocol -----------------------------------------------------------------------------

PROXY_MALFORMED = _rule(
    "proxy-malformed", "PROXY protocol §2", 400, "the PROXY header is malformed"
)
PROXY_TOO_LONG = _rule(
    "proxy-too-long", "PROXY protocol §2.1", 400, "a PROXY v1 line has at most 107 bytes"
)
PROXY_VERSION = _rule(
    "proxy-version", "PROXY protocol §2.2", 400, "unknown PROXY version or command"
)
PROXY_FAMILY = _rule(
    "proxy-family", "PROXY protocol §2.2", 400, "the PROXY addresses do not fit their family"
)
PROXY_CRC = _rule(
    "proxy-crc", "PROXY protocol §2.2.3", 400, "the PROXY header's CRC32C does not match"
)

# TLS --------------------------------------------------------------------------------------------

TLS_EXPECTED = _rule(
    "tls-expected", "RFC 9110 §4.2.2", 400, "this port speaks TLS: use https instead of http"
)

# Deadlines --------------------------------------------------------------------------------------

HEAD_TIMEOUT = _rule("head-timeout", "RFC 9110 §15.5.9", 408, "the head did not arrive in time")
BODY_TIMEOUT = _rule("body-timeout", "RFC 9110 §15.5.9", 408, "the body did not arrive in time")
