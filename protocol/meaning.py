"""The fields of a request that matter to a server: framing, keep-alive, expectation, upgrade.

A table tells which field names have a meaning. A name is checked by its grammar once, and then
remembered with its meaning. This file reads framing fields strictly and does not rely on how the
parser read them. It rejects names that could pass for a framing field.
"""

from __future__ import annotations

import re
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.fields import QUOTED, TOKEN
from reactor_run.protocol.host import accept_host
from reactor_run.protocol.policy import Rejected

__all__ = [
    "CODING",
    "CONNECTION",
    "EXPECT",
    "HOST",
    "LENGTH",
    "PLAIN",
    "UPGRADE",
    "Fields",
    "meaning_of",
    "read_fields",
]

Fields = tuple[tuple[bytes, bytes], ...]
"""Field lines: names as sent, and values without the white space around them."""

# The meanings that a field name can have to a server. PLAIN fields matter only to the app.
PLAIN, HOST, LENGTH, CODING, CONNECTION, EXPECT, UPGRADE = range(7)
_MEANINGS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
}
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))

_names_seen: Final[dict[bytes, int]] = {}
"""Names that were accepted lately, in the sender's case, and their meanings. Clients can invent
names, so it is bounded."""
_SEEN_MAX: Final = 1024
"""Most names that are remembered."""
_SEEN_SIZE: Final = 256
"""Most bytes of a name that is remembered."""

_NAME: Final = re.compile(TOKEN)
_NOT_ALPHANUMERIC: Final = re.compile(rb"[^0-9a-z]")

_PARAMETER: Final = (
    rb"[\t ]*+;[\t ]*+" + TOKEN + rb"[\t ]*+=[\t ]*+(?:" + TOKEN + rb"|" + QUOTED + rb")"
)
_CHUNKED_LAST: Final = re.compile(
    rb"(?:(?!chunked[\t ,;])" + TOKEN + rb"(?:" + _PARAMETER + rb")*+[\t ]*+,[\t ]*+)++chunked",
    re.IGNORECASE,
)
"""Other codings, then chunked: last, once and without parameters (RFC 9112 §6.1, RFC 9110
§10.1.4)."""

LENGTH_DIGITS_MAX: Final = 18
"""Most digits of a Content-Length. A number of 18 digits fits into a signed 64-bit integer."""


def meaning_of(name: bytes) -> int:
    """Return what a field name means to a server.

    Raises `Rejected` if it is not a token, or if it could pass for a framing field. Programs that
    build CGI variables take `Transfer_Encoding` for Transfer-Encoding, and some take any
    punctuation for a hyphen. Such a name must not pass as an ordinary one.
    """
    meaning = _names_seen.get(name)
    if meaning is not None:
        return meaning
    if not name:
        # The parser gives an empty name to a line that begins with white space.
        raise Rejected(policy.OBS_FOLD)
    if _NAME.fullmatch(name) is None:
        raise Rejected(policy.FIELD_NAME)
    lower = name.lower()
    meaning = _MEANINGS.get(lower, PLAIN)
    if meaning == PLAIN and _NOT_ALPHANUMERIC.sub(b"-", lower) in _FRAMING:
        raise Rejected(policy.FIELD_DISGUISED)
    if len(name) <= _SEEN_SIZE:
        if len(_names_seen) >= _SEEN_MAX:
            # It fills again with the names in use. If it rejected new names instead, one client
            # could fill it for good.
            _names_seen.clear()
        _names_seen[name] = meaning
    return meaning


def read_fields(fields: Fields, minor_version: int) -> tuple[int, bool, bool, bool]:
    """Return body framing, keep-alive, 100-continue and upgrade, as the fields tell.

    The framing is a number of bytes or CHUNKED (body.py). Raises `Rejected`.
    """
    hosts = 0
    length = -1
    codings: bytes | None = None
    keep_alive = minor_version == 1
    expect = upgrade = wants_upgrade = close = False
    for name, value in fields:
        meaning = _names_seen.get(name)
        if meaning is None:
            meaning = meaning_of(name)
        if meaning == PLAIN:
            continue
        if meaning == HOST:
            hosts += 1
            accept_host(value)
        elif meaning == CONNECTION:
            options = [option.strip(b" \t") for option in value.lower().split(b",")]
            close = close or b"close" in options
            keep_alive = not close and (keep_alive or b"keep-alive" in options)
            wants_upgrade = wants_upgrade or b"upgrade" in options
        elif meaning == LENGTH:
            if length >= 0:
                raise Rejected(policy.CONTENT_LENGTH_REPEATED)
            # isdigit on bytes is ASCII only.
            if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
                raise Rejected(policy.CONTENT_LENGTH)
            length = int(value)
        elif meaning == CODING:
            # RFC 9110 §5.3: several fields with one name form one list.
            codings = value if codings is None else codings + b"," + value
        elif meaning == EXPECT:
            if value.lower() != b"100-continue":
                raise Rejected(policy.EXPECTATION)
            expect = minor_version == 1
        else:
            upgrade = minor_version == 1
    if hosts != 1:
        if hosts > 1:
            raise Rejected(policy.HOST_REPEATED)
        if minor_version == 1:
            raise Rejected(policy.HOST_MISSING)
    if codings is not None:
        alone = codings.lower() == b"chunked"
        if not alone and _CHUNKED_LAST.fullmatch(codings) is None:
            raise Rejected(policy.TRANSFER_ENCODING)
        if length >= 0:
            raise Rejected(policy.FRAMING_CONFLICT)
        if minor_version == 0:
            raise Rejected(policy.TRANSFER_ENCODING_VERSION)
        if not alone:
            raise Rejected(policy.TRANSFER_CODING)
        return CHUNKED, keep_alive, expect, upgrade and wants_upgrade
    if length > 0:
        return length, keep_alive, expect, upgrade and wants_upgrade
    return 0, keep_alive, False, upgrade and wants_upgrade
