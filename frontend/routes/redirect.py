"""Locations of redirects. No spelling of a path leads to another host than the operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reactor_run.frontend.routes.table import literal_segments
from reactor_run.protocol.target import split_target

if TYPE_CHECKING:
    from reactor_run.frontend.routes.route import RedirectTarget
    from reactor_run.protocol.request import RequestHead

__all__ = ["directory_location", "redirect_location"]

_SAFE: Final = "-._~!$&'()*+,;=:@"
"""What may stand in a segment without encoding, besides letters and digits (RFC 3986 §3.3). A
backslash may not: browsers take it for a slash."""


def redirect_location(
    redirect: RedirectTarget, prefix: tuple[bytes, ...], head: RequestHead
) -> bytes:
    """Return the location to which a request with this prefix is sent."""
    location = redirect.location.encode()
    if not redirect.append:
        return location
    path, query = split_target(head.target)
    rest = literal_segments(path)[len(prefix) :] if path[:1] == b"/" else ()
    if rest:
        # The path of the location begins with one slash. With two it would name a host.
        location = location.rstrip(b"/") + _quoted(rest)
    return location + b"?" + query if query else location


def directory_location(head: RequestHead) -> bytes:
    """Return the path of a request with a slash at its end, and its query."""
    path, query = split_target(head.target)
    location = _quoted((*literal_segments(path), b""))
    return location + b"?" + query if query else location


def _quoted(segments: tuple[bytes, ...]) -> bytes:
    """Return a path that begins with exactly one slash."""
    path = "/".join(quote(segment, safe=_SAFE) for segment in segments)
    return b"/" + path.lstrip("/").encode()
