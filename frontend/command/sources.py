"""Where settings are written, and which one wins: flags, environment, file, defaults.

Each setting has a row in `settings`. This file finds what was written for it, and reads the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reactor_run.frontend.command.config_file import Found, read_config, read_pyproject
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError

__all__ = ["Reading", "find_settings", "read_sources"]

_BY_NAME = {option.name: option for option in OPTIONS}


class Reading(NamedTuple):
    """The settings that an operator has written. The others have their defaults.

    values: by the name of the setting.
    sources: where each was written, as an error names it.
    """

    values: dict[str, Any]
    sources: dict[str, str]


def read_sources(written: Mapping[str, list[str]], environ: Mapping[str, str]) -> Reading:
    """Read all settings. `written`: the texts on the command line, by the name of the setting.

    Raises OperatorError, which names the flag, the variable, or the file at fault.
    """
    values = {}
    sources = {}
    for name, found in find_settings(written, environ).items():
        sources[name] = found.source
        try:
            values[name] = _BY_NAME[name].parse(found.texts)
        except OperatorError as error:
            raise OperatorError(f"{found.source}: {error}") from None
    return Reading(values, sources)


def find_settings(
    written: Mapping[str, Sequence[str]], environ: Mapping[str, str]
) -> dict[str, Found]:
    """Find what was written for each setting, without reading it. An empty variable counts as
    unset.

    Raises OperatorError if a file cannot be read, or has a key that is no setting.
    """
    found = {}
    for option in OPTIONS:
        if option.name in written:
            found[option.name] = Found(option.flag, list(written[option.name]))
        elif text := environ.get(option.variable):
            found[option.name] = Found(option.variable, option.split(text))
    return _file(found.get("config")) | found


def _file(config: Found | None) -> dict[str, Found]:
    """Return the settings in the configuration file."""
    if config is None:
        return read_pyproject()
    try:
        return read_config(config.texts[-1])
    except OperatorError as error:
        raise OperatorError(f"{config.source}: {error}") from None
