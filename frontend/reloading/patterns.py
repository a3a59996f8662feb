"""Which changed files cause a reload.

A pattern without a slash is compared with the name of the file, or, to exclude, also with the names
of the directories above it. A pattern with a slash is compared with the path below the watched
directory. `*` stands for any characters, also for slashes (fnmatch).

1. Files in hidden directories, caches and installed packages never count.
2. A file that a pattern excludes does not count.
3. A file that a pattern includes counts, also a hidden one, such as `.env`.
4. Otherwise Python files count.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Final

__all__ = ["Patterns"]

_IGNORED_DIRS: Final = (".*", "__pycache__", "node_modules", "site-packages")


class Patterns:
    """The patterns of `--reload-include` and `--reload-exclude`."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = include
        self._exclude = exclude

    def wants(self, path: str) -> bool:
        """Whether a change of a file counts. `path`: below the watched directory, with slashes."""
        *above, name = path.split("/")
        if any(fnmatch(part, ignored) for part in above for ignored in _IGNORED_DIRS):
            return False
        for pattern in self._exclude:
            pattern = pattern.rstrip("/")
            if fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*"):
                return False
            if "/" not in pattern and any(fnmatch(part, pattern) for part in (*above, name)):
                return False
        if any(fnmatch(path if "/" in pattern else name, pattern) for pattern in self._include):
            return True
        return name.endswith(".py") and not name.startswith(".")
