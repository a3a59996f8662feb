"""Request targets: their forms, their parts, and which are accepted (RFC 9112 §3.2).

    form        looks like                        path of it       query of it   method
    origin      /where?q=now                      /where           q=now         any
    absolute    http://example.org/where?q=now    /where           q=now         any
    absolute    http://example.org?q=now          /                q=now
    asterisk    *                                 *                (empty)       OPTIONS

CONNECT is rejected, and with it the authority-form, `example.org:80`.

`accept_target` checks targets, for the front end. The other functions check nothing and never
raise: for a target that would be rejected, each returns some value.

A path may hold printable ASCII, because clients send that. RFC 3986 allows fewer characters, but
browsers send `|`, brackets and carets unescaped. In a path, each `%` must begin an escape, and
`%00` is rejected. In a query, `%` may stand alone: no server decodes a query.

A dot segment is `.` or `..` between two slashes or at the end of a path. `%2e` is a dot too. An
encoded slash, `%2F`, stays as it is. But an app sees the decoded path, in which `..%2f` is a dot
segment like `../`. Removing it would treat the encoded slash as a real one. So the path policy
`normalize` rejects a path that still has such a segment.
"""

from __future__ import annotations

import re
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.host import is_host
from reactor_run.protocol.policy import PathPolicy, Rejected

__all__ = [
    "accept_target",
    "authority_of",
    "remove_dot_segments",
    "split_target",
]

# RFC 3986 §3.2: the authority ends where the path, the query or a fragment begins.
_SCHEME_AND_AUTHORITY: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)")

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_DOT_SEGMENT = re.compile(rb"(?:/|%2[Ff])(?:\.|%2[Ee]){1,2}(?:/|%2[Ff]|\Z)")
_SCHEMES = (b"http", b"https")


def accept_target(method: bytes, target: bytes, path_policy: PathPolicy) -> bytes:
    """Check a target; return the target to use, which differs only if its path was normalized.

    Raises `Rejected`.
    """
    if method == b"CONNECT":
        raise Rejected(policy.CONNECT)
    if not target.isascii() or b"#" in target:
        raise Rejected(policy.TARGET_CHARACTER)
    begin = 0
    if target[:1] == b"/":
        if not (b"%" in target or b"/." in target):
            # The most frequent case: no further check is needed.
            return target
    elif target == b"*" and method == b"OPTIONS":
        return target
    else:
        begin = _accept_absolute(target)
    path, mark, query = target[begin:].partition(b"?")
    escapes = b"%" in path
    if escapes and _BAD_ESCAPE.search(path) is not None:
        raise Rejected(policy.TARGET_ESCAPE)
    if (escapes or b"/." in path) and _DOT_SEGMENT.search(path) is not None:
        return target[:begin] + _accept_dot_segments(path, path_policy) + mark + query
    return target


def _accept_absolute(target: bytes) -> int:
    """Check scheme and authority of an absolute-form; return the index at which its path begins."""
    parts = _SCHEME_AND_AUTHORITY.match(target)
    if parts is None:
        raise Rejected(policy.TARGET)
    scheme, authority = parts.groups()
    # RFC 9110 §4.2.1: an http URI without a host is invalid. Userinfo is rejected too (§4.2.4).
    if scheme.lower() not in _SCHEMES or authority[:1] in (b"", b":") or not is_host(authority):
        raise Rejected(policy.TARGET)
    return parts.end()


def _accept_dot_segments(path: bytes, path_policy: PathPolicy) -> bytes:
    """Apply the path policy to a path with dot segments. Raises `Rejected`."""
    if path_policy == "pass":
        return path
    if path_policy == "normalize":
        path = remove_dot_segments(path)
        if _DOT_SEGMENT.search(path) is None:
            return path
    raise Rejected(policy.DOT_SEGMENT)


def remove_dot_segments(path: bytes) -> bytes:
    """Return `path`, which begins with a slash, without its dot segments (RFC 3986 §5.2.4).

    An encoded dot is a dot (§6.2.2.3). Everything else stays as it was sent.
    """
    kept: list[bytes] = []
    dots = b""
    for segment in path[1:].split(b"/"):
        dots = segment.lower().replace(b"%2e", b".")
        if dots == b"..":
            if kept:
                kept.pop()
        elif dots != b".":
            kept.append(segment)
    if dots in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return the path, still percent-encoded, and the query without its question mark.

    An absolute-form gives the path of its URI, or "/" if that is empty. An asterisk-form gives
    itself as path. A target of no known form gives two empty values.
    """
    if target[:1] == b"/":
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    absolute = _SCHEME_AND_AUTHORITY.match(target)
    if absolute is None:
        return b"", b""
    path, _, query = target[absolute.end() :].partition(b"?")
    return path or b"/", query


def authority_of(target: bytes) -> bytes:
    """Return the authority of an absolute-form, which replaces Host (RFC 9112 §3.2.2).

    Any other form gives an empty value.
    """
    absolute = _SCHEME_AND_AUTHORITY.match(target)
    return b"" if absolute is None else absolute[2]
