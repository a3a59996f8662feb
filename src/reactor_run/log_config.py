"""The operator's own configuration of Python's logging (--log-config), for both processes.

Its format follows from the name of the file:

    .toml, .json   a dictionary for logging.config.dictConfig
    other          an INI file for logging.config.fileConfig

Each process applies it once, at its start; a reactor does so before it imports the app.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from reactor_run.toml_text import parse_toml, place

__all__ = ["LogConfigError", "apply_log_config"]


class LogConfigError(ValueError):
    """The file is faulty. The message is one line and names the file, with the place if known."""


def apply_log_config(path: str, text: str) -> None:
    """Configure the logging of this process. Raises LogConfigError.

    `text`: the content of the file at `path`.
    """
    import logging.config

    if path.endswith((".yaml", ".yml")):
        raise LogConfigError(f"{path}: YAML is not read; write the same as TOML or JSON")
    if path.endswith(".toml"):
        settings = _parse_toml(path, text)
    elif path.endswith(".json"):
        settings = _parse_json(path, text)
    else:
        _apply_ini(path, text)
        return
    if not isinstance(settings, dict):
        raise LogConfigError(f"{path}, line 1, column 1: expected an object")
    try:
        logging.config.dictConfig(settings)
    except Exception as error:
        _fail(path, error)


def _parse_toml(path: str, text: str) -> Any:
    try:
        return parse_toml(path, text)
    except ValueError as error:
        raise LogConfigError(str(error)) from None


def _parse_json(path: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LogConfigError(f"{path}, {place(text, error.pos)}: {error.msg}") from None


def _apply_ini(path: str, text: str) -> None:
    from configparser import ConfigParser, Error

    # As logging.config.fileConfig reads a file: values may contain %(asctime)s.
    parser = ConfigParser()
    try:
        parser.read_string(text, path)
    except Error as error:
        line = getattr(error, "lineno", None)
        faults = getattr(error, "errors", None)
        if faults:
            line = faults[0][0]
        what = type(error).__name__.removesuffix("Error")
        told = {
            "MissingSectionHeader": "there is no section yet; begin with [loggers]",
            "Parsing": "this is neither a section nor KEY=VALUE",
        }.get(what, error.message.replace("\n", " "))
        raise LogConfigError(f"{path}, line {line}, column 1: {told}") from None
    for section in ("loggers", "handlers", "formatters"):
        if not parser.has_section(section):
            raise LogConfigError(f"{path}: the section [{section}] is missing")
    try:
        logging.config.fileConfig(parser, disable_existing_loggers=False)
    except Exception as error:
        _fail(path, error)


def _fail(path: str, error: Exception) -> NoReturn:
    """Raise LogConfigError for an error of `logging.config`, with its causes."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause) or type(cause).__name__
        # Some texts end with that of their cause.
        if not told or text not in told[-1]:
            told.append(f"no key {text}" if isinstance(cause, KeyError) else text)
        cause = cause.__cause__
    raise LogConfigError(f"{path}: {': '.join(told)}".replace("\n", " ")) from None
