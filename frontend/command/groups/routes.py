"""Routes, apps and files."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reactor_run.frontend.command.app_tables import check_app_table
from reactor_run.frontend.command.options import SWITCH, Kind, count
from reactor_run.frontend.command.table import Group, option, options

if TYPE_CHECKING:
    from reactor_run.frontend.routes.notation import MountFlag, StaticFlag


def _by_notation(name: str) -> Callable[[Any], Any]:
    """Return a function of the notation of routes. It is imported only if it is needed."""

    def call(value: Any) -> Any:
        from reactor_run.frontend.routes import notation

        return getattr(notation, name)(value)

    return call


ROUTE = Kind("TABLE", _by_notation("check_route"), takes_table=True)

MOUNT = Kind("[HOST]/PREFIX=APP", _by_notation("parse_mount"))

STATIC = Kind("[HOST]/PREFIX=DIR", _by_notation("parse_static"))

FILE_NAME = Kind("FILE|off", _by_notation("parse_file_name"), lambda name: name or "off")

CACHE_RULE = Kind("PATTERN=VALUE", _by_notation("parse_cache_rule"), "=".join)


class RoutesGroup(Group, key="routes", title="Routes and files"):
    """Routes, apps and files."""

    route: tuple[str, ...] = options(
        ROUTE,
        "Who answers the requests with a host and a prefix: the app, files, a redirect or a text. "
        "docs/routes.md lists the keys. May be repeated; [[route]] in a file.",
        shown_default="the app answers all requests",
        separator="\n",
    )
    mount: tuple["MountFlag", ...] = options(
        MOUNT,
        "Another app in this service, with reactors of its own, and the path under which it is "
        "mounted. May be repeated.",
        shown_default="none",
    )
    app_table: tuple[str, ...] = options(
        Kind("TABLE", check_app_table, takes_table=True),
        "Another app: its name, its module and its settings. docs/routes.md lists them. May be "
        "repeated; [app.NAME] in a file.",
        shown_default="none",
        separator="\n",
    )
    static: tuple["StaticFlag", ...] = options(
        STATIC,
        "Directory whose files the front end serves, and the path under which it does. May be "
        "repeated.",
        shown_default="none",
    )
    static_index: str = option(
        FILE_NAME,
        "index.html",
        "With --static: file that is sent for its directory.",
    )
    static_fallback: str = option(
        FILE_NAME,
        "",
        "With --static: file that is sent where there is none, unless the path ends with a name "
        "that has a dot. For apps that run in the browser.",
        shown_default="off",
    )
    static_cache: tuple[tuple[str, str], ...] = options(
        CACHE_RULE,
        "With --static: Cache-Control of the files that match a pattern, as in "
        "'assets/*=immutable'. The first that matches counts. May be repeated.",
        shown_default="none",
        separator="\n",
    )
    cors_origin: tuple[str, ...] = options(
        Kind("ORIGIN", str),
        "Origin whose pages may read the app's responses: https://shop.example, "
        "https://*.shop.example, null, or * for any. May be repeated.",
        shown_default="the app itself answers cross-origin requests",
    )
    cors_method: tuple[str, ...] = options(
        Kind("METHOD", str),
        "With --cors-origin: method that these pages may use, besides GET, HEAD and POST. May be "
        "repeated.",
        shown_default="none",
    )
    cors_field: tuple[str, ...] = options(
        Kind("FIELD", str),
        "With --cors-origin: request field that these pages may set, or * for any. May be "
        "repeated.",
        shown_default="none",
    )
    cors_expose: tuple[str, ...] = options(
        Kind("FIELD", str),
        "With --cors-origin: response field that these pages may read, or * for any. May be "
        "repeated.",
        shown_default="none",
    )
    cors_credentials: bool = option(
        SWITCH,
        False,
        "With --cors-origin: these pages may send cookies and other credentials.",
    )
    cors_max_age: int = option(
        count(0, 86400),
        600,
        "Seconds for which a browser may keep the answer to a preflight.",
    )
