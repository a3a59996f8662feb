"""reactor-run serves ASGI and WSGI apps: a front end hands requests to reactor processes.

It has three packages: `reactor_run.protocol` (the meaning of bytes), `reactor_run.frontend` (the
process that owns the sockets) and `reactor_run.reactor` (the process that runs the app). The
modules beside this one belong to both processes, or to programs that start a server: `run` here,
and `reactor_run.testing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactor_run.frontend.command.keywords import Value

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def run(app: str | Callable[..., Any], **settings: Value) -> None:
    """Serve an app in this process until a signal ends the service, as `reactor-run` does.

    `app`: `module:attribute`, or an app object that is an attribute of a module. The reactors
    import the module, so the call must be under `if __name__ == "__main__":` if it is there.
    `settings`: as in docs/settings.md, by name: `bind=":8000"`, `reactors=2`, `factory=True`. They
    win over the environment and the configuration file, as flags do.

    Raises ValueError if the object cannot be imported by name, TypeError for a name that is no
    setting, and `reactor_run.frontend.errors.OperatorError` for a wrong value or an app that does
    not start. Raises RuntimeError outside of the main thread.
    """
    # The reactors import this package too. They need none of this.
    from reactor_run.running import run as run_here

    run_here(app, **settings)
