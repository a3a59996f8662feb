"""Calls the hooks of a reactor's process (`--hooks`).

If `reactor_init`, `before_fork` or `after_fork` fails, the reactor does not start. Any other
failure is logged, and the reactor goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from reactor_run.hook_module import Hook, HookModuleError, load_hooks
from reactor_run.hooks import AppReactor
from reactor_run.logs import summary
from reactor_run.reactor import fork
from reactor_run.reactor.loader import enter_app_dir
from reactor_run.reactor.log import AppFailure, cut_traceback, limited, place_of

__all__ = ["ReactorHooks", "call_hook", "import_hooks", "log_failure", "open_hooks"]


def open_hooks(module: str, app_dir: str, name: str, app: str) -> ReactorHooks:
    """Import a hooks module, and call `reactor_init`. Raises AppFailure.

    `name`: that of this reactor. The other parameters are those of `import_hooks`.
    """
    reactor = import_hooks(module, app_dir, AppReactor(name, os.getpid(), app, "", ""))
    reactor.init()
    return reactor


def import_hooks(module: str, app_dir: str, reactor: AppReactor) -> ReactorHooks:
    """Import a hooks module. Raises AppFailure.

    `app_dir`: the directory of the app, which becomes the first entry of sys.path. `reactor`: what
    the hooks get.
    """
    directory = enter_app_dir(app_dir)
    try:
        hooks = load_hooks(module, directory)
    except HookModuleError as error:
        details = None if error.__cause__ is None else cut_traceback(error.__cause__)
        raise AppFailure(f"--hooks: {error}", details) from error.__cause__
    return ReactorHooks(hooks, reactor)


class ReactorHooks:
    """The hooks that the operator has defined."""

    def __init__(self, hooks: Mapping[str, Hook], reactor: AppReactor) -> None:
        self._hooks = hooks
        self._reactor = reactor

    def init(self) -> None:
        """Call `reactor_init`. Raises AppFailure if it fails."""
        self._must("reactor_init")

    def before_fork(self, name: str) -> None:
        """Call `before_fork` in the zygote. Raises AppFailure if it fails. `name`: of the reactor
        that is forked next."""
        self._reactor = self._reactor._replace(name=name)
        self._must("before_fork")

    def after_fork(self) -> None:
        """Call `after_fork` in a reactor that was just forked. Raises AppFailure if it fails."""
        self._reactor = self._reactor._replace(pid=os.getpid())
        self._must("after_fork")

    def _must(self, name: str) -> None:
        """Call a hook that must not fail. Raises AppFailure."""
        hook = self._hooks.get(name)
        if hook is None:
            return
        try:
            hook(self._reactor)
        except BaseException as error:
            if fork.is_child:
                fork.leave(error)
            raise AppFailure(
                f"the hook {name} failed: {summary(error)}", cut_traceback(error)
            ) from error
        if fork.is_child:
            fork.leave()

    def ready(self, interface: str, runtime: str) -> None:
        """Call `reactor_ready`: the app has started."""
        self._reactor = self._reactor._replace(interface=interface, runtime=runtime)
        self._call("reactor_ready")

    @property
    def of_requests(self) -> tuple[Hook | None, Hook | None]:
        """`request_started` and `request_ended`; None: it is not defined."""
        return self._hooks.get("request_started"), self._hooks.get("request_ended")

    def exit(self) -> None:
        """Call `reactor_exit`: the process ends in order."""
        self._call("reactor_exit")

    def _call(self, name: str) -> None:
        hook = self._hooks.get(name)
        if hook is not None:
            error = call_hook(hook, self._reactor)
            if error is not None:
                log_failure(f"the hook {name} failed", error)


def call_hook(hook: Hook, event: object) -> BaseException | None:
    """Call a hook. Return what it raises."""
    error: BaseException | None = None
    try:
        hook(event)
    except BaseException as raised:
        error = raised
    if fork.is_child:
        fork.leave(error)
    return error


def log_failure(what: str, error: BaseException) -> None:
    """Log that a hook has raised `error`, with its traceback."""
    limited.error("%s\n%s", what, cut_traceback(error), kind=place_of(error))
