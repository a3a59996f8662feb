"""The apps of a service: that of the command line, those of `--mount`, those of `[app.NAME]`.

Each app has settings of its own. What its table does not say is as for the whole service.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from reactor_run.frontend.command.app_tables import APP_KEYS
from reactor_run.frontend.command.config_file import texts_of
from reactor_run.frontend.command.settings import OPTIONS, Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import Bind

__all__ = ["AppSettings", "apps_of"]

_OPTIONS: Final = {option.key: option for option in OPTIONS if option.name in APP_KEYS}
_DEFAULT: Final = "default"


class AppSettings(NamedTuple):
    """One app, its name and its settings.

    bind: listeners of its own, whose requests it gets all. Those of `settings` are for all apps.
    """

    name: str
    settings: Settings
    bind: tuple[Bind, ...] = ()


def apps_of(settings: Settings) -> list[AppSettings]:
    """Return the apps of a service, the one of the command line first. Raises OperatorError."""
    apps = [AppSettings(_DEFAULT, settings)] if settings.app else []
    for mount in settings.mount:
        apps.append(AppSettings(mount.name, settings.replace(app=mount.app)))
    apps += [_read(settings, text) for text in settings.app_table]
    names = [app.name for app in apps]
    for name in names:
        if names.count(name) > 1:
            raise OperatorError(
                f"two apps are called {name!r}; mount one at another path, or give it another "
                "name, by a table [app.NAME] and a route"
            )
    return apps


def _read(settings: Settings, text: str) -> AppSettings:
    """Read a table: `name`, and the keys of APP_KEYS."""
    import json

    table = dict(json.loads(text))
    name = table.pop("name")
    try:
        values = {_OPTIONS[key].name: _value(key, value) for key, value in table.items()}
    except OperatorError as error:
        raise OperatorError(f"[app.{name}]: {error}") from None
    bind = values.pop("bind", ())
    if "env" in values:
        values["env"] = settings.env + values["env"]
    own = settings.replace(**values)
    if own.interface == "asgi" and "threads" in values and own.threads > 1:
        raise OperatorError(f"[app.{name}]: threads is for WSGI apps, but interface is asgi")
    return AppSettings(name, own, bind)


def _value(key: str, value: object) -> Any:
    option = _OPTIONS[key]
    try:
        return option.parse(texts_of(option, value))
    except OperatorError as error:
        raise OperatorError(f"{key}: {error}") from None
