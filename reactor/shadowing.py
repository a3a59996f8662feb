"""Imports modules of the server after the app, as if the app's directory were not on sys.path.

An app may have a module with the name of one that the server needs, such as `queue` or `outcome`.
Both must get their own.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["hide_app"]

_NEEDED: Final = sys.stdlib_module_names | {
    *("anyio", "attr", "attrs", "exceptiongroup", "idna", "outcome", "sniffio", "sortedcontainers"),
    *("trio", "typing_extensions", "uvloop"),
}
"""Names of the modules that a runtime may import."""


@contextmanager
def hide_app(directory: str) -> Iterator[None]:
    """Import from elsewhere what is in `directory`, the app's entry of sys.path.

    Modules of the app that have the name of one that a runtime needs are taken out of sys.modules
    meanwhile. All other modules stay, because threads of the app may import them.
    """
    path = [*sys.path]
    hidden = {
        name: module
        for name, module in [*sys.modules.items()]
        if name.partition(".")[0] in _NEEDED and _is_from(module, name, directory)
    }
    for name in hidden:
        del sys.modules[name]
    sys.path[:] = [entry for entry in path if os.path.realpath(entry) != directory]
    try:
        yield
    finally:
        # What was imported meanwhile keeps its references to the modules that the app's replace.
        sys.modules.update(hidden)
        sys.path[:] = path


def _is_from(module: types.ModuleType, name: str, directory: str) -> bool:
    """Return whether the top-level module of `module` is directly in `directory`."""
    top = sys.modules.get(name.partition(".")[0], module)
    file: str | None = getattr(top, "__file__", None)
    if not file:
        return False
    place = os.path.dirname(os.path.realpath(file))
    if os.path.basename(file).startswith("__init__."):
        place = os.path.dirname(place)
    return place == directory
