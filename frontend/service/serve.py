"""One front end, from the start of its process to its end: what it opens before it serves."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Final

from reactor_run.frontend.command.pools import apps_of
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import configure, log
from reactor_run.frontend.service.endpoints import open_endpoints
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.pid_file import PidFile
from reactor_run.frontend.service.server import Server
from reactor_run.frontend.service.upgrade import inherit
from reactor_run.frontend.sockets.rlimits import available_cpus, connections_for, raise_nofile_limit
from reactor_run.heap import keep_dropped_memory
from reactor_run.title import set_title

__all__ = ["serve"]

_FEW_CONNECTIONS: Final = 1000
"""Client connections below which too few open files cause a warning."""


def serve(settings: Settings, warnings: Sequence[str] = (), from_file: Collection[str] = ()) -> int:
    """Serve until a signal ends it; return the exit status. Raises OperatorError.

    `warnings`: lines for the log about what the operator has written. `from_file`: variables of our
    environment that come from the env file.
    """
    # Imported objects live as long as the process. Garbage collection need not look at them.
    gc.freeze()
    gc.enable()
    if settings.umask is not None:
        os.umask(settings.umask)
    apps = apps_of(settings)
    set_title(f"front end {' '.join(app.settings.app for app in apps)}")
    configure(settings.log_level, settings.log_format, settings.log_config)
    for warning in warnings:
        log.warning("%s", warning)
    # This works while the loop stalls, which is when an operator asks for a dump.
    faulthandler.register(signal.SIGUSR1)
    keep_dropped_memory()
    nofile = raise_nofile_limit()
    reactors = sum(app.settings.reactors or available_cpus() for app in apps)
    connections = _connection_limit(settings, nofile, reactors)
    notifier = Notifier(os.environ)
    with ExitStack() as closing:
        closing.callback(notifier.close)
        try:
            inheritance = inherit(os.environ)
            if inheritance is not None:
                endpoints = inheritance.endpoints
            else:
                endpoints = open_endpoints(settings, apps, os.environ)
            for listener in endpoints.public:
                closing.callback(listener.close)
            server = Server(settings, endpoints, connections, notifier, inheritance, from_file)
            closing.callback(server.close)
            if settings.pid_file:
                pid_file = PidFile(settings.pid_file)
                # Before `server.close`: commands that wait for the end find no file any more.
                closing.callback(pid_file.remove)
                if inheritance is None:
                    pid_file.write()
                else:
                    inheritance.on_accept.append(pid_file.take_over)
            return server.run()
        except OperatorError as error:
            notifier.status(str(error))
            raise


def _connection_limit(settings: Settings, nofile: int, reactors: int) -> int:
    """Return the most client connections; warn if they are too few."""
    wanted = settings.max_connections
    connections, line, lacks_files = connections_for(nofile, wanted, reactors)
    # Hardly any service gets as many as the default allows.
    asked_for = wanted != Settings.max_connections
    wrong = lacks_files and (asked_for or connections < _FEW_CONNECTIONS)
    log.log(logging.WARNING if wrong else logging.DEBUG, "%s", line)
    return connections
