"""Imports a hooks module (`--hooks`), and finds its functions by their names.

Both processes do this, and each calls its own hooks. What is wrong with the module is found here,
at the start, and not when a hook is called.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from reactor_run.logs import summary

__all__ = ["Hook", "HookModuleError", "load_hooks"]

Hook = Callable[[Any], object]
"""A function of the hooks module. What it returns is not used."""

FRONT_END_HOOKS: Final = (
    "on_start",
    "on_ready",
    "on_reload",
    "on_reactor_start",
    "on_reactor_exit",
    "on_stop",
)
REACTOR_HOOKS: Final = ("reactor_init", "reactor_ready", "reactor_exit")
FORK_HOOKS: Final = ("before_fork", "after_fork")
REQUEST_HOOKS: Final = ("request_started", "request_ended")
HOOKS: Final = (*FRONT_END_HOOKS, *REACTOR_HOOKS, *FORK_HOOKS, *REQUEST_HOOKS)

_BEGINNINGS: Final = ("on_", "reactor_", "request_")


class HookModuleError(Exception):
    """The hooks module cannot be used: one line for the operator.

    `__cause__` is the error that the code of the module raised, if it did.
    """


def load_hooks(name: str, directory: str) -> dict[str, Hook]:
    """Import the module `name`, and return its hooks by their names.

    `directory`: the first entry of sys.path, for messages. Raises HookModuleError.
    """
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise HookModuleError(
                f"there is no module {error.name!r} in {directory} nor elsewhere on sys.path: if "
                "it lies in another directory, name that with --app-dir"
            ) from None
        raise HookModuleError(
            f"importing {name} failed: {summary(error)}{_place(error)}"
        ) from error
    hooks: dict[str, Hook] = {}
    for attribute, value in vars(module).items():
        if attribute in HOOKS:
            hooks[attribute] = _checked(f"{name}.{attribute}", value)
        elif (
            attribute.startswith(_BEGINNINGS)
            and inspect.isfunction(value)
            and value.__module__ == name
        ):
            (nearest,) = get_close_matches(attribute, HOOKS, 1, cutoff=0)
            raise HookModuleError(
                f"{name}.{attribute} is no hook, the nearest is {nearest}: correct the name, or "
                f"begin it with an underscore, as in _{attribute}"
            )
    if not hooks:
        raise HookModuleError(f"{name} has no hook: define one of {', '.join(HOOKS)}")
    return hooks


def _place(error: BaseException) -> str:
    """Return where the code of the module has raised an error, as text to append."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and file not in (__file__, importlib.__file__):
            place = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _checked(name: str, value: object) -> Hook:
    """Return a hook that can be called as hooks are. Raises HookModuleError."""
    if not callable(value):
        raise HookModuleError(f"{name} is not a function: make it one, or rename it")
    if inspect.iscoroutinefunction(value):
        raise HookModuleError(f"{name} is async, and hooks are called without await: use `def`")
    try:
        inspect.signature(value).bind(None)
    except TypeError:
        raise HookModuleError(f"{name} must take one argument; see docs/hooks.md") from None
    except ValueError:
        pass  # Python does not know the signature of some functions in C.
    return value
