"""Variables in a file: `--env-file`. python-dotenv reads it (extra `dotenv`).

They are for the app, which finds them in its environment, and for settings. A variable that is in
the real environment already wins.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from reactor_run.frontend.command.files import read_text
from reactor_run.frontend.errors import OperatorError
from reactor_run.toml_text import place

__all__ = ["read_env_file"]


def read_env_file(path: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a file that `environ` lacks.

    A name without `=` sets nothing. Raises OperatorError, which names the file, and the place of a
    line that is no assignment.
    """
    text = read_text(path)
    try:
        from dotenv.main import DotEnv
        from dotenv.parser import parse_stream
    except ImportError:
        raise OperatorError(
            "python-dotenv is not installed; pip install 'reactor-run[dotenv]'"
        ) from None
    # DotEnv itself only logs a warning for such a line.
    position = 0
    for binding in parse_stream(io.StringIO(text)):
        part = binding.original.string
        if binding.error:
            where = place(text, position + len(part) - len(part.lstrip()))
            raise OperatorError(f"{path}, {where}: expected NAME=VALUE")
        position += len(part)
    values = DotEnv(None, io.StringIO(text), override=False).dict()
    variables = {
        name: value for name, value in values.items() if value is not None and name not in environ
    }
    for name, value in variables.items():
        if "\0" in name + value:
            raise OperatorError(f"{path}: {name!r} has a NUL in it")
    return variables
