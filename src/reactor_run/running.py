"""`reactor_run.run`: the server in this process, as a call."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from reactor_run.app_names import name_app
from reactor_run.frontend.cli import serve_written
from reactor_run.frontend.command.keywords import Value, sort_keywords

__all__ = ["run"]


def run(app: str | Callable[..., Any], **settings: Value) -> None:
    """Serve an app until a signal ends the service; see `reactor_run.run`."""
    if getattr(sys.modules["__main__"].__spec__, "name", "") == "reactor_run.reactor.__main__":
        raise RuntimeError(
            "run() was called while a reactor imports the app: put the call under "
            "`if __name__ == '__main__':`"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() needs the main thread, because it handles signals")
    target, app_dir = name_app(app)
    if app_dir is not None:
        settings.setdefault("app_dir", app_dir)
    serve_written(sort_keywords(target, settings), os.environ)
