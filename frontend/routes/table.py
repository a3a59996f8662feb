"""Finds the route of a request: by its host, then by the longest prefix of its path.

1. The routes of the request's host and port count first, then those of its host, then those without
   a host. In each group the route with the longest prefix is taken. A group without such a route
   passes the request on to the next group.
2. A prefix is a number of whole segments: `/api` takes `/api` and `/api/users`, but not `/apis`.
3. Paths are compared as the policy has accepted them (protocol/target.py), without their
   percent-encoding.
4. A path may be read in two ways. Read literally, `//api`, `/static/../api` and `/x%2F..%2Fapi` do
   not begin with `/api`. An app or a file system that merges slashes, removes dot segments or takes
   `%2F` for a slash may think that they do. If the two readings lead to different routes, the path
   is ambiguous, and no route gets the request. So no spelling leads past a route.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.routes.route import AppTarget, Route
from reactor_run.protocol.path import decode_path
from reactor_run.protocol.target import split_target

if TYPE_CHECKING:
    from reactor_run.protocol.request import RequestHead

__all__ = ["AmbiguousPath", "RouteTable", "host_names", "literal_segments"]

_MAY_BE_AMBIGUOUS: Final = re.compile(rb"%|//|/\.")
_PORT: Final = re.compile(rb":[0-9]*\Z")


class AmbiguousPath(Exception):
    """Two readings of a path lead to different routes."""


class RouteTable:
    """The routes of a service."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Raises OperatorError if two routes take the same requests."""
        self.routes = tuple(routes)
        self._hosts: dict[bytes, dict[tuple[bytes, ...], Route]] = {}
        for route in self.routes:
            prefixes = self._hosts.setdefault(route.host, {})
            if route.prefix in prefixes:
                raise OperatorError(f"two routes take {route.name}; remove one")
            prefixes[route.prefix] = route
        self._any_host = self._hosts.pop(b"", {})
        self._depth = max(
            (len(each) for group in (self._any_host, *self._hosts.values()) for each in group),
            default=0,
        )

    def mount_path(self, app: str) -> str:
        """Return the prefix of an app's routes, as in `/api`; empty: there are several, or it is
        `/`."""
        prefixes = {
            route.prefix
            for route in self.routes
            if isinstance(route.target, AppTarget) and route.target.app == app
        }
        if len(prefixes) != 1:
            return ""
        return "".join("/" + segment.decode(errors="replace") for segment in prefixes.pop())

    def find(self, head: RequestHead) -> Route | None:
        """Return the route of a request; None: it has none. Raises AmbiguousPath."""
        target = head.target
        path = target.partition(b"?")[0] if target[:1] == b"/" else split_target(target)[0]
        groups = [self._any_host]
        if self._hosts:
            names = host_names(head.values((b"host",))[0])
            groups[:0] = [self._hosts[name] for name in names if name in self._hosts]
        if path[:1] != b"/":
            # `OPTIONS *` is about the server.
            return self._longest(groups, ())
        if _MAY_BE_AMBIGUOUS.search(path) is None:
            return self._longest(groups, tuple(path[1:].split(b"/", self._depth)))
        route = self._longest(groups, literal_segments(path))
        if route is not self._longest(groups, _resolved_segments(path)):
            raise AmbiguousPath
        return route

    def _longest(
        self, groups: list[dict[tuple[bytes, ...], Route]], segments: tuple[bytes, ...]
    ) -> Route | None:
        for prefixes in groups:
            for length in range(min(len(segments), self._depth), -1, -1):
                route = prefixes.get(segments[:length])
                if route is not None:
                    return route
        return None


def host_names(host: bytes) -> list[bytes]:
    """Return the names under which routes of a host are kept: with its port, then without.

    A dot at the end of the name, of an absolute name in DNS, does not count.
    """
    host = host.lower()
    port = _PORT.search(host)
    name = host if port is None else host[: port.start()]
    name = name.removesuffix(b".")
    if port is None or port[0] == b":":
        return [name]
    return [name + port[0], name]


def literal_segments(path: bytes) -> tuple[bytes, ...]:
    """Return the segments of a path that begins with a slash. An encoded slash separates none."""
    return tuple([decode_path(segment) for segment in path[1:].split(b"/")])


def _resolved_segments(path: bytes) -> tuple[bytes, ...]:
    """Return the segments as a file system would read them once the path is decoded."""
    segments: list[bytes] = []
    for segment in decode_path(path).split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    return tuple(segments)
