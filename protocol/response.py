"""Response heads of an app, encoded, and whole responses of the server itself.

The server owns the framing (RFC 9112 §6). An app's head says what the response means. The fields
that say how it travels are dropped and written anew, except Content-Length.

Theory of operation. Encoding runs once per request. The encoder in C (_response.c) is asked first.
It encodes most heads, but only such as are encoded here too, to the same bytes. It rejects nothing.
What it does not encode is encoded here. So without the extension all heads are.

Here each field name is looked up, as the app spells it, in a table. The table begins with common
names. Any other name is checked against the grammar once, and then added. All values are checked in
one step. Only if that check fails, the code looks for the value at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from reactor_run.native import encode_head, encode_text
from reactor_run.protocol.body import CHUNKED, TRAILER_FIELDS_MAX, TRAILER_MAX, UNTIL_CLOSE
from reactor_run.protocol.fields import TOKEN
from reactor_run.protocol.own_fields import HOP_BY_HOP, ONLY_DATE, OwnFields

__all__ = [
    "BODYLESS",
    "HEAD_MAX",
    "LENGTH_DIGITS",
    "STATUS_LINES",
    "ResponseError",
    "encode_early_hints",
    "encode_field_lines",
    "encode_response_head",
    "encode_text_head",
    "encode_trailers",
    "insert_connection",
    "judge_response_head",
    "shown",
    "simple_response",
]

HEAD_MAX: Final = 64 * 1024
"""Most bytes of a response head, its empty line included."""


class ResponseError(ValueError):
    """The app's response cannot be sent as HTTP. The message is for the author of the app."""


# Encoding an app's head ---------------------------------------------------------------------------


_PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
STATUS_LINES: Final = {
    status: (b"HTTP/1.1 %d " % status, _PHRASES.get(status, b"")) for status in range(200, 1000)
}
"""The status line (RFC 9112 §4) in two pieces: the part before the reason phrase, and the phrase.
The version is the server's, whatever version the client speaks (RFC 9110 §6.2)."""

BODYLESS: Final = frozenset((204, 304))
"""Final statuses that have no body after any method (RFC 9110 §6.4.1)."""

_UPGRADE_REQUIRED: Final = 426

# The meanings that a field name can have to the server. PLAIN fields are sent as the app sets them.
PLAIN, LENGTH, DATE, SERVER, DROPPED = range(5)

_MEANINGS: Final = {
    b"content-length": LENGTH,
    b"date": DATE,
    b"server": SERVER,
    # The app announces its trailers itself (RFC 9110 §6.6.2).
    **dict.fromkeys(HOP_BY_HOP - {b"trailer"}, DROPPED),
}


def _line_start(name: bytes) -> bytes:
    return b"\r\n" + name.lower() + b": "


_COMMON: Final = {
    name: _line_start(name)
    for name in (
        b"cache-control",
        b"content-encoding",
        b"content-type",
        b"etag",
        b"last-modified",
        b"location",
        b"set-cookie",
        b"vary",
    )
}

# Spellings of names that were checked: the start of its line for a PLAIN name, the meaning for any
# other. They are learned as apps use them. Full tables are reset to the common names.
_starts: dict[bytes, bytes] = dict(_COMMON)
_meanings: dict[bytes, int] = dict(_MEANINGS)
_SPELLINGS_MAX: Final = 1024
_SPELLING_SIZE_MAX: Final = 256
"""Most bytes of a name that is remembered."""

_LENGTH_START: Final = _line_start(b"content-length")
_CODING_START: Final = _line_start(b"transfer-encoding")
_DATE_START: Final = _line_start(b"date")
_SERVER_START: Final = _line_start(b"server")
_CONNECTION_START: Final = _line_start(b"connection")
_UPGRADE_START: Final = _line_start(b"upgrade")
LENGTH_DIGITS: Final = 18
"""Most digits of a Content-Length. A number of 18 digits fits into a signed 64-bit integer."""

_NAME: Final = re.compile(TOKEN)
_ONLY_TEXT: Final = bytes(
    ord("?") if (byte < 0x20 and byte != 0x09) or byte == 0x7F else byte for byte in range(256)
)
"""A translation table that changes control characters and nothing else (RFC 9110 §5.5)."""
_strip: Final = bytes.strip


def encode_response_head(
    status: int,
    fields: Iterable[tuple[bytes, bytes]],
    method: bytes,
    minor_version: int,
    length: int | None,
    date_field: bytes,
    own_fields: OwnFields,
    reason: bytes | None = None,
) -> tuple[bytes, int]:
    """Encode an app's final response to a `method` request of HTTP/1.`minor_version`.

    `length`: bytes of the whole body if the caller has all of it, else None. `date_field`: a whole
    line with its line end; it is left out if `own_fields` says so. The app's fields replace it and
    `own_fields`. `reason`: the reason phrase; None means the standard one.

    Returns the head, its empty line included, and the framing of the body: a number of bytes,
    CHUNKED or UNTIL_CLOSE (RFC 9112 §6). The app's Content-Length decides if there is one, even
    against `length`. Responses to HEAD and with 204 or 304 have no body: their framing is 0.

    A 204 carries no Content-Length (RFC 9110 §8.6). Other responses without a body carry the app's
    Content-Length. A response to HEAD without one carries `length` if it is above 0. If it is 0,
    the app may have left out the body that GET has.

    Field names are sent in lower case, in the app's order, Content-Length last. White space around
    values is stripped. Hop-by-hop fields are dropped, except Upgrade in a 426.

    Raises `ResponseError` if status, reason or a field is not legal in HTTP, if two Content-Lengths
    differ, if the head exceeds HEAD_MAX, and for 1xx.
    """
    encoded = None
    if not own_fields.chosen:
        encoded = encode_head(
            STATUS_LINES,
            status,
            fields,  # a generator is left as it is
            method,
            minor_version,
            length,
            date_field if own_fields.dated else b"",
            own_fields.server,
            reason,
        )
    return encoded or judge_response_head(
        status, fields, method, minor_version, length, date_field, own_fields, reason
    )


def encode_text_head(
    status: int,
    reason: str,
    fields: tuple[tuple[str, str], ...],
    method: bytes,
    minor_version: int,
    length: int | None,
    date_field: bytes,
    own_fields: OwnFields,
) -> tuple[bytes, int]:
    """Encode the head of a WSGI app as `encode_response_head` does.

    Its texts are latin-1 (PEP 3333, "Unicode Issues").
    """
    encoded = None
    if not own_fields.chosen:
        encoded = encode_text(
            STATUS_LINES,
            status,
            fields,
            method,
            minor_version,
            length,
            date_field if own_fields.dated else b"",
            own_fields.server,
            reason,
        )
    if encoded is None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        phrase = reason.encode("latin-1")
        encoded = judge_response_head(
            status, raw, method, minor_version, length, date_field, own_fields, phrase
        )
    return encoded


def judge_response_head(
    status: int,
    fields: Iterable[tuple[bytes, bytes]],
    method: bytes,
    minor_version: int,
    length: int | None,
    date_field: bytes,
    own_fields: OwnFields,
    reason: bytes | None,
) -> tuple[bytes, int]:
    """Do what `encode_response_head` does, in Python alone."""
    server_field = own_fields.server
    if not own_fields.dated:
        date_field = b""
    line = STATUS_LINES.get(status) if isinstance(status, int) else None
    if line is None:
        raise ResponseError(f"status must be an int from 200 to 999, not {shown(status)}")
    # Pieces alternate between the server's own and the app's, which are checked below.
    pieces = [line[0], line[1] if reason is None else reason]
    declared: bytes | None = None
    name: Any = b""
    value: Any = b""
    given: Any = ()
    try:
        given = tuple(fields)
        for name, value in given:
            start = _starts.get(name)
            if start is None:
                meaning = _meanings.get(name)
                if meaning is None:
                    meaning = _learn(name)
                if meaning == LENGTH:
                    declared = _merge_length(_strip(value, b" \t"), declared)
                    continue
                if meaning == DROPPED:
                    if status == _UPGRADE_REQUIRED and name.lower() == b"upgrade":
                        # Such a response names the protocol (RFC 9110 §15.5.22, §7.8).
                        pieces += (_CONNECTION_START, b"upgrade")
                        pieces += (_UPGRADE_START, _strip(value, b" \t"))
                    continue
                if meaning == DATE:
                    date_field = b""
                    start = _DATE_START
                elif meaning == SERVER:
                    server_field = b""
                    start = _SERVER_START
                else:
                    start = _line_start(name)
            pieces += (start, _strip(value, b" \t"))
        text = b"".join(pieces[1::2])
    except ResponseError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise ResponseError(_type_complaint(name, value, reason, error)) from error
    if text.translate(_ONLY_TEXT) != text:
        raise ResponseError(_text_complaint(pieces))

    if method == b"HEAD" or status in BODYLESS:
        framing = 0
        if status == 204:
            declared = None
        elif declared is None and length and status != 304:
            declared = b"%d" % length
    elif declared is not None:
        framing = int(declared)
    elif length is not None:
        framing = length
        declared = b"%d" % length
    elif minor_version:
        framing = CHUNKED
        pieces += (_CODING_START, b"chunked")
    else:
        framing = UNTIL_CLOSE
    if declared is not None:
        pieces += (_LENGTH_START, declared)
    chosen = own_fields.lines_beside(name for name, _ in given) if own_fields.chosen else b""
    head = b"".join((*pieces, b"\r\n", date_field, server_field, chosen, b"\r\n"))
    if len(head) > HEAD_MAX:
        raise ResponseError(f"the response's fields make a head of more than {HEAD_MAX} bytes")
    return head, framing


def _learn(name: bytes) -> int:
    """Check a field name in a spelling that is new; remember and return its meaning.

    Raises `ResponseError` if it is not a token.
    """
    if _NAME.fullmatch(name) is None:
        raise ResponseError(f"field name {shown(name)} is not a token")
    meaning = _MEANINGS.get(name.lower(), PLAIN)
    if len(name) <= _SPELLING_SIZE_MAX:
        if len(_starts) + len(_meanings) >= _SPELLINGS_MAX:
            _starts.clear()
            _starts.update(_COMMON)
            _meanings.clear()
            _meanings.update(_MEANINGS)
        if meaning == PLAIN:
            _starts[name] = _line_start(name)
        else:
            _meanings[name] = meaning
    return meaning


def _merge_length(value: bytes, declared: bytes | None) -> bytes:
    """Return the one Content-Length of a head that may repeat it (RFC 9110 §8.6).

    Raises `ResponseError` if it is not a number or if two differ.
    """
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise ResponseError(f"field content-length must be a number of bytes, not {shown(value)}")
    if declared is None:
        return value
    if int(value) != int(declared):
        raise ResponseError(
            f"field content-length is both {declared.decode()} and {value.decode()}"
        )
    return declared


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _type_complaint(name: object, value: object, reason: object, error: Exception) -> str:
    if not isinstance(name, bytes):
        return f"field name {shown(name)} must be bytes, not {type(name).__name__}"
    if not isinstance(value, bytes):
        return f"value of field {shown(name)} must be bytes, not {type(value).__name__}"
    if reason is not None and not isinstance(reason, bytes):
        return f"reason must be bytes, not {type(reason).__name__}"
    return f"fields must be pairs of a name and a value: {error}"


def _text_complaint(pieces: list[bytes]) -> str:
    bad = next(
        place
        for place in range(1, len(pieces), 2)
        if pieces[place].translate(_ONLY_TEXT) != pieces[place]
    )
    what = "reason" if bad == 1 else f"value of field {shown(pieces[bad - 1][2:-2])}"
    return f"{what} has a control character in it: {shown(pieces[bad])}"


# Early hints and trailers -------------------------------------------------------------------------


def encode_early_hints(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode 103 Early Hints (RFC 8297 §2). Empty if there is nothing to send.

    Fields of the framing and of the connection are dropped, and so are Date and Server. Raises
    `ResponseError`.
    """
    lines = encode_field_lines(fields)
    if not lines:
        return b""
    head = b"".join((b"HTTP/1.1 103 Early Hints", *lines, b"\r\n\r\n"))
    if len(head) > HEAD_MAX:
        raise ResponseError(f"early hints make a head of more than {HEAD_MAX} bytes")
    return head


def encode_trailers(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode the end of a chunked body with trailer fields (RFC 9112 §7.1.2).

    Drops the same fields as `encode_early_hints` (RFC 9110 §6.5.1). Raises `ResponseError`.
    """
    lines = encode_field_lines(fields)
    end = b"".join((b"0", *lines, b"\r\n\r\n"))
    if len(end) > TRAILER_MAX or len(lines) > 2 * TRAILER_FIELDS_MAX:
        raise ResponseError(
            f"trailers have more than {TRAILER_FIELDS_MAX} fields or {TRAILER_MAX} bytes"
        )
    return end


def encode_field_lines(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the PLAIN fields: before each value what precedes it. Raises `ResponseError`."""
    # As in a whole head, for `_text_complaint`: names at even places, values at odd ones.
    pieces = [b"", b""]
    name = value = b""
    try:
        for name, value in fields:
            if _meanings.get(name, PLAIN) == PLAIN and _learn(name) == PLAIN:
                pieces += (_line_start(name), _strip(value, b" \t"))
        text = b"".join(pieces[1::2])
    except ResponseError:
        raise
    except (TypeError, ValueError) as error:
        raise ResponseError(_type_complaint(name, value, None, error)) from error
    if text.translate(_ONLY_TEXT) != text:
        raise ResponseError(_text_complaint(pieces))
    return pieces[2:]


# Responses of the server itself -------------------------------------------------------------------

_find_line_end: Final = re.compile(rb"\r\n").search


def insert_connection(message: bytes | bytearray | memoryview, value: bytes) -> bytes:
    """Return the message with the field `connection: value` as its first (RFC 9112 §9.3, §9.6).

    `message` begins with a start line. If it already has a Connection field, the two form one list,
    in which close wins. Raises ValueError if there is no start line.
    """
    line = _find_line_end(message)
    if line is None:
        raise ValueError("this message has no start line")
    end = line.end()
    return b"".join((message[:end], b"connection: ", value, b"\r\n", message[end:]))


def simple_response(
    status: int,
    body: bytes,
    *,
    fields: Iterable[tuple[bytes, bytes]] = (),
    date_field: bytes,
    own_fields: OwnFields = ONLY_DATE,
    close: bool,
    head_only: bool = False,
    content_type: bytes = b"text/plain; charset=utf-8",
) -> bytes:
    """Return a whole response of the server itself, with its Content-Length.

    `head_only`: leave the body out, for a response to HEAD. `close`: add `connection: close`.
    Raises `ResponseError`.
    """
    head, framing = encode_response_head(
        status,
        ((b"content-type", content_type), *fields),
        method=b"HEAD" if head_only else b"GET",
        minor_version=1,
        length=len(body),
        date_field=date_field,
        own_fields=own_fields,
    )
    message = head + body if framing else head
    return insert_connection(message, b"close") if close else message
