"""Request targets: their forms, their parts, and which are let in (RFC 9112 §3.2).

    form        looks like                        path of it       query of it   method
    origin      /where?q=now                      /where           q=now         any
    absolute    http://example.org/where?q=now    /where           q=now         any
    absolute    http://example.org?q=now          /                q=now
    asterisk    *                                 *                (empty)       OPTIONS

CONNECT is rejected, and with it the authority-form, `example.org:80`.

`accept_target` judges, for the front end. The others judge nothing: given bytes that would not have
been let in, each still returns something and none raises.

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
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.host import is_host
from reactor_run.protocol.policy import PathPolicy, Refused

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
    """Judge a target; the one to go on with, which is another only if its path was normalized.

    Raises `Refused`.
    """
    if method == b"CONNECT":
        raise Refused(policy.CONNECT)
    if not target.isascii() or b"#" in target:
        raise Refused(policy.TARGET_CHARACTER)
    begin = 0
    if target[:1] == b"/":
        if not (b"%" in target or b"/." in target):
            # By far the most frequent: nothing needs a closer look.
            return target
    elif target == b"*" and method == b"OPTIONS":
        return target
    else:
        begin = _accept_absolute(target)
    path, mark, query = target[begin:].partition(b"?")
    escapes = b"%" in path
    if escapes and _BAD_ESCAPE.search(path) is not None:
        raise Refused(policy.TARGET_ESCAPE)
    if (escapes or b"/." in path) and _DOT_SEGMENT.search(path) is not None:
        return target[:begin] + _accept_dot_segments(path, path_policy) + mark + query
    return target


def _accept_absolute(target: bytes) -> int:
    """Judge scheme and authority of an absolute-form; where its path begins."""
    parts = _SCHEME_AND_AUTHORITY.match(target)
    if parts is None:
        raise Refused(policy.TARGET)
    scheme, authority = parts.groups()
    # RFC 9110 §4.2.1: an http URI without a host is invalid; §4.2.4: so is userinfo, here.
    if scheme.lower() not in _SCHEMES or authority[:1] in (b"", b":") or not is_host(authority):
        raise Refused(policy.TARGET)
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
    itself; a target of no form gives neither path nor query.
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
    """The authority of an absolute-form, which takes the place of Host (RFC 9112 §3.2.2).

    Empty if the target has another form.
    """
    absolute = _SCHEME_AND_AUTHORITY.match(target)
    return b"" if absolute is None else absolute[2]
