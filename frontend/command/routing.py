"""The routes of a service, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError

if TYPE_CHECKING:
    from reactor_run.frontend.routes.cors import CrossOrigin
    from reactor_run.frontend.routes.table import RouteTable

__all__ = ["cross_origin_of", "route_table"]

_FOR_STATIC: Final = ("static_index", "static_fallback", "static_cache")
_FOR_CORS: Final = (
    "cors_method",
    "cors_field",
    "cors_expose",
    "cors_credentials",
    "cors_max_age",
)


def route_table(settings: Settings, sources: Mapping[str, str] | None = None) -> RouteTable | None:
    """Return the routes; None: the app answers all requests, and there is nothing to add.

    `sources`: the flag, variable or key of each setting that is not a default. Raises
    OperatorError.
    """
    sources = sources or {}
    for needed, names in (("static", _FOR_STATIC), ("cors_origin", _FOR_CORS)):
        for name in names:
            if name in sources and not getattr(settings, needed):
                flag = "--" + needed.replace("_", "-")
                raise OperatorError(
                    f"{sources[name]} has no effect without {flag}; add {flag} or remove it"
                )
    if not (
        settings.route
        or settings.static
        or settings.cors_origin
        or settings.mount
        or settings.app_table
    ):
        return None
    # Most services have no routes, and the import takes time.
    from reactor_run.frontend.command.pools import apps_of
    from reactor_run.frontend.routes.notation import routes_of

    try:
        cross_origin = cross_origin_of(settings)
    except OperatorError as error:
        raise OperatorError(f"{sources.get('cors_origin', '--cors-origin')}: {error}") from None
    apps = apps_of(settings)
    return routes_of(
        settings.route,
        settings.static,
        settings.mount,
        apps=[app.name for app in apps],
        reached=[app.name for app in apps if app.bind],
        index=settings.static_index,
        fallback=settings.static_fallback,
        cache=settings.static_cache,
        cross_origin=cross_origin,
    )


def cross_origin_of(settings: Settings) -> CrossOrigin | None:
    """Return what pages of other origins may do in the apps; None: what the apps say themselves.

    Raises OperatorError.
    """
    if not settings.cors_origin:
        return None
    from reactor_run.frontend.routes.cors import CrossOrigin

    return CrossOrigin(
        settings.cors_origin,
        methods=settings.cors_method,
        fields=settings.cors_field,
        exposed=settings.cors_expose,
        credentials=settings.cors_credentials,
        max_age=settings.cors_max_age,
    )
