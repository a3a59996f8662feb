"""Where settings are written, and which one wins: flags, environment, file, defaults.

Each setting has a row in `settings`. This file finds what was written for it, and reads the text.
An env file adds variables to the environment.
Three variables that platforms set, and that gunicorn and uvicorn know too, replace defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from reactor_run.frontend.command.config_file import Found, read_config, read_pyproject
from reactor_run.frontend.command.env_file import read_env_file
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.command.stray import find_stray
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import is_number
from reactor_run.frontend.sockets.passed import systemd_passes_sockets

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


class Written(NamedTuple):
    """What an operator has written, and not been read yet.

    found: by the name of the setting.
    variables: those of the env file that the real environment lacks.
    """

    found: dict[str, Found]
    variables: dict[str, str]


class Reading(NamedTuple):
    """The settings that an operator has written. The others have their defaults.

    values: by the name of the setting.
    sources: where each was written, as an error names it.
    variables: those of the env file that the real environment lacks. They are for the app.
    warnings: what was written and has no effect, or more effect than it may seem. One line each.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    variables: dict[str, str]
    warnings: list[str]


def read_sources(texts: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Reading:
    """Read all settings. `texts`: those of the command line, by the name of the setting.

    Raises OperatorError, which names the flag, the variable, or the file at fault.
    """
    written = find_settings(texts, environ)
    values = {}
    sources = {}
    for name, found in written.found.items():
        sources[name] = found.source
        try:
            values[name] = _BY_NAME[name].parse(found.texts)
        except OperatorError as error:
            raise OperatorError(f"{found.source}: {error}") from None
    warnings = list(find_stray({**written.variables, **environ}, sources))
    return Reading(values, sources, written.variables, warnings)


def find_settings(texts: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Written:
    """Find what was written for each setting, without reading it. An empty variable counts as
    unset. `texts`: those of the command line, by the name of the setting.

    A flag or the real environment names the env file and the configuration file, and the
    configuration file may name the env file too. Raises OperatorError if a file cannot be read, or
    has what cannot stand there.
    """
    first = _Environment(environ)
    direct = _find(texts, first)
    file = _read_config(direct.get("config"))
    env_file = direct.get("env_file") or file.get("env_file")
    if env_file is None:
        return Written(_add_shared(file | direct, first), {})
    full = _Environment(environ, env_file)
    return Written(_add_shared(file | _find(texts, full), full), full.variables)


class _Environment:
    """The real environment, and behind it the variables of an env file."""

    def __init__(self, environ: Mapping[str, str], env_file: Found | None = None) -> None:
        """Raises OperatorError if the file cannot be read, or names another file to read."""
        self.real = environ
        self.variables: dict[str, str] = {}
        self._path = ""
        if env_file is not None:
            self._path = env_file.texts[-1]
            try:
                self.variables = read_env_file(self._path, environ)
                for name in ("config", "env_file"):
                    if (variable := _BY_NAME[name].variable) in self.variables:
                        raise OperatorError(f"{variable} cannot stand in {self._path}")
            except OperatorError as error:
                raise OperatorError(f"{env_file.source}: {error}") from None

    def find(self, name: str) -> tuple[str, str]:
        """Return the text of a variable, and its source; "" if it is not set."""
        if name in self.real:
            return self.real[name], name
        return self.variables.get(name, ""), f"{name} in {self._path}"


def _find(texts: Mapping[str, Sequence[str]], environment: _Environment) -> dict[str, Found]:
    """Return what stands on the command line and in the environment."""
    found = {}
    for option in OPTIONS:
        if option.name in texts:
            found[option.name] = Found(option.flag, list(texts[option.name]))
        else:
            text, source = environment.find(option.variable)
            if text:
                found[option.name] = Found(source, option.split(text))
    return found


def _read_config(config: Found | None) -> dict[str, Found]:
    """Return the settings in the configuration file."""
    if config is None:
        return read_pyproject()
    try:
        return read_config(config.texts[-1])
    except OperatorError as error:
        raise OperatorError(f"{config.source}: {error}") from None


def _add_shared(found: dict[str, Found], environment: _Environment) -> dict[str, Found]:
    """Add the settings that only a variable of the platform gives, and return all."""
    for name, (variable, read) in _SHARED.items():
        text, source = environment.find(variable)
        if not text or name in found:
            continue
        if variable == "PORT" and systemd_passes_sockets(environment.real):
            continue
        found[name] = Found(source, [read(text)])
    return found
