"""Where settings are written, and which one wins: flags, environment, file, defaults.

Each setting has a row in `settings`. This file finds what was written for it, and reads the text.
Three variables that platforms set, and that gunicorn and uvicorn know too, replace defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from reactor_run.frontend.command.config_file import Found, read_config, read_pyproject
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.command.stray import find_stray
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import is_number
from reactor_run.frontend.sockets.listeners import systemd_passes_sockets

__all__ = ["Reading", "find_settings", "read_sources"]


def _read_port(text: str) -> str:
    if not is_number(text) or int(text) > 65535:
        raise OperatorError(f"PORT: expected the number of a port, up to 65535, not {text!r}")
    return f":{text}"


def _read_proxies(text: str) -> str:
    """Return the networks that gunicorn would trust: always the clients of unix sockets too."""
    items = [item.strip() for item in text.split(",")]
    return "0.0.0.0/0,::/0,unix" if "*" in items else f"{text},unix"


_SHARED: Final[dict[str, tuple[str, Callable[[str], str]]]] = {
    "bind": ("PORT", _read_port),
    "reactors": ("WEB_CONCURRENCY", str),
    "forwarded_allow_from": ("FORWARDED_ALLOW_IPS", _read_proxies),
}
"""The variables that replace a default, by the setting. Each has a function that makes the
setting's text of its text."""
_BY_NAME: Final = {option.name: option for option in OPTIONS}


class Reading(NamedTuple):
    """The settings that an operator has written. The others have their defaults.

    values: by the name of the setting.
    sources: where each was written, as an error names it.
    warnings: what was written and has no effect, or more effect than it may seem. One line each.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    warnings: list[str]


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
    return Reading(values, sources, list(find_stray(environ, sources)))


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
    found = _file(found.get("config")) | found
    for name, (variable, read) in _SHARED.items():
        if name not in found and (text := environ.get(variable)):
            if variable == "PORT" and systemd_passes_sockets(environ):
                continue
            found[name] = Found(variable, [read(text)])
    return found


def _file(config: Found | None) -> dict[str, Found]:
    """Return the settings in the configuration file."""
    if config is None:
        return read_pyproject()
    try:
        return read_config(config.texts[-1])
    except OperatorError as error:
        raise OperatorError(f"{config.source}: {error}") from None
