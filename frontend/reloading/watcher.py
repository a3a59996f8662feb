"""The process that watches files for `--reload`.

The front end starts it as `python -m reactor_run.frontend.reloading.watcher`. It is a process of
its own, because the front end has one thread and a loop that must not wait, and because watchfiles
loads anyio. The argument is a JSON object: `dirs`, `include`, `exclude`. On standard output it
writes one JSON object a line:

    {"watching": [directories]}    from now on, no change is missed
    {"changed": [files]}           these files have changed, or these directories were replaced
    {"failed": text}               it cannot watch, and exits

It ends when its standard input does: then the front end has ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable
from importlib.util import cache_from_source
from typing import Final

from reactor_run.frontend.reloading.patterns import Patterns

__all__ = ["main"]

_STEP: Final = 20
"""Milliseconds without a further change after which changes are reported."""
_DEBOUNCE: Final = 400
"""Milliseconds after which they are reported even if changes go on."""
_TURN: Final = 1000
"""Milliseconds after which a call of watchfiles without a change returns."""
_POLL: Final = 300
"""Milliseconds between two looks, if the environment asks for polling."""


def main(argument: str) -> int:
    """Watch until standard input ends. Returns the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads(argument)
    patterns = Patterns(task["include"], task["exclude"])
    # Docker Desktop and network file systems report no events; watchfiles has this variable too.
    polling = os.environ.get("WATCHFILES_FORCE_POLLING", "").lower() in ("1", "true", "enable")
    from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

    try:
        while True:
            # watchfiles sees nothing of a directory that is gone, or in the place of another one.
            watched = _identities(task["dirs"])
            dirs = _outermost(map(os.path.realpath, task["dirs"]))
            watcher = RustNotify(dirs, False, polling, _POLL, True, True)
            _say(watching=dirs)
            while _identities(task["dirs"]) == watched:
                changes = watcher.watch(_DEBOUNCE, _STEP, _TURN, None)
                if isinstance(changes, set):
                    _report({path for _, path in changes if _is_wanted(path, dirs, patterns)})
            watcher.close()
            _say(changed=dirs)
    except (OSError, WatchfilesRustInternalError) as error:
        # A directory that is gone, or a limit of inotify.
        _say(failed=str(error))
        return 1


def _identities(dirs: Iterable[str]) -> list[tuple[int, int]]:
    """Return what tells these directories from others of the same names. Raises OSError."""
    return [(found.st_dev, found.st_ino) for found in map(os.stat, dirs)]


def _report(changed: set[str]) -> None:
    if changed:
        for path in changed:
            _forget_bytecode(path)
        _say(changed=sorted(changed))


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _outermost(dirs: Iterable[str]) -> list[str]:
    """Return the directories that are not in another one of them."""
    found: list[str] = []
    for path in sorted(dirs):
        if not any(path == outer or path.startswith(outer.rstrip("/") + "/") for outer in found):
            found.append(path)
    return found


def _is_wanted(path: str, dirs: Iterable[str], patterns: Patterns) -> bool:
    return any(
        path.startswith(prefix) and patterns.wants(path[len(prefix) :])
        for prefix in (each.rstrip("/") + "/" for each in dirs)
    )


def _forget_bytecode(path: str) -> None:
    """Remove the compiled file of a source that has changed.

    Python takes bytecode for current if the source still has the same size and the same time of
    modification, in whole seconds. So after a change of `1` to `2` within a second, it would run
    the old bytecode.
    """
    if path.endswith(".py"):
        try:
            os.unlink(cache_from_source(path))
        except OSError:
            # There is none, or the directory is read-only.
            pass


def _say(**message: object) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
