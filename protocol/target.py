"""Request targets: their four forms, their parts, and which are let in (RFC 9112 §3.2).

    form        looks like                        path of it       query of it   method
    origin      /where?q=now                      /where           q=now         any but CONNECT
    absolute    http://example.org/where?q=now    /where           q=now         any but CONNECT
    absolute    http://example.org?q=now          /                q=now
    authority   example.org:80                    (empty)          (empty)       CONNECT
    asterisk    *                                 *                (empty)       OPTIONS

`accept_target` judges, for the front end. The others judge nothing: given bytes that nobody would
have let in, each still returns something and none raises.

What is legal in a path is what clients send: printable ASCII. RFC 3986 has fewer characters, but
browsers send `|`, brackets and carets as they are. A `%` must begin an escape, and may not hide
NUL; in a query, which no server looks into, it may stand for itself.

Dot segments are `.` and `..` between two slashes, or at the end, where `%2e` is a dot too. An
encoded slash, `%2F`, stays what it is, and by itself does no harm; but an app sees the path
decoded, where `..%2f` is as much a dot segment as `../`. To take that out would be to take the
encoded slash for a real one, so the path policy `normalize` refuses what still has such a segment.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.host import same_host, split_host
from reactor_run.protocol.policy import PathPolicy, Refused
from reactor_run.protocol.seen import remember

__all__ = [
    "PATHS_SEEN",
    "SCHEME_AND_AUTHORITY",
    "TargetForm",
    "accept_target",
    "authority_of_absolute",
    "form_of",
    "host_of_absolute",
    "remove_dot_segments",
    "split_target",
]

PATHS_SEEN: Final[set[bytes]] = set()
"""Targets in origin-form that were accepted lately, and are right under any path policy."""

# RFC 3986 section 3.2: the authority ends where the path, the query or a fragment begins.
SCHEME_AND_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?#]*)")

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_DOT_SEGMENT = re.compile(rb"(?:/|%2[Ff])(?:\.|%2[Ee]){1,2}(?:/|%2[Ff]|\Z)")
_SCHEMES = (b"http", b"https")


class TargetForm(Enum):
    """The four forms of a request target (RFC 9112 sections 3.2.1 to 3.2.4)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


_ORIGIN, _ABSOLUTE, _AUTHORITY, _ASTERISK = TargetForm
"""Found faster than the members of an enumeration."""


def form_of(method: bytes, target: bytes) -> TargetForm:
    """The form that `target` has in a request with `method`.

    CONNECT knows the authority-form only (RFC 9112 section 3.2.3). With any other method a target
    that is neither origin, absolute nor asterisk is called authority-form too: no other is left,
    and that one is wrong there.
    """
    if method == b"CONNECT":
        return _AUTHORITY
    if target.startswith(b"/"):
        return _ORIGIN
    if target == b"*":
        return _ASTERISK
    if SCHEME_AND_AUTHORITY.match(target) is not None:
        return _ABSOLUTE
    return _AUTHORITY


def accept_target(
    method: bytes,
    target: bytes,
    fields: tuple[tuple[bytes, bytes], ...],
    path_policy: PathPolicy,
) -> bytes:
    """Judge a target; the one to go on with, which is another only if its path was normalized.

    `fields` are those of the request: Host must agree with an absolute-form. Raises `Refused`.
    """
    if not target.isascii() or b"#" in target:
        raise Refused(policy.TARGET_CHARACTER)
    if target[:1] == b"/" and not (b"%" in target or b"/." in target or method == b"CONNECT"):
        # By far the most frequent: origin-form, without anything that needs a closer look.
        return target
    form = form_of(method, target)
    begin = 0
    if form is not _ORIGIN:
        if form is _ABSOLUTE:
            begin = _accept_absolute(target, fields)
        elif method == b"OPTIONS" if form is _ASTERISK else _is_for_connect(method, target):
            return target
        else:
            raise Refused(policy.TARGET)
    path, mark, query = target[begin:].partition(b"?")
    escapes = b"%" in path
    if escapes and _BAD_ESCAPE.search(path) is not None:
        raise Refused(policy.TARGET_ESCAPE)
    if (escapes or b"/." in path) and _DOT_SEGMENT.search(path) is not None:
        return target[:begin] + _accept_dot_segments(path, path_policy) + mark + query
    if begin == 0:
        remember(PATHS_SEEN, target)
    return target


def _is_for_connect(method: bytes, authority: bytes) -> bool:
    """RFC 9112 §3.2.3: host and port, for CONNECT alone."""
    parts = split_host(authority)
    if method != b"CONNECT" or parts is None:
        return False
    host, port = parts
    return host != b"" and port is not None


def _accept_absolute(target: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> int:
    """Judge scheme and authority of an absolute-form; where its path begins."""
    parts = SCHEME_AND_AUTHORITY.match(target)
    assert parts is not None
    authority = parts[1]
    scheme = target.partition(b":")[0].lower()
    # RFC 9110 §4.2.1: an http URI without a host is invalid; §4.2.4: so is userinfo, here.
    if scheme not in _SCHEMES or split_host(authority) is None:
        raise Refused(policy.TARGET)
    if authority.startswith(b":") or not authority:
        raise Refused(policy.TARGET)
    for name, value in fields:
        if name.lower() == b"host" and not same_host(authority, value, scheme):
            raise Refused(policy.HOST_MISMATCH)
    return parts.end()


def _accept_dot_segments(path: bytes, path_policy: PathPolicy) -> bytes:
    """What the policy makes of a path that has dot segments."""
    if path_policy == "pass":
        return path
    if path_policy == "normalize":
        path = remove_dot_segments(path)
        if _DOT_SEGMENT.search(path) is None:
            return path
    raise Refused(policy.DOT_SEGMENT)


def remove_dot_segments(path: bytes) -> bytes:
    """A path, which begins with a slash, without dot segments (RFC 3986 §5.2.4).

    An encoded dot is a dot (§6.2.2.3); everything else stays as it was sent.
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
