"""What an operator has set and what has no effect, or more effect than it may seem: warnings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.launch import PARENT_VARIABLE, UPGRADE_VARIABLE
from reactor_run.native import PURE_VARIABLE

__all__ = ["find_stray"]

_PREFIX: Final = "REACTOR_RUN_"
_FOREIGN: Final = ("UVICORN_", "GRANIAN_", "UWSGI_", "GUNICORN_CMD_ARGS")
_KNOWN: Final = {
    *(option.variable for option in OPTIONS),
    PARENT_VARIABLE,
    PURE_VARIABLE,
    UPGRADE_VARIABLE,
}
_GUNICORN_FILE: Final = "gunicorn.conf.py"


def find_stray(environ: Mapping[str, str], sources: Mapping[str, str]) -> Iterator[str]:
    """Yield one line for each thing that the operator should know.

    `sources`: where each setting was written, by its name.
    """
    for name in sorted(environ):
        if name.startswith(_PREFIX):
            if name not in _KNOWN:
                from reactor_run.frontend.command.nearest import nearest_option

                nearest = nearest_option(name.removeprefix(_PREFIX)).variable
                yield f"{name} is no setting and has no effect; the nearest is {nearest}"
        elif name.startswith(_FOREIGN):
            from reactor_run.frontend.command.foreign import answer_variable

            yield answer_variable(name, environ[name])
    if os.path.exists(_GUNICORN_FILE):
        yield (
            f"{_GUNICORN_FILE} is not read here; write its settings into [tool.reactor-run] of "
            "pyproject.toml, see docs/migrating.md"
        )
    source = sources.get("forwarded_allow_from", "")
    if source.startswith("FORWARDED_ALLOW_IPS") and "*" in environ["FORWARDED_ALLOW_IPS"]:
        yield (
            "FORWARDED_ALLOW_IPS=* trusts every client, so each can forge its address and scheme; "
            "list the proxies in REACTOR_RUN_FORWARDED_ALLOW_FROM, or let only the proxy connect"
        )
