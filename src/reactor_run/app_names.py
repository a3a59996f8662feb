"""The name of an app object, by which another process can import it.

The reactors import the app themselves, so an object must be an attribute of a module that they can
import.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["AppName", "name_app"]


class AppName(NamedTuple):
    """target: `module:attribute`. app_dir: the directory to import it from; None: sys.path."""

    target: str
    app_dir: str | None


def name_app(app: str | Callable[..., Any]) -> AppName:
    """Return the name of an app object. A text is a name already.

    Raises ValueError, which says why, if the object cannot be imported by name.
    """
    if isinstance(app, str):
        return AppName(app, None)
    kind = type(app).__qualname__
    if not callable(app):
        raise ValueError(
            f"an object of type {kind} cannot be called: it is not an app; pass one, or "
            "'module:attribute'"
        )
    names = [
        (module, attribute)
        for module in [*sys.modules.values()]
        if isinstance(module, types.ModuleType)
        for attribute, value in [*vars(module).items()]
        if value is app and attribute.isidentifier()
    ]
    if not names:
        qualified = getattr(app, "__qualname__", "")
        if isinstance(qualified, str) and "<locals>" in qualified:
            outer = qualified.partition(".<locals>")[0]
            raise ValueError(
                f"{qualified} cannot be imported by name, because it is made inside {outer}: "
                "define it at the top level of a module"
            )
        raise ValueError(
            f"this object of type {kind} cannot be imported by name, because no module has it as "
            "an attribute: assign it at the top level of a module, or pass 'module:attribute'"
        )
    # The module that defines a function says so. A test module mostly imports the app from another
    # module, and then it stands in sys.modules before that.
    defined_in = getattr(app, "__module__", None)
    module, attribute = max(
        enumerate(names),
        key=lambda each: (
            each[1][0].__name__ == defined_in,
            not _is_test(each[1][0]),
            each[1][0].__name__ != "__main__",
            each[0],
        ),
    )[1]
    name, app_dir = _importable(module)
    return AppName(f"{name}:{attribute}", app_dir)


def _is_test(module: types.ModuleType) -> bool:
    last = module.__name__.rpartition(".")[2]
    return last.startswith("test_") or last.endswith("_test") or last == "conftest"


def _importable(module: types.ModuleType) -> tuple[str, str | None]:
    """Return the name by which another process can import a module, and the directory to import it
    from. Raises ValueError if there is none."""
    name = module.__name__
    file = getattr(module, "__file__", None)
    if name == "__main__":
        if file is None:
            raise ValueError(
                "the app is in __main__, which is no file: put it into a module, and pass "
                "'module:attribute'"
            )
        # `python -m shop.web` knows the name, `python web.py` does not.
        spec = getattr(module, "__spec__", None)
        name = spec.name if spec is not None else Path(file).stem
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"the app is in {file or name}, which cannot be imported: {name} is no name of a module"
        )
    if file is None:
        return name, None
    path = Path(os.path.realpath(file))
    path = (
        path.parent
        if path.name.startswith("__init__.")
        else path.parent / path.name.partition(".")[0]
    )
    parts = tuple(name.split("."))
    if path.parts[-len(parts) :] != parts:
        return name, None
    return name, str(path.parents[len(parts) - 1])
