"""`reactor-run check`: starts the app in one reactor and stops it, without a listener.

So the app is imported and started exactly as `reactor-run` does it, with the same settings.
"""

from __future__ import annotations

import os
import sys

from reactor_run.frontend.command.groups.logs import LogLevel
from reactor_run.frontend.command.pools import apps_of
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.log import configure
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.heartbeat import Heartbeat
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.frontend.reactors.supervisor import Supervisor
from reactor_run.frontend.service.hooks import open_hooks
from reactor_run.frontend.service.notify import Notifier

__all__ = ["Check", "check"]

WOULD_NOT_SERVE = 1
"""The exit status for an app that does not start."""


def check(settings: Settings) -> int:
    """Report on standard output whether each app would serve; return the exit status.

    0: all would. 1: one would not, and standard error says why. Raises OperatorError if the kernel
    refuses to start a reactor, and for a hooks module or certificates that cannot be used.
    """
    # The report replaces what the log says at its usual level.
    quiet: LogLevel = settings.log_level if settings.log_level != "info" else "warning"
    configure(quiet, settings.log_format, settings.log_config)
    # The app must not notify the service manager.
    Notifier(os.environ).close()
    # The service would import it too.
    open_hooks(settings.hooks, settings.app_dir)
    if settings.certfile:
        from reactor_run.frontend.tls.credentials import load_credentials, tls_options

        load_credentials(tls_options(settings))
    statuses = [_check_app(app.settings, quiet) for app in apps_of(settings)]
    return max(statuses)


def _check_app(settings: Settings, level: LogLevel) -> int:
    result = Check(settings.replace(reactors=1, log_level=level))
    result.run()
    if result.failure is None:
        print(f"{settings.app} would serve: {result.report}")
        return 0
    error, details = result.failure
    if details:
        print(details.rstrip(), file=sys.stderr)
    print(f"reactor-run: {settings.app} would not serve: {error}", file=sys.stderr)
    return WOULD_NOT_SERVE


class Check:
    """The start and the stop of one reactor. The supervisor reports to it as to a service."""

    def __init__(self, settings: Settings) -> None:
        self.failure: tuple[OperatorError, str | None] | None = None
        """Why the app did not start, and its traceback if there is one."""
        self.report = ""
        """The interface, the runtime and the times of an app that started."""
        self._grace = settings.graceful_timeout
        self._loop = Loop(busy_poll=False)
        dispatcher = Dispatcher(self._loop, 0, ())
        self._supervisor = Supervisor(
            self._loop,
            dispatcher,
            Counters(),
            Heartbeat(self._loop, dispatcher, 0),
            settings,
            StartDirectory(os.environ),
            self,
        )
        self._began = self._ready = 0.0

    def run(self) -> None:
        """Start and stop the app. Raises OperatorError if the kernel refuses."""
        self._began = self._loop.now
        try:
            self._supervisor.start()
            self._loop.run()
        finally:
            self._supervisor.bury()

    # Calls by the supervisor ---------------------------------------------------------------------

    def serves(self, interface: str) -> None:
        """Stop the app: it has started."""
        (reactor,) = self._supervisor.reactors
        self._ready = self._loop.now
        runtime = f" on {reactor.runtime}" if reactor.runtime else ""
        reason = f", because {reactor.runtime_reason}" if reactor.runtime_reason else ""
        self.report = f"{interface}{runtime}{reason}; started in {self._ready - self._began:.2f} s"
        self._supervisor.stop(self._grace)

    def reactor_ended(self) -> None:
        """End: the app has stopped."""
        self.report += f", stopped in {self._loop.now - self._ready:.2f} s"
        self._loop.stop()

    def fail(self, error: OperatorError, details: str | None) -> None:
        """End: the app did not start."""
        self.failure = (error, details)
        self._loop.stop()

    def reactor_started(self, reactor: Reactor) -> None:
        """Do nothing: the report tells of it."""

    def reactor_exited(self, reactor: Reactor, status: int) -> None:
        """Do nothing: `reactor_ended` or `fail` follows."""

    def reload_begins(self) -> None:
        """Do nothing: nothing is reloaded."""

    def reload_ended(self) -> None:
        """Do nothing: nothing is reloaded."""
