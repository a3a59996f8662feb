"""Makes the command line of a reactor process, which `reactor/options.py` reads."""

from __future__ import annotations

from reactor_run.frontend.command.groups.server import HEADER
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.log import zone
from reactor_run.frontend.reactors.process import Command
from reactor_run.interpreter import interpreter_options

__all__ = ["CommandLine"]


class CommandLine:
    """Makes the command lines of the reactors of one service."""

    def __init__(self, settings: Settings, place: StartDirectory, mount_path: str = "") -> None:
        """`place`: the directory and the Python interpreter with which the front end started.
        `mount_path`: the prefix of the app's routes; empty: it is mounted nowhere."""
        self._settings = settings
        self._place = place
        self._mount_path = mount_path

    def make(
        self,
        control_fd: int,
        name: str,
        *,
        multiprocess: bool,
        terminal: bool = False,
        zygote: bool = False,
    ) -> Command:
        """Return the command line that starts reactor `name`.

        `control_fd`: the inherited descriptor of its control channel. `multiprocess`: other
        reactors run the same app (PEP 3333, wsgi.multiprocess). `terminal`: standard input is a
        terminal that the app may use. `zygote`: it is a zygote.
        """
        settings = self._settings
        # -P: the current directory belongs to the app. No module of this server is found there.
        python = [self._place.interpreter, *interpreter_options(), "-P"]
        command = [*python, "-m", "reactor_run.reactor", *(["--zygote"] if zygote else [])]
        options = {
            "--control-fd": control_fd,
            "--name": name,
            "--interface": settings.interface,
            "--runtime": settings.runtime,
            "--threads": settings.threads,
            "--concurrency": settings.concurrency,
            "--lifespan": settings.lifespan,
            "--app-dir": self._place.locate(settings.app_dir),
            "--root-path": settings.root_path,
            "--mount-path": self._mount_path,
            "--lane-proxy": settings.lane_proxy,
            "--answers": settings.answers,
            "--ws-max-message-size": settings.ws_max_message_size,
            "--ws-max": settings.ws_max,
            "--ws-ping-interval": settings.ws_ping_interval,
            "--ws-ping-timeout": settings.ws_ping_timeout,
            "--ws-close-timeout": settings.ws_close_timeout,
            "--ws-compression": settings.ws_compression,
            "--log-level": settings.log_level,
            "--log-format": settings.log_format,
            "--utc-offset": zone.offset,
        }
        command += [f"{flag}={value}" for flag, value in options.items()]
        command += [f"--header={HEADER.show(field)}" for field in settings.header]
        if settings.log_config:
            command.append(f"--log-config={self._place.locate(settings.log_config)}")
        if settings.hooks:
            command.append(f"--hooks={settings.hooks}")
        if settings.request_id:
            command.append("--request-id")
        if settings.no_server_header:
            command.append("--no-server-header")
        if settings.no_date_header:
            command.append("--no-date-header")
        if settings.factory:
            command.append("--factory")
        if settings.sched_yield == "off":
            command.append("--no-sched-yield")
        if terminal:
            command.append("--terminal")
        if multiprocess:
            command.append("--multiprocess")
        return Command([*command, "--", settings.app], dict(settings.env))
