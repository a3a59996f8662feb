"""The `reactor-run` command: from the command line and the environment to `Settings`.

This file owns the order in which they are read, the settings that exclude each other, and the
output of an operator's error. `command.settings` knows the name and the values of each option. The
server is imported only after the settings are valid, because that takes time.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from reactor_run.frontend.command.argv import sort_words
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import OPTIONS, Settings
from reactor_run.frontend.errors import SEE_HELP, OperatorError
from reactor_run.frontend.sockets.networks import NOBODY

COMMANDS = ("status", "reload", "stop")
"""First words of the command line that are a command and not the name of an app."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status.

    2 means that the operator has to correct something, which standard error says in one line.
    `argv` defaults to the arguments of the process. Raises SystemExit(0) after help and version.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        if words and words[0] in COMMANDS:
            from reactor_run.frontend.command.remote import run_command

            return run_command(words, os.environ)
        settings = read_settings(words, os.environ)
        from reactor_run.frontend.service.server import serve

        return serve(settings)
    except OperatorError as error:
        print(f"reactor-run: error: {error}", file=sys.stderr)
        return 2


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings. The command line wins over the environment, and both win over the
    defaults.

    An empty environment variable counts as unset. Raises OperatorError, which names the flag or
    variable at fault, and SystemExit(0) after help and version.
    """
    written = sort_words(argv)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        if option.name in written:
            source, texts = option.flag, written[option.name]
        elif environ.get(option.variable):
            source, texts = option.variable, _split(option, environ[option.variable])
        else:
            continue
        sources[option.name] = source
        try:
            values[option.name] = option.parse(texts)
        except OperatorError as error:
            raise OperatorError(f"{source}: {error}") from None
    if "app" not in values:
        raise OperatorError(f"no app given; name it, as in `reactor-run shop.web:app` ({SEE_HELP})")
    if "app" in written and values["app"] in COMMANDS:
        raise OperatorError(
            f"{values['app']} is a command and must be the first word, as in `reactor-run "
            f"{values['app']} --admin unix:/PATH`; for an app in a module of that name, add its "
            f"attribute: {values['app']}:app"
        )
    settings = Settings(**values)
    _check(settings, sources)
    return settings


def _split(option: Option, text: str) -> list[str]:
    if not option.repeatable:
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def _check(settings: Settings, sources: Mapping[str, str]) -> None:
    """Raise OperatorError for settings that contradict each other or cannot work.

    `sources`: the flag or variable of each setting that is not a default.
    """
    if settings.interface == "asgi" and settings.threads > 1:
        raise OperatorError(
            f"{sources['threads']} is for WSGI apps, but {sources['interface']} is asgi; remove "
            "it (--concurrency limits ASGI requests)"
        )
    if settings.interface == "wsgi" and "concurrency" in sources:
        raise OperatorError(
            f"{sources['concurrency']} is for ASGI apps, but {sources['interface']} is wsgi; "
            "remove it (--threads limits WSGI requests)"
        )
    if "proxy_allow_from" in sources and not settings.proxy_protocol:
        raise OperatorError(
            f"{sources['proxy_allow_from']} has no effect without --proxy-protocol; add "
            "--proxy-protocol or remove it"
        )
    if "forwarded_fields" in sources and settings.forwarded_allow_from == NOBODY:
        raise OperatorError(
            f"{sources['forwarded_fields']} has no effect without --forwarded-allow-from; list "
            "the proxies there or remove it"
        )
    if settings.forwarded_allow_from != NOBODY and settings.lane_proxy != "v2":
        raise OperatorError(
            f"{sources['forwarded_allow_from']} needs --lane-proxy v2, but {sources['lane_proxy']} "
            f"is {settings.lane_proxy}, which cannot carry what proxies send; remove it"
        )
    if settings.runtime == "uvloop":
        from importlib.util import find_spec

        if find_spec("uvloop") is None:
            raise OperatorError(
                f"{sources['runtime']}: uvloop is not installed; pip install 'reactor-run[uvloop]'"
            )
