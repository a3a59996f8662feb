"""Request targets: which of the four forms one has, and its parts (RFC 9112 section 3.2).

Nothing here judges. request.py has refused what is malformed long before an app sees it; given
such bytes anyway, every function still returns something and none raises.

    form        looks like                        path of it       query of it
    origin      /where?q=now                      /where           q=now
    absolute    http://example.org/where?q=now    /where           q=now
    absolute    http://example.org?q=now          /                q=now
    authority   example.org:80                    (empty)          (empty)
    asterisk    *                                 *                (empty)
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import quote, unquote_to_bytes

__all__ = [
    "SCHEME_AND_AUTHORITY",
    "TargetForm",
    "authority_of_absolute",
    "decode_path",
    "form_of",
    "host_of_absolute",
    "mount_prefix",
    "quote_path",
    "split_target",
]

# RFC 3986 section 3.2: the authority ends where the path, the query or a fragment begins.
SCHEME_AND_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?#]*)")

# RFC 3986 section 3.3: what a path may hold unescaped besides letters and digits.
_SAFE_IN_PATH = "/-._~!$&'()*+,;=:@"


class TargetForm(Enum):
    """The four forms of a request target (RFC 9112 sections 3.2.1 to 3.2.4)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


def form_of(method: bytes, target: bytes) -> TargetForm:
    """The form that `target` has in a request with `method`.

    CONNECT knows the authority-form only (RFC 9112 section 3.2.3). With any other method a target
    that is neither origin, absolute nor asterisk is called authority-form too: no other is left,
    and that one is wrong there.
    """
    if method == b"CONNECT":
        return TargetForm.AUTHORITY
    if target.startswith(b"/"):
        return TargetForm.ORIGIN
    if target == b"*":
        return TargetForm.ASTERISK
    if SCHEME_AND_AUTHORITY.match(target) is not None:
        return TargetForm.ABSOLUTE
    return TargetForm.AUTHORITY


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The path, still percent-encoded, and the query without its question mark.

    An absolute-form gives the path of its URI, "/" if that is empty; an asterisk-form gives
    itself; an authority-form gives neither path nor query.
    """
    if target[:1] == b"/":
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    absolute = SCHEME_AND_AUTHORITY.match(target)
    if absolute is None:
        return b"", b""
    path, _, query = target[absolute.end() :].partition(b"?")
    return path or b"/", query


def authority_of_absolute(target: bytes) -> bytes:
    """The authority of an absolute-form target, userinfo and port included.

    Empty if the target has another form.
    """
    absolute = SCHEME_AND_AUTHORITY.match(target)
    return b"" if absolute is None else absolute[1]


def host_of_absolute(target: bytes) -> bytes:
    """What takes the place of the Host field when the target is in absolute-form.

    The authority without userinfo (RFC 9112 sections 3.2 and 3.2.2); empty if the target has
    another form.
    """
    return authority_of_absolute(target).rpartition(b"@")[2]


def decode_path(raw_path: bytes) -> bytes:
    """Undo the percent-encoding of a path (RFC 3986 section 2.1), in one pass.

    A percent sign that begins no valid escape stays as it is.
    """
    if b"%" not in raw_path:
        return raw_path
    return unquote_to_bytes(raw_path)


def quote_path(path: str) -> bytes:
    """Percent-encode a decoded path, as UTF-8, the way it would stand in a request line."""
    return quote(path, safe=_SAFE_IN_PATH).encode("ascii")


def mount_prefix(root_path: str) -> str:
    """The path that an app is mounted at, as apps expect it: "/api" for "/api/", "" for "/".

    `root_path` is not percent-encoded. Raises ValueError if it neither is empty nor begins with a
    slash (PEP 3333, SCRIPT_NAME).
    """
    if root_path and not root_path.startswith("/"):
        raise ValueError(f"a root path begins with a slash: {root_path!r}")
    return root_path.rstrip("/")
