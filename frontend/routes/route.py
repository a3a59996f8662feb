"""What a route is: the requests that it takes, and who answers them.

notation.py reads routes from text. table.py finds the route of a request.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from reactor_run.frontend.routes.cors import CrossOrigin

__all__ = [
    "DEFAULT_APP",
    "AnswerTarget",
    "AppTarget",
    "RedirectTarget",
    "Route",
    "StaticTarget",
    "Target",
]

DEFAULT_APP: Final = "default"
"""The name of the app that the command line names."""


class AppTarget(NamedTuple):
    """The app answers."""

    app: str


class StaticTarget(NamedTuple):
    """The front end answers with a file of a directory.

    index_file: the file that stands for its directory; empty: none does.
    fallback_file: the file for each path without one, whose last segment has no dot; empty: none.
    cache: pairs of a pattern of paths in the directory and a value of Cache-Control. The first
    pattern that matches counts.
    compressed: a file that was compressed before, beside the plain one, may be sent.
    """

    directory: str
    index_file: str = "index.html"
    fallback_file: str = ""
    cache: tuple[tuple[str, str], ...] = ()
    compressed: bool = True


class RedirectTarget(NamedTuple):
    """The front end answers with a redirect.

    append: the rest of the path, behind the prefix, and the query follow `location`.
    """

    location: str
    status: int = 308
    append: bool = True


class AnswerTarget(NamedTuple):
    """The front end answers with a text."""

    text: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    fields: tuple[tuple[str, str], ...] = ()


Target = AppTarget | StaticTarget | RedirectTarget | AnswerTarget


class Route:
    """Requests with one host and one prefix, and who answers them.

    host: in lower case, with or without a port; empty: each host.
    prefix: the first segments of the path, decoded.
    cross_origin: what pages of other origins may do here; None: what the target says itself.
    name: host and prefix as an operator writes them, as in `example.org/static`.
    """

    __slots__ = ("cross_origin", "host", "name", "prefix", "target")

    def __init__(
        self,
        host: bytes,
        prefix: tuple[bytes, ...],
        target: Target,
        cross_origin: CrossOrigin | None = None,
    ) -> None:
        self.host = host
        self.prefix = prefix
        self.target = target
        self.cross_origin = cross_origin
        path = b"/".join((b"", *prefix)) or b"/"
        self.name = (host + path).decode(errors="backslashreplace")
