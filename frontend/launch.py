"""Where reactor-run was started, by name: what is started later finds what bears the name then.

The kernel keeps the directory that a process is in, and not what it is called. A deploy gives the
name to another directory: it swaps a symbolic link, or replaces the directory. As `pwd -L` and
gunicorn do, `$PWD` is believed if it leads to where this process is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from reactor_run.frontend.log import log

__all__ = ["StartDirectory", "explain"]


class StartDirectory:
    """The directory in which this front end was started."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path = _name(environ)
        """Absolute, unless the directory had no name even at the start: then `.`."""
        self.interpreter = self._interpreter()
        """The path of Python, as it was given: a virtual environment may be deployed with the app.
        """

    def locate(self, path: str) -> str:
        """A path that was given at the start, for a process that is started now."""
        return os.path.normpath(self.path) if path == "." else os.path.join(self.path, path)

    def enter(self) -> str | None:
        """The working directory for a process that is started now; None to inherit ours.

        That is so if nothing has the name any more. The log says so.
        """
        if os.path.isdir(self.path):
            return self.path
        log.error("%s, the directory in which reactor-run was started, is gone", self.path)
        return None

    def _interpreter(self) -> str:
        typed = sys.orig_argv[0] if sys.orig_argv else ""
        if os.sep in typed:
            named = os.path.join(self.path, typed)
            if _is_same(named, sys.executable):
                return named
        return sys.executable


def explain(error: OSError) -> str:
    """Why a process could not be started, in words."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _name(environ: Mapping[str, str]) -> str:
    told = environ.get("PWD", "")
    if os.path.isabs(told) and _is_same(told, os.curdir):
        return told
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.curdir


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
