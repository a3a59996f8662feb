"""Calls the hooks of the front end's process (`--hooks`).

A hook runs in the front end's loop: all clients wait meanwhile. A hook that raises is logged, and
the service goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import limited

if TYPE_CHECKING:
    from reactor_run.hook_module import Hook

__all__ = ["FrontEndHooks", "open_hooks"]

_SLOW: Final = 0.1
"""Seconds of a hook above which the log tells that clients have waited for it."""


def open_hooks(module: str, app_dir: str) -> FrontEndHooks:
    """Return the hooks of a module, which may be in `app_dir`. Raises OperatorError.

    `module`: empty: there are no hooks.
    """
    if not module:
        return FrontEndHooks({})
    # It is imported only if it is needed, since it takes a while.
    from reactor_run.hook_module import HookModuleError, load_hooks

    directory = os.path.realpath(app_dir)
    # As in a reactor, the module is looked for in this directory first.
    sys.path.insert(0, directory)
    try:
        return FrontEndHooks(load_hooks(module, directory))
    except HookModuleError as error:
        raise OperatorError(f"--hooks: {error}") from None
    finally:
        # What a hook imports later is found too. But no module of the app takes the place of one
        # that the front end imports later.
        sys.path.remove(directory)
        sys.path.append(directory)


class FrontEndHooks:
    """The hooks that the operator has defined."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = hooks

    def call(self, name: str, event: object) -> None:
        """Call a hook, if it is defined. Raises nothing that a hook should raise."""
        hook = self._hooks.get(name)
        if hook is None:
            return
        began = monotonic()
        try:
            hook(event)
        except (Exception, SystemExit):
            limited.error("the hook %s failed", name, kind=name, exc_info=True)
        took = monotonic() - began
        if took > _SLOW:
            limited.warning(
                "the hook %s took %.1f s; the front end did nothing else meanwhile",
                name,
                took,
                kind=name,
            )
