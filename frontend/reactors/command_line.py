"""The command line of a reactor process, as `reactor/options.py` reads it."""

from __future__ import annotations

import sys

from reactor_run.frontend.command.settings import Settings

__all__ = ["CommandLine"]


class CommandLine:
    """Makes the command lines of the reactors of one service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def make(self, control_fd: int, name: str, *, multiprocess: bool) -> list[str]:
        """Return the words that start reactor `name`.

        `control_fd`: the inherited descriptor of its control channel. `multiprocess`: other
        reactors run the same app (PEP 3333, wsgi.multiprocess).
        """
        settings = self._settings
        # -P: the current directory belongs to the app, and nothing of this server lies there.
        command = [sys.executable, "-P", "-m", "reactor_run.reactor"]
        options = {
            "--control-fd": control_fd,
            "--name": name,
            "--interface": settings.interface,
            "--runtime": settings.runtime,
            "--threads": settings.threads,
            "--concurrency": settings.concurrency,
            "--lifespan": settings.lifespan,
            "--app-dir": settings.app_dir,
            "--root-path": settings.root_path,
            "--lane-proxy": settings.lane_proxy,
            "--log-level": settings.log_level,
        }
        command += [f"{flag}={value}" for flag, value in options.items()]
        if settings.factory:
            command.append("--factory")
        if multiprocess:
            command.append("--multiprocess")
        return [*command, "--", settings.app]
