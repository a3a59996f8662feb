"""Routes as an operator writes them.

    --static [HOST]/PREFIX=DIR
    --route TABLE           a table in JSON; in a configuration file it is [[route]]

A table has `prefix`, and may have `host`. One of `app`, `static`, `redirect` and `answer` says who
answers. `_KEYS` lists the other keys of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.routes.cors import CrossOrigin
from reactor_run.frontend.routes.route import (
    DEFAULT_APP,
    AnswerTarget,
    AppTarget,
    RedirectTarget,
    Route,
    StaticTarget,
    Target,
)
from reactor_run.frontend.routes.table import RouteTable, host_names
from reactor_run.protocol.host import is_host
from reactor_run.protocol.own_fields import read_own_field

__all__ = [
    "MountFlag",
    "StaticFlag",
    "check_route",
    "parse_cache_rule",
    "parse_file_name",
    "parse_mount",
    "parse_route",
    "parse_static",
    "routes_of",
    "show_route",
]

_CORS_KEYS: Final[dict[str, type]] = {
    "origins": list,
    "methods": list,
    "fields": list,
    "exposed": list,
    "credentials": bool,
    "max-age": int,
}
_MAX_AGE_MAX: Final = 86400
_COMMON: Final[dict[str, type]] = {"host": str, "prefix": str, "cors": dict}
_KEYS: Final[dict[str, dict[str, type]]] = {
    "app": {"app": str},
    "static": {
        "static": str,
        "index": str,
        "fallback": str,
        "cache": dict,
        "compressed": bool,
    },
    "redirect": {"redirect": str, "status": int, "append": bool},
    "answer": {"answer": str, "status": int, "content-type": str, "fields": dict},
}
"""The keys of a table, by the one that says who answers, and the types of their values."""
_TYPES: Final[dict[type, str]] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list of strings",
    dict: "a table",
}
_APP: Final = re.compile(r"[\w.]+(?::[\w.]+)?")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_PREFIX: Final = re.compile(r"%[0-9A-Fa-f]{2}|[*?#]")
_LOCATION: Final = re.compile(r"(?:https?://[^/?#\\\s]+)?(?:/(?!/)[!-\[\]-~]*)?")


class MountFlag(NamedTuple):
    """The value of `--mount`. name: of the app, made of where it is."""

    host: bytes
    prefix: tuple[bytes, ...]
    app: str

    @property
    def name(self) -> str:
        parts = self.prefix or (self.host,)
        return b"/".join(parts).decode(errors="replace")

    def __str__(self) -> str:
        path = b"/".join((b"", *self.prefix)) or b"/"
        return f"{(self.host + path).decode(errors='backslashreplace')}={self.app}"


class StaticFlag(NamedTuple):
    """The value of `--static`."""

    host: bytes
    prefix: tuple[bytes, ...]
    directory: str

    def __str__(self) -> str:
        path = b"/".join((b"", *self.prefix)) or b"/"
        return f"{(self.host + path).decode(errors='backslashreplace')}={self.directory}"


# Parts --------------------------------------------------------------------------------------------


def _read_host(text: str) -> bytes:
    host = text.encode(errors="surrogateescape")
    # A name may contain an asterisk (RFC 3986), but who writes one here expects a wildcard.
    if not is_host(host) or b"*" in host:
        raise OperatorError(
            f"expected a host, as in shop.example or shop.example:8443, not {text!r}; "
            "there are no wildcards"
        )
    return host_names(host)[0]


def _read_prefix(text: str) -> tuple[bytes, ...]:
    if text == "/":
        return ()
    segments = text.encode(errors="surrogateescape").removesuffix(b"/").split(b"/")
    if (
        segments[0]
        or len(segments) < 2
        or any(segment in (b"", b".", b"..") for segment in segments[1:])
        or not text.isprintable()
        # They would be compared literally, and match nothing that clients send.
        or _NO_PREFIX.search(text) is not None
    ):
        raise OperatorError(
            f"expected a path, as in /shop, without encoding, wildcards and query, not {text!r}"
        )
    return tuple(segments[1:])


def _read_directory(text: str) -> str:
    if not os.path.isdir(text):
        raise OperatorError(f"{text!r} is not a directory; give an existing one")
    return text


def parse_file_name(text: str) -> str:
    """Read the name of a file in a static directory; `off` stands for none."""
    if text in ("off", ""):
        return ""
    if text.startswith("/") or any(part in ("", ".", "..") for part in text.split("/")):
        raise OperatorError(f"expected the name of a file in the directory, or off, not {text!r}")
    return text


def parse_cache_rule(text: str) -> tuple[str, str]:
    """Read `PATTERN=VALUE`, as in `assets/*=max-age=31536000, immutable`."""
    pattern, equals, value = text.partition("=")
    if not equals or not pattern:
        raise OperatorError(f"expected PATTERN=VALUE, as in *.html=no-cache, not {text!r}")
    return pattern, _read_field("cache-control", value)


def _read_field(name: str, value: str) -> str:
    try:
        read_own_field(f"{name}:{value}".encode(errors="surrogateescape"))
    except ValueError as error:
        raise OperatorError(f"{name}: {error}") from None
    return value.strip(" \t")


# Routes -------------------------------------------------------------------------------------------


def parse_static(text: str) -> StaticFlag:
    """Read `[HOST]/PREFIX=DIR`. Raises OperatorError."""
    place, equals, directory = text.partition("=")
    host, slash, path = place.partition("/")
    if not equals or not slash:
        raise OperatorError(f"expected [HOST]/PREFIX=DIR, as in /static=dist, not {text!r}")
    return StaticFlag(_read_host(host), _read_prefix(slash + path), _read_directory(directory))


def parse_mount(text: str) -> MountFlag:
    """Read `[HOST]/PREFIX=APP`. Raises OperatorError."""
    place, equals, app = text.partition("=")
    host, slash, path = place.partition("/")
    if not equals or not slash or not _APP.fullmatch(app):
        raise OperatorError(f"expected [HOST]/PREFIX=APP, as in /api=shop.api:app, not {text!r}")
    mount = MountFlag(_read_host(host), _read_prefix(slash + path), app)
    if not mount.host and not mount.prefix:
        raise OperatorError("/ is where the first app is; mount this one at another path")
    return mount


def parse_route(text: str) -> Route:
    """Read a table in JSON. Raises OperatorError."""
    # Few services have a table, and the import takes time.
    import json

    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise OperatorError(
            'expected a table in JSON, as in {"prefix": "/old", "redirect": "/new"}, not '
            f"{text!r}"
        )
    kinds = [kind for kind in _KEYS if kind in table]
    keys = dict(_COMMON)
    for kind in kinds or _KEYS:
        keys |= _KEYS[kind]
    _check_keys(table, keys)
    if len(kinds) != 1:
        given = f"{len(kinds)} of them" if kinds else "none"
        raise OperatorError(f"a route has one of the keys {', '.join(_KEYS)}, not {given}")
    if "prefix" not in table:
        raise OperatorError('a route has the key prefix, as in prefix = "/"')
    return Route(
        _read_host(table.get("host", "")),
        _read_prefix(table["prefix"]),
        _READERS[kinds[0]](table),
        _read_cross_origin(table["cors"]) if "cors" in table else None,
    )


def check_route(text: str) -> str:
    """Return the text of a table that `parse_route` can read. Raises OperatorError."""
    parse_route(text)
    return text


def _check_keys(table: Mapping[str, Any], keys: Mapping[str, type]) -> None:
    """Raise OperatorError for an unknown key, and for a value of a wrong type."""
    for key, value in table.items():
        kind = keys.get(key)
        if kind is None:
            # Only an error needs it.
            from difflib import get_close_matches

            (nearest,) = get_close_matches(key, keys, 1, cutoff=0)
            raise OperatorError(
                f"there is no key {key!r} here; the nearest is {nearest!r} of {', '.join(keys)}"
            )
        if type(value) is not kind or (
            isinstance(value, list) and not all(isinstance(each, str) for each in value)
        ):
            raise OperatorError(f"{key}: expected {_TYPES[kind]}, not {value!r}")


def _read_cross_origin(table: Mapping[str, Any]) -> CrossOrigin:
    try:
        _check_keys(table, _CORS_KEYS)
        if not table.get("origins"):
            raise OperatorError('list the origins, as in origins = ["https://shop.example"]')
        max_age = table.get("max-age", 600)
        if not 0 <= max_age <= _MAX_AGE_MAX:
            raise OperatorError(f"max-age: expected 0 to {_MAX_AGE_MAX} seconds, not {max_age}")
        return CrossOrigin(
            table.get("origins", ()),
            methods=table.get("methods", ()),
            fields=table.get("fields", ()),
            exposed=table.get("exposed", ()),
            credentials=table.get("credentials", False),
            max_age=max_age,
        )
    except OperatorError as error:
        raise OperatorError(f"cors: {error}") from None


def _read_app(table: Mapping[str, Any]) -> Target:
    return AppTarget(table["app"])


def _read_static(table: Mapping[str, Any]) -> Target:
    rules: dict[str, str] = table.get("cache", {})
    _check_keys(rules, dict.fromkeys(rules, str))
    return StaticTarget(
        _read_directory(table["static"]),
        parse_file_name(table.get("index", StaticTarget("").index_file)),
        parse_file_name(table.get("fallback", "")),
        tuple((pattern, _read_field("cache-control", value)) for pattern, value in rules.items()),
        table.get("compressed", True),
    )


def _read_redirect(table: Mapping[str, Any]) -> Target:
    location, status = table["redirect"], table.get("status", 308)
    if status not in _REDIRECTS:
        raise OperatorError(f"status: expected {', '.join(map(str, _REDIRECTS))}, not {status}")
    if not location or _LOCATION.fullmatch(location) is None:
        raise OperatorError(
            "redirect: expected a path or a URL, as in /new or https://shop.example, in ASCII and "
            f"with percent-encoding, not {location!r}"
        )
    append = table.get("append", True)
    if append and ("?" in location or "#" in location):
        raise OperatorError("redirect: the path cannot follow a query; add append = false")
    return RedirectTarget(location, status, append)


def _read_answer(table: Mapping[str, Any]) -> Target:
    status = table.get("status", 200)
    if not 200 <= status <= 599 or status in (204, 205, 206, 304):
        raise OperatorError(f"status: expected that of a response with a body, not {status}")
    fields: dict[str, str] = table.get("fields", {})
    _check_keys(fields, dict.fromkeys(fields, str))
    if any(name.lower() == "content-type" for name in fields):
        raise OperatorError("fields: Content-Type is the key content-type of the route")
    return AnswerTarget(
        table["answer"],
        status,
        _read_field("content-type", table.get("content-type", AnswerTarget("").content_type)),
        tuple((name, _read_field(name, value)) for name, value in fields.items()),
    )


_READERS: Final = {
    "app": _read_app,
    "static": _read_static,
    "redirect": _read_redirect,
    "answer": _read_answer,
}


def show_route(route: Route) -> str:
    """Return what a route takes and who answers, for the operator."""
    match route.target:
        case AppTarget(app):
            what = f"app {app}"
        case StaticTarget(directory):
            what = f"static {directory}"
        case RedirectTarget(location):
            what = f"redirect {location}"
        case AnswerTarget(_, status):
            what = f"answer {status}"
    return f"{route.name} -> {what}"


# All of a service ---------------------------------------------------------------------------------


def routes_of(
    written: Sequence[str],
    static: Iterable[StaticFlag],
    mounts: Sequence[MountFlag] = (),
    *,
    apps: Sequence[str] = (DEFAULT_APP,),
    reached: Collection[str] = (),
    index: str,
    fallback: str,
    cache: tuple[tuple[str, str], ...],
    cross_origin: CrossOrigin | None,
) -> RouteTable | None:
    """Return the routes of a service; None: the app answers all requests, without more.

    `written`: those of `--route`. `apps`: the names of all apps. `reached`: of those that have
    listeners of their own, and so need no route. `index`, `fallback`, `cache`: of
    the directories of `static`. `cross_origin`: of the app. Raises OperatorError.

    The app of the command line gets what no route takes, unless a route names it.
    """
    routes = [
        *map(parse_route, written),
        *(
            Route(flag.host, flag.prefix, StaticTarget(flag.directory, index, fallback, cache))
            for flag in static
        ),
        *(Route(mount.host, mount.prefix, AppTarget(mount.name)) for mount in mounts),
    ]
    if not routes and cross_origin is None and apps == [DEFAULT_APP]:
        return None
    routed = {}
    for route in routes:
        if isinstance(route.target, AppTarget):
            routed[route.target.app] = route
    for name, route in routed.items():
        if name not in apps:
            raise OperatorError(
                f"route {route.name}: there is no app {name!r}; the apps are {', '.join(apps)}"
            )
    taken = any(route.host == b"" and route.prefix == () for route in routes)
    for name in apps:
        if name != DEFAULT_APP and name not in routed and name not in reached:
            raise OperatorError(
                f'the app {name!r} has no route; add one, with prefix and app = "{name}"'
            )
    if DEFAULT_APP in apps and DEFAULT_APP not in routed:
        if taken:
            raise OperatorError(
                "a route takes / of each host, so the app gets no request; give the app a route "
                f'too, with prefix and app = "{DEFAULT_APP}"'
            )
        routes.append(Route(b"", (), AppTarget(DEFAULT_APP)))
    return RouteTable(
        Route(route.host, route.prefix, route.target, cross_origin)
        if isinstance(route.target, AppTarget) and route.cross_origin is None
        else route
        for route in routes
    )
