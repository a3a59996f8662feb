"""The directory in which reactor-run was started, by name, for the processes it starts later.

The kernel keeps the directory of a process, not its name. A deploy gives the name to another
directory: it swaps a symbolic link, or replaces the directory. A process that is started later uses
the directory that has the name at that time. As in `pwd -L` and gunicorn, `$PWD` is used if it
leads to the working directory of this process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from reactor_run.frontend.log import log

__all__ = ["PARENT_VARIABLE", "UPGRADE_VARIABLE", "StartDirectory", "explain"]

UPGRADE_VARIABLE: Final = "REACTOR_RUN_UPGRADE"
"""The environment variable by which a front end passes its listeners on. It is no setting."""
PARENT_VARIABLE: Final = "REACTOR_RUN_PARENT"
"""The environment variable that holds the number of the parent's process, if the front end is to
end with it. It is no setting."""


class StartDirectory:
    """The directory in which this front end was started, and its Python."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path = _name(environ)
        """An absolute path, or `.` if the directory had no name even at the start."""
        self.interpreter = self._interpreter()
        """The path of Python as it was given: a virtual environment may be deployed with the
        app."""

    def locate(self, path: str) -> str:
        """Return the path, for a process that is started now, of a path that was given at the
        start."""
        return os.path.normpath(self.path) if path == "." else os.path.join(self.path, path)

    def shorten(self, path: str) -> str:
        """Return an absolute path as seen from here, for the log; also if the directory is gone."""
        if not os.path.isabs(self.path):
            return path
        return os.path.relpath(path, os.path.realpath(self.path))

    def enter(self) -> str | None:
        """Return the working directory for a process that is started now; None to inherit ours.

        None is returned, and an error is logged, if no directory has the name any more.
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
    """Return why a process could not be started, as text for the log."""
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
