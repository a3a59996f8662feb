"""The atoms of an access-log format: what each of them tells, and how it is computed.

An atom is an expression of Python that gives bytes; empty: there is no value. format.py makes one
function of the expressions of a format. docs/logging.md explains each atom. They may use:

    r            the record
    head         the head of its request
    now          the time in seconds since 1970. All records of a turn have ended by now
    fields[0]    the value of the request field that the atom needs

The short names are those of gunicorn. The long ones are our own.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Final, NamedTuple

from reactor_run.frontend.exchanges.record import Record
from reactor_run.protocol.tls import Tls, read_tls

__all__ = ["ATOMS", "HELPERS", "Atom", "atom_named", "atom_names"]


class Atom(NamedTuple):
    """A part of a line that may differ from request to request.

    expression: it gives bytes.
    field: the name of the request field that it needs, in lower case; empty: none.
    once: it is the same for all records of a turn.
    missing: what a line of text has in the place of no bytes.
    is_number: in JSON it is a number, or null.
    """

    expression: str
    field: bytes = b""
    missing: bytes = b"-"
    once: bool = False
    is_number: bool = False


def _number(expression: str) -> Atom:
    return Atom(expression, is_number=True)


ATOMS: Final[dict[str, Atom]] = {
    "h": Atom("(r.requester.client or r.client)"),
    "l": Atom("b''"),
    "u": Atom("(fields[0] and user_of(fields[0]))", b"authorization"),
    "t": Atom("clf_time(now)", once=True),
    "r": Atom("(r.request_line if r.requester.http2 else head.line)"),
    "m": Atom("head.method"),
    "U": Atom("head.target.partition(b'?')[0]"),
    "q": Atom("head.target.partition(b'?')[2]", missing=b""),
    "H": Atom("r.version"),
    "s": _number("r.status_code"),
    "B": _number("(body_sizes[r.bytes_out - r.answer_head.find(HEAD_END)] or b'0')"),
    "b": Atom("body_sizes[r.bytes_out - r.answer_head.find(HEAD_END)]"),
    "f": Atom("fields[0]", b"referer"),
    "a": Atom("fields[0]", b"user-agent"),
    "T": _number("b'%d' % (r.ended - r.arrived)"),
    "M": _number("b'%d' % ((r.ended - r.arrived) * 1000)"),
    "D": _number("b'%d' % ((r.ended - r.arrived) * 1000000)"),
    "L": _number("b'%.6f' % (r.ended - r.arrived)"),
    "p": Atom("process"),
    "time": Atom("iso_time(now)", once=True),
    "queue": _number("b'%.6f' % r.queue_time"),
    "first_byte": _number("(b'%.6f' % (r.first_byte - r.arrived) if r.status_code else b'')"),
    "in": _number("b'%d' % r.bytes_in"),
    "out": _number("b'%d' % r.bytes_out"),
    "reactor": Atom("r.reactor_name.encode()"),
    "app": Atom("r.app.encode()"),
    "tries": _number("b'%d' % r.tries"),
    "id": Atom("r.request_id.encode()"),
    "tls_version": Atom("(tls_of(r) and tls_of(r).version.encode() or b'')"),
    "tls_cipher": Atom("(tls_of(r) and tls_of(r).cipher.encode() or b'')"),
    "ws_code": _number("(b'%d' % r.websocket.code if r.websocket else b'')"),
    "ws_received": _number("(b'%d' % r.websocket.received if r.websocket else b'')"),
    "ws_sent": _number("(b'%d' % r.websocket.sent if r.websocket else b'')"),
    "rule": Atom("r.rule.encode()"),
    "error": Atom("r.error.encode()"),
    # If the request was not parsed: what is known of it.
    "target": Atom("(head.target or head.line)"),
    # If an app sent garbage, it is no number.
    "status": _number("(r.status_code if r.status_code.isdigit() else b'')"),
}

_ENVIRON: Final = {
    "request_method": "m",
    "raw_uri": "target",
    "request_uri": "target",
    "path_info": "U",
    "query_string": "q",
    "server_protocol": "H",
    "remote_addr": "h",
}
"""Variables of a WSGI environ that the front end knows, and the atoms that tell them."""
_ENVIRON_FIELDS: Final = {"content_type": b"content-type", "content_length": b"content-length"}
_TOKEN: Final = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+")


def atom_names() -> str:
    """Return the names of all atoms, for the operator."""
    return f"{', '.join(ATOMS)}, {{field}}i, {{field}}o, {{variable}}e"


def atom_named(name: str) -> Atom | None:
    """Return the atom of this name, as in `h` or `{user-agent}i`; None: there is none."""
    if not name.startswith("{"):
        return ATOMS.get(name)
    word, _, kind = name[1:].rpartition("}")
    if not _TOKEN.fullmatch(word):
        return None
    word = word.lower()
    if kind == "i":
        return Atom("fields[0]", word.encode())
    if kind == "o":
        return Atom(f"response_field(r.answer_head, {word.encode()!r})")
    if kind == "e":
        if word.startswith("http_"):
            return Atom("fields[0]", word[5:].replace("_", "-").encode())
        if word in _ENVIRON_FIELDS:
            return Atom("fields[0]", _ENVIRON_FIELDS[word])
        if word in _ENVIRON:
            return ATOMS[_ENVIRON[word]]
    return None


# What expressions call ---------------------------------------------------------------------------


_HEAD_END: Final = b"\r\n\r\n"


class _BodySizes(dict[int, bytes]):
    """The size of a body as text; empty for 0.

    The key is the size of the answer without its fields, but with the empty line. It is less
    without an answer.
    """

    _MAX: Final = 4096
    """Most sizes that are remembered: services have few, and to format a number costs more."""

    def __missing__(self, key: int) -> bytes:
        size = key - len(_HEAD_END)
        text = b"%d" % size if size > 0 else b""
        if len(self) < self._MAX:
            self[key] = text
        return text


def _user_of(credentials: bytes) -> bytes:
    """Return the user of Basic credentials (RFC 7617); empty: there is none."""
    scheme, _, encoded = credentials.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(encoded.strip()).partition(b":")[0]
    except binascii.Error:
        return b""


def _response_field(head: bytes, name: bytes) -> bytes:
    """Return the value of a field of an answer; empty: it has no such field."""
    lines = head.partition(_HEAD_END)[0].split(b"\r\n")[1:]
    parts = (line.partition(b":") for line in lines)
    values = [value.strip() for each, _, value in parts if each.lower() == name]
    return b", ".join(values)


def _tls_of(record: Record) -> Tls | None:
    """Return the TLS of the client that sent a request; None: there was none."""
    tls = record.requester.tls
    return read_tls(tls) if tls else None


HELPERS: Final[dict[str, object]] = {
    "HEAD_END": _HEAD_END,
    "body_sizes": _BodySizes(),
    "process": b"<%d>" % os.getpid(),
    "response_field": _response_field,
    "tls_of": _tls_of,
    "user_of": _user_of,
}
"""What expressions use, by name."""
