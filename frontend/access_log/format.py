"""An access-log format, as a function from records to lines.

The function is compiled once from the expressions of the atoms (atoms.py), since a line must cost
little beside its request. It comes in two forms. The first writes the values as they are. Most
values need no escape, and one look at all lines of the turn shows whether that holds. If it does
not, the second form escapes each value.

    text   quotes and backslashes get a backslash; control bytes and bytes above 126 become \\xNN
    JSON   a value is a JSON string, in ASCII
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from reactor_run.clock import Zone
from reactor_run.frontend.access_log.atoms import ATOMS, HELPERS, Atom, atom_named, atom_names
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.record import Record

__all__ = ["COMBINED", "COMMON", "LineFormat"]

COMMON: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED: Final = f'{COMMON} "%(f)s" "%(a)s"'
_NAMED: Final = {"common": COMMON, "combined": COMBINED}
_JSON: Final = "json"

_JSON_KEYS: Final = {
    "time": "time",
    "client": "h",
    "method": "m",
    "target": "target",
    "protocol": "H",
    "status": "status",
    "bytes_in": "in",
    "bytes_out": "out",
    "duration": "L",
    "queue": "queue",
    "first_byte": "first_byte",
    "app": "app",
    "reactor": "reactor",
    "tries": "tries",
    "referer": "f",
    "user_agent": "a",
    "request_id": "id",
    "ws_code": "ws_code",
    "ws_received": "ws_received",
    "ws_sent": "ws_sent",
    "rule": "rule",
    "error": "error",
}
_COLOURS: Final = {b"2": 32, b"3": 36, b"4": 33, b"5": 31}
"""The colour of each class of status: green, cyan, yellow, red (ECMA-48, SGR)."""
_ATOM: Final = re.compile(r"%(?:\((?P<name>[^()]*)\)(?P<width>-?[0-9]{0,3})[sd]|(?P<percent>%))")
_PLAIN: Final = bytes(byte for byte in range(32, 127) if byte not in b'"\\')
"""The bytes that need no escape."""
_ESCAPES: Final = [bytes([byte]) if byte in _PLAIN else b"\\x%02x" % byte for byte in range(256)]
_ESCAPES[ord('"')], _ESCAPES[ord("\\")] = b'\\"', b"\\\\"

Compiled = Callable[[Sequence[Record], float], list[bytes]]


class LineFormat:
    """A format, compiled."""

    def __init__(self, text: str, zone: Zone, *, colours: bool = False) -> None:
        """`text`: common, combined, json, or text with atoms. `zone`: of the times. `colours`: the
        status has a colour, unless the format is json.

        Raises OperatorError.
        """
        parts = _json_parts() if text == _JSON else _text_parts(_NAMED.get(text, text))
        self._expected = b"".join(part for part in parts if isinstance(part, bytes)).translate(
            None, _PLAIN
        )
        """What is left of a line without the bytes that need no escape, if no value needs one."""
        self._careful = _compile(
            parts,
            "escape_json" if text == _JSON else "escape",
            zone,
            colours=colours and text != _JSON,
        )
        # A colour needs bytes that would be escaped. A terminal is slow anyway.
        self._plain = self._careful if colours else _compile(parts, "", zone)

    def lines(self, records: Sequence[Record], now: float) -> bytes:
        """Return a line for each record. `now`: the time in seconds since the epoch."""
        lines = b"".join(self._plain(records, now))
        if lines.translate(None, _PLAIN) == self._expected * len(records):
            return lines
        return b"".join(self._careful(records, now))


Part = bytes | tuple[Atom, int]
"""Text, or an atom with its width in characters; negative: it stands on the left."""


def _text_parts(text: str) -> list[Part]:
    if not text:
        raise OperatorError("the format is empty; try combined")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise OperatorError("the format holds a control character; a line of the log is one line")
    parts: list[Part] = []
    at = 0
    for match in _ATOM.finditer(text):
        parts.append(_literal(text[at : match.start()]))
        at = match.end()
        if match["percent"]:
            parts.append(b"%")
            continue
        atom = atom_named(match["name"])
        if atom is None:
            raise OperatorError(
                f"there is no atom {match[0]!r}; choose from: {atom_names()} (docs/logging.md)"
            )
        parts.append((atom, int(match["width"].rstrip("-") or 0)))
    parts.append(_literal(text[at:]) + b"\n")
    if all(isinstance(part, bytes) for part in parts):
        raise OperatorError(
            f"{text!r} has no atom, so all lines would be the same; choose combined, common or "
            "json, or write atoms as %(h)s"
        )
    return parts


def _literal(text: str) -> bytes:
    if "%" in text:
        place = text[text.index("%") :][:12]
        raise OperatorError(
            f"{place!r} is no atom; write atoms as %(h)s, and %% for a percent sign"
        )
    return text.encode("utf-8", "surrogateescape")


def _json_parts() -> list[Part]:
    parts: list[Part] = []
    before = b"{"
    for key, name in _JSON_KEYS.items():
        atom = ATOMS[name]
        quote = b"" if atom.is_number else b'"'
        parts += [before + b'"%b":' % key.encode() + quote]
        parts += [(atom._replace(missing=b"null" if atom.is_number else b""), 0)]
        before = quote + b","
    return [*parts, before[:-1] + b"}\n"]


def _compile(parts: Sequence[Part], escape: str, zone: Zone, *, colours: bool = False) -> Compiled:
    """Return the function for these parts. `escape`: the helper for values; empty: none."""
    names: list[bytes] = []
    once: list[str] = []
    items: list[str] = []
    for part in parts:
        if isinstance(part, bytes):
            items.append(repr(part))
            continue
        atom, width = part
        expression = atom.expression
        if atom.field:
            if atom.field not in names:
                names.append(atom.field)
            expression = expression.replace("fields[0]", f"fields[{names.index(atom.field)}]")
        if escape:
            expression = f"{escape}({expression})"
        if atom.missing:
            expression = f"({expression} or {atom.missing!r})"
        if width:
            expression = f"({expression}).{'ljust' if width < 0 else 'rjust'}({abs(width)})"
        if colours and atom is ATOMS["s"]:
            expression = f"colour({expression})"
        if atom.once:
            once.append(f"    once_{len(once)} = {expression}\n")
            expression = f"once_{len(once) - 1}"
        items.append(expression)
    source = f"""
def lines(records, now):
    out = []
{"".join(once)}
    for r in records:
        head = r.head
        {f"fields = head.values({tuple(names)!r})" if names else ""}
        out += ({", ".join(items)},)
    return out
"""
    namespace: dict[str, Any] = {
        **HELPERS,
        "clf_time": zone.clf,
        "iso_time": zone.iso,
        "escape": _escape,
        "escape_json": _escape_json,
        "colour": _colour,
    }
    exec(source, namespace)
    compiled: Compiled = namespace["lines"]
    return compiled


def _escape(value: bytes) -> bytes:
    return b"".join(map(_ESCAPES.__getitem__, value))


def _colour(status: bytes) -> bytes:
    """Return a status in the colour of its class, for a terminal."""
    colour = _COLOURS.get(status.strip()[:1])
    return status if colour is None else b"\x1b[%dm%b\x1b[0m" % (colour, status)


def _escape_json(value: bytes) -> bytes:
    """Return the inside of a JSON string. Bytes that are not UTF-8 become \\xNN in it."""
    text = encode_basestring_ascii(value.decode("utf-8", "backslashreplace"))[1:-1]
    return text.replace("\x7f", "\\u007f").encode()
