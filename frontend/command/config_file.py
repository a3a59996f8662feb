"""Settings in a TOML file: `--config FILE`, or `[tool.reactor-run]` in pyproject.toml.

The keys are the long flags without `--`. A value is a string as on the command line, a number,
true or false, or a list of these for a setting that may be repeated. A route is a table.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final, NamedTuple

from reactor_run.frontend.command.files import read_text
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError
from reactor_run.toml_text import parse_toml

__all__ = ["Found", "read_config", "read_pyproject", "texts_of"]

_PYPROJECT: Final = "pyproject.toml"
_TABLE: Final = "[tool.reactor-run]"
_MAY_HAVE_TABLE: Final = re.compile(
    r"""tool["']?\s*\.\s*["']?reactor-run|\[\s*["']?tool["']?\s*\]"""
)
"""Finds `[tool.reactor-run]` in each spelling of TOML, also as a key of `[tool]`."""
_APP_KEY: Final = re.compile(r"^\s*app\s*=", re.MULTILINE)
_APP_TABLE: Final = re.compile(r"^\s*\[(tool\.reactor-run\.)?app\.", re.MULTILINE)
_APP_HINT: Final = "with tables [app.NAME], the first app needs one too, in the place of app ="
_KEYS: Final = {option.key: option for option in OPTIONS if option.name != "config"}


class Found(NamedTuple):
    """What was written for a setting.

    source: the flag, the variable, or the key with its file, as an error names it.
    texts: one for each value.
    """

    source: str
    texts: list[str]


def read_config(path: str) -> dict[str, Found]:
    """Return the settings in a file, by the names of their fields.

    A file of the name pyproject.toml has them in a table of its own. Raises OperatorError, which
    names the file, if it cannot be read or has a key that is no setting.
    """
    if path.endswith(".py"):
        raise OperatorError(f"{path} is Python; write its settings in TOML, see docs/migrating.md")
    content = _parse(path, read_text(path))
    if os.path.basename(path) != _PYPROJECT:
        return _settings(content, path, path)
    table = _own_table(content, path)
    if table is None:
        raise OperatorError(f"{path} has no {_TABLE}; add it, or name another file")
    return _settings(table, path, f"{path}, {_TABLE}")


def read_pyproject() -> dict[str, Found]:
    """Return the settings in pyproject.toml of the current directory; none without such a file.

    Raises OperatorError as `read_config` does.
    """
    if not os.path.exists(_PYPROJECT):
        return {}
    text = read_text(_PYPROJECT)
    if _MAY_HAVE_TABLE.search(text) is None:
        # Most projects have none, so they need no TOML parser here.
        return {}
    table = _own_table(_parse(_PYPROJECT, text), _PYPROJECT)
    return {} if table is None else _settings(table, _PYPROJECT, f"{_PYPROJECT}, {_TABLE}")


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        return parse_toml(path, text)
    except ValueError as error:
        table = _APP_TABLE.search(text)
        twice = "overwrite" in str(error) and table and _APP_KEY.search(text, 0, table.start())
        hint = f"; {_APP_HINT}" if twice else ""
        raise OperatorError(f"{error}{hint}") from None


def _own_table(content: dict[str, Any], path: str) -> dict[str, Any] | None:
    tools = content.get("tool")
    table = tools.get("reactor-run") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise OperatorError(f"{path}: tool.reactor-run is not a table; write {_TABLE}")
    return table


def _settings(table: dict[str, Any], path: str, where: str) -> dict[str, Found]:
    found = {}
    apps = table.get("app")
    if isinstance(apps, dict):
        # [app.NAME]: a table for each app.
        table = {key: value for key, value in table.items() if key != "app"}
        found["app_table"] = _app_tables(apps, f"app in {path}")
    for key, value in table.items():
        option = _KEYS.get(key)
        if option is None:
            raise OperatorError(f"{where}: {_unknown(key)}")
        source = f"{key} in {path}"
        try:
            found[option.name] = Found(source, texts_of(option, value))
        except OperatorError as error:
            raise OperatorError(f"{source}: {error}") from None
    return found


def _app_tables(apps: dict[str, Any], source: str) -> Found:
    texts = []
    for name, app in apps.items():
        if not isinstance(app, dict):
            raise OperatorError(f"{source}: expected a table for each app, as [app.{name}]")
        if "name" in app:
            raise OperatorError(f"{source}: [app.{name}] is a name already; remove the key name")
        texts.append(_table_text({"name": name, **app}))
    return Found(source, texts)


def _unknown(key: str) -> str:
    from reactor_run.frontend.command.nearest import nearest_option

    if key == "config":
        return "config cannot stand in a file; give it as --config or REACTOR_RUN_CONFIG"
    if key == "tool":
        return f"write the settings at the top, without {_TABLE}; only {_PYPROJECT} has that table"
    return f"there is no setting {key!r}; the nearest is {nearest_option(key).key!r}"


def texts_of(option: Option, value: object) -> list[str]:
    """Return the texts that would be written on the command line."""
    if isinstance(value, dict) and option.kind.takes_pairs:
        return [_pair(name, each) for name, each in value.items()]
    if not isinstance(value, list):
        return [_text(option, value)]
    if not option.repeatable:
        raise OperatorError("expected one value, not a list")
    return [_text(option, each) for each in value]


def _pair(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise OperatorError(f'{name}: expected a string, as in {name} = "1"')
    return f"{name}={value}"


def _text(option: Option, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        word = "on" if value else "off"
        return word if word in option.kind.metavar.split("|") else str(value).lower()
    if isinstance(value, int | float):
        return option.kind.show_number(value)
    if isinstance(value, dict) and option.kind.takes_table:
        return _table_text(value)
    # A program may give None.
    other = "a list or a date" if value is not None else "None"
    what = "a table" if isinstance(value, dict) else other
    raise OperatorError(f"expected a string, a number, true or false, not {what}")


def _table_text(table: dict[str, Any]) -> str:
    # Few services have a table, and the import takes time.
    import json

    try:
        return json.dumps(table)
    except TypeError:
        raise OperatorError("expected strings, numbers, true or false, not a date") from None
