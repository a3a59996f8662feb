"""The front-end process: its composition, its start, its signals, its end."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Final

from reactor_run import __version__, turns
from reactor_run.frontend.access_log.access_log import open_access_log
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.entry import Entry
from reactor_run.frontend.clients.forwarding import Forwarding
from reactor_run.frontend.command.routing import route_table
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.replay import METHODS
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.log import configure, log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.loop.signals import Signals, Terminal, has_terminal
from reactor_run.frontend.metrics.requests import RequestMetrics
from reactor_run.frontend.reactors.cpu_count import CPUCount
from reactor_run.frontend.reactors.generation import Told, ignore_outcome
from reactor_run.frontend.reactors.heartbeat import Heartbeat
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.frontend.reactors.recycling import Recycling
from reactor_run.frontend.reactors.supervisor import Supervisor
from reactor_run.frontend.service.admin import Admin, Purpose
from reactor_run.frontend.service.endpoints import Endpoints, open_endpoints
from reactor_run.frontend.service.hooks import open_hooks
from reactor_run.frontend.service.lifecycle import Lifecycle
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.orphan_reaper import Reaper
from reactor_run.frontend.service.parent import Parent
from reactor_run.frontend.service.pid_file import PidFile
from reactor_run.frontend.service.scrape import Scrape
from reactor_run.frontend.service.shutdown import Shutdown
from reactor_run.frontend.service.status import Status
from reactor_run.frontend.service.upgrade import Inheritance, Upgrade, inherit
from reactor_run.frontend.sockets.listeners import Speech
from reactor_run.frontend.sockets.rlimits import available_cpus, connections_for, raise_nofile_limit
from reactor_run.heap import keep_dropped_memory
from reactor_run.hooks import ReactorExited, ReactorStarted, ReloadStarted, Service
from reactor_run.title import set_title

if TYPE_CHECKING:
    from reactor_run.frontend.clients.redirect import RedirectContext
    from reactor_run.frontend.clients.reload_gate import ReloadGate
    from reactor_run.frontend.clients.tls_handshake import TlsService
    from reactor_run.frontend.reloading.file_watch import FileWatch
    from reactor_run.frontend.tls.credentials import Credentials
    from reactor_run.frontend.tls.renewal import Renewal

__all__ = ["Server", "serve"]

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
    set_title(f"front end {settings.app}")
    configure(settings.log_level, settings.log_format, settings.log_config)
    for warning in warnings:
        log.warning("%s", warning)
    # This works while the loop stalls, which is when an operator asks for a dump.
    faulthandler.register(signal.SIGUSR1)
    keep_dropped_memory()
    nofile = raise_nofile_limit()
    reactors = settings.reactors or available_cpus()
    connections = _connection_limit(settings, nofile, reactors)
    notifier = Notifier(os.environ)
    with ExitStack() as closing:
        closing.callback(notifier.close)
        try:
            inheritance = inherit(os.environ)
            if inheritance is not None:
                endpoints = inheritance.endpoints
            else:
                endpoints = open_endpoints(settings, os.environ)
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
    asked_for = wanted != Settings._field_defaults["max_connections"]
    wrong = lacks_files and (asked_for or connections < _FEW_CONNECTIONS)
    log.log(logging.WARNING if wrong else logging.DEBUG, "%s", line)
    return connections


class Server:
    """The parts of one front end, put together. It passes signals and the supervisor's calls on to
    them."""

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        connections_max: int,
        notifier: Notifier,
        inheritance: Inheritance | None = None,
        from_file: Collection[str] = (),
    ) -> None:
        """`connections_max`: most client connections at once. `inheritance`: what the front end
        before this one left. That front end stops once this one accepts. `from_file`: variables of
        our environment that come from the env file."""
        if settings.sched_yield == "off":
            turns.switch_off()
        self.loop = Loop(busy_poll=settings.busy_poll == "on")
        self.lifecycle = Lifecycle()
        self._app = settings.app
        self._endpoints = endpoints
        self._notifier = notifier
        self._inheritance = inheritance
        self._closing = ExitStack()
        """Closes what routes have open."""
        self._serves = False
        """A reactor has been ready."""
        self._failure: tuple[OperatorError, str | None] | None = None

        counters = Counters()
        self.dispatcher = Dispatcher(
            self.loop,
            settings.queue_size,
            METHODS[settings.replay],
            set_aside=settings.set_aside == "on",
        )
        self.clients = ClientContext(self.loop, self.dispatcher, counters, settings)
        self.entry = Entry(self.clients)
        self.access_log = open_access_log(
            self.loop, settings.access_log, settings.access_log_format
        )
        if self.access_log is not None:
            self.clients.observe(self.access_log)
        self._certificates = self._read_certificates(settings, endpoints)
        self.acceptor = Acceptor(
            self.clients,
            endpoints.public,
            connections_max=connections_max,
            per_address=settings.max_connections_per_address,
            proxies=settings.proxy_allow_from if settings.proxy_protocol else None,
            forwarding=Forwarding(
                settings.forwarded_allow_from,
                x_forwarded=settings.forwarded_fields == "x-forwarded",
            ),
            on_left=self._client_left,
            tls=self._tls,
            redirects=self._redirects(endpoints),
        )
        self.heartbeat = Heartbeat(self.loop, self.dispatcher, settings.timeout)
        place = StartDirectory(os.environ)
        self._hooks = open_hooks(settings.hooks, place.locate(settings.app_dir))
        self.supervisor = Supervisor(
            self.loop, self.dispatcher, counters, self.heartbeat, settings, place, self
        )
        self._recycling = Recycling(self.loop, self.supervisor, settings)
        self._cpus = CPUCount(self.loop, self.supervisor.scale) if not settings.reactors else None

        requests = RequestMetrics(self.loop)
        if settings.admin or settings.metrics:
            self.clients.observe(requests)
        self.status = Status(
            self.loop,
            settings,
            endpoints.clients,
            self.acceptor,
            self.entry,
            self.dispatcher,
            self.supervisor,
            counters,
            self.lifecycle,
            self.access_log,
            requests,
            self._certificates,
        )
        self.scrape = Scrape(
            self.loop,
            settings,
            self.status,
            requests,
            self.acceptor,
            self.dispatcher,
            self.supervisor,
            counters,
            self.access_log,
            self._certificates,
        )
        self.admins = [
            Admin(
                self.loop,
                listeners,
                self.status,
                self.scrape,
                reload=self.reload,
                reopen_logs=self.reopen_logs,
                maintain=self.maintain,
                stop=self.stop,
                own_fields=self.clients.own_fields,
                purpose=purpose,
            )
            for listeners, purpose in (
                (endpoints.admin, Purpose.ADMIN),
                (endpoints.health, Purpose.HEALTH),
                (endpoints.metrics, Purpose.METRICS),
            )
        ]
        self.upgrade = Upgrade(
            self.loop,
            endpoints,
            place,
            maintenance=lambda: self.entry.maintenance,
            missing=notifier.environment,
            from_file=from_file,
        )
        self.shutdown = Shutdown(
            self.loop,
            settings,
            lifecycle=self.lifecycle,
            clients=self.clients,
            acceptor=self.acceptor,
            dispatcher=self.dispatcher,
            supervisor=self.supervisor,
            upgrade=self.upgrade,
            notifier=notifier,
            admins=self.admins,
        )
        self._open_routes(settings, place)
        if inheritance is not None and inheritance.maintenance is not None:
            self.maintain(inheritance.maintenance)
        self._gate: ReloadGate | None = None
        self._files: FileWatch | None = None
        if settings.reload:
            from reactor_run.frontend.clients.reload_gate import ReloadGate
            from reactor_run.frontend.reloading.file_watch import FileWatch

            self._gate = ReloadGate(
                self.clients, self.entry, settings.app, behind_proxy=settings.proxy_protocol
            )
            self._files = FileWatch(
                self.loop,
                place,
                [settings.app_dir, *settings.reload_dir],
                settings.reload_include,
                settings.reload_exclude,
                self._files_changed,
            )
        self._terminal = Terminal(self.loop)
        self._parent = Parent(self.loop, os.environ, self._parent_ended)
        self._reaper = Reaper(self.loop, self._children, lambda: self.supervisor.forking)

    def _read_certificates(self, settings: Settings, endpoints: Endpoints) -> Renewal | None:
        """Read the certificates; return None if there are none. Raises OperatorError."""
        self._tls: TlsService | None = None
        if settings.tls_dev:
            from reactor_run.frontend.tls.development import make_certificate

            settings = settings._replace(certfile=(make_certificate(),))
        if not settings.certfile:
            return None
        from reactor_run.frontend.clients.tls_handshake import TlsService
        from reactor_run.frontend.tls.credentials import tls_options
        from reactor_run.frontend.tls.renewal import Renewal

        for listener in endpoints.clients:
            listener.speak_tls()
        certificates = Renewal(self.loop, tls_options(settings), self._apply_certificates)
        self._tls = TlsService(self.clients, certificates.credentials, settings.handshake_timeout)
        return certificates

    def _apply_certificates(self, credentials: Credentials) -> None:
        """Use new certificates for handshakes that begin from now on."""
        if self._tls is not None:
            self._tls.credentials = credentials

    def _redirects(self, endpoints: Endpoints) -> RedirectContext | None:
        """Return the context of the connections that are redirected; None: there are none."""
        for listener in endpoints.redirect:
            listener.speech = Speech.REDIRECT
        if all(each.speech is not Speech.REDIRECT for each in endpoints.public):
            return None
        from reactor_run.frontend.clients.redirect import RedirectContext

        ports = [
            each.socket.getsockname()[1] for each in endpoints.clients if each.speech is Speech.TLS
        ]
        return RedirectContext(self.clients, ports[0] if ports else 443)

    def _open_routes(self, settings: Settings, place: StartDirectory) -> None:
        """Lead requests by the routes, if there are any. Raises OperatorError."""
        table = route_table(settings)
        if table is None:
            return
        # Most services have no routes.
        from reactor_run.frontend.service.routing import open_router

        self.entry.route(open_router(self.clients, table, place, self._closing))

    # From start to end ---------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; return the exit status. Raises OperatorError."""
        with Signals(self.loop, self._on_signal), self._terminal, self._parent:
            count = (
                "1 reactor" if self.supervisor.wanted == 1 else f"{self.supervisor.wanted} reactors"
            )
            log.info("reactor-run %s runs %s in %s", __version__, self._app, count)
            for listener in self._endpoints.public:
                origin = f" ({listener.origin})" if listener.origin else ""
                log.info("listening on %s%s", listener.name, origin)
            self._hooks.call("on_start", self._about())
            try:
                self.supervisor.start()
                if self._files is not None:
                    self._files.begin()
                # Until this one can serve, the front end before it answers on these listeners.
                if self._inheritance is None:
                    self._begin_admin()
                self._notifier.attach(self.loop, self.status.line)
                self._recycling.begin()
                if self._certificates is not None:
                    self._certificates.begin()
                self.heartbeat.begin(self.supervisor.at_work)
                if self._cpus is not None:
                    self._cpus.begin()
                self.loop.run()
            finally:
                self.supervisor.bury()
                if self._files is not None:
                    self._files.end()
                self._hooks.call("on_stop", self._about())
        if self._failure is not None:
            error, details = self._failure
            if details:
                print(details.rstrip(), file=sys.stderr)
            raise error
        return 0

    def close(self) -> None:
        """Close the listeners and connections of the operator.

        The commands that wait for the end of the service see it only now.
        """
        for admin in self.admins:
            admin.close()
        self._closing.close()
        if self.access_log is not None:
            # If the service was stopped at once, requests are left.
            self.acceptor.lose_all("the service was stopped")
            self.clients.hand_over()
            self.access_log.close()

    def _about(self) -> Service:
        """Return what hooks are told of the service."""
        return Service(
            self._app,
            os.getpid(),
            tuple(listener.name for listener in self._endpoints.clients),
            self.supervisor.wanted,
            inherited=self._inheritance is not None,
            handed_over=self.lifecycle.handed_over,
        )

    def _begin_admin(self) -> None:
        for admin in self.admins:
            admin.begin()

    def _client_left(self) -> None:
        if self.clients.draining:
            self.shutdown.end_when_over()

    # Calls by the supervisor ---------------------------------------------------------------------

    def serves(self, interface: str) -> None:
        """Accept clients, because a reactor is ready."""
        self.clients.serves(interface)
        if self.clients.draining:
            return
        self.acceptor.begin()
        if not self._serves:
            self._serves = True
            hint = "; press Ctrl-C to stop" if sys.stderr.isatty() else ""
            log.info("ready, accepting connections%s", hint)
            self._notifier.ready()
            if self._inheritance is not None:
                self._begin_admin()
                self._inheritance.accept_begins()
            self._hooks.call("on_ready", self._about())

    def reactor_started(self, reactor: Reactor) -> None:
        """Tell the hooks that the process of a reactor was started."""
        started = ReactorStarted(reactor.name, reactor.pid, reactor.generation)
        self._hooks.call("on_reactor_start", started)

    def reactor_exited(self, reactor: Reactor, status: int) -> None:
        """Tell the hooks that the process of a reactor has ended."""
        lived = monotonic() - reactor.started
        exited = ReactorExited(reactor.name, reactor.pid, reactor.generation, status, lived)
        self._hooks.call("on_reactor_exit", exited)

    def reload_begins(self) -> None:
        """Tell the service manager and the hooks that a reload begins."""
        self._notifier.reloading()
        self._hooks.call("on_reload", ReloadStarted(self.supervisor.generation + 1))

    def reload_ended(self) -> None:
        """Tell the service manager that the reload has ended."""
        self._notifier.ready()
        if self._gate is not None:
            if self.supervisor.reload_failure is None:
                self._gate.opens()
            else:
                self._gate.failed(self.supervisor.reload_failure, self.supervisor.reload_details)

    def reactor_ended(self) -> None:
        """End the service if this was the last reactor of a stop."""
        self.shutdown.end_when_over()

    def fail(self, error: OperatorError, details: str | None) -> None:
        """End the service, because the app never started. With `--reload`, wait for a change."""
        if self._gate is not None and self._inheritance is None:
            log.error("%s; waiting for a change%s", error, f"\n{details}" if details else "")
            self._gate.failed(str(error), details)
            # Until an app has started, bodies are collected, as any app can take them.
            self.clients.serves("wsgi")
            self.acceptor.begin()
            return
        if self._failure is None:
            self._failure = (error, details)
        self.supervisor.kill()
        self.loop.stop()

    def _parent_ended(self) -> None:
        """End the service at once: nothing that it would finish is awaited any more."""
        self.shutdown.begin(signal.SIGQUIT, "the process that started this service has ended")

    def _files_changed(self, names: list[str]) -> None:
        """Start a new generation with the changed files (`--reload`)."""
        if self._gate is not None and not self.lifecycle.stopping:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            log.info("%s%s changed", names[0], more)
            self._gate.starts()
            self.supervisor.reload(anew=True)

    # Commands of the operator --------------------------------------------------------------------

    def reload(self, then: Told = ignore_outcome) -> None:
        """Start a new generation beside the one that serves. `then` is called with the outcome."""
        self.reopen_logs()
        if self._certificates is not None:
            self._certificates.reload()
        if self.lifecycle.stopping:
            log.warning("reload rejected: the service is stopping")
            then("the service is stopping")
        else:
            self.supervisor.reload(then)

    def reopen_logs(self) -> str | None:
        """Open the log files anew, after a rotation; return why that failed, or None."""
        failure = None if self.access_log is None else self.access_log.reopen()
        if failure is not None:
            log.error(
                "the old log file stays in use, since the new one cannot be opened: %s", failure
            )
        return failure

    def maintain(self, text: str | None) -> None:
        """Reject the app's requests with 503 and this text from now on; None: no more."""
        if text is not None:
            log.warning("maintenance is on: requests of the app get 503%s", text and f" ({text})")
        elif self.entry.maintenance is not None:
            log.info("maintenance is off")
        self.entry.maintain(text)

    def stop(self) -> None:
        """Do what SIGTERM does."""
        self.shutdown.begin(signal.SIGTERM, "stop command received")

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reaper.child_ended()
        elif number == signal.SIGHUP:
            if self._terminal.closes:
                self.shutdown.begin(number)
            else:
                self.reload()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            if self._cpus is not None:
                self._cpus.end()
            more = 1 if number == signal.SIGTTIN else -1
            self.supervisor.scale(self.supervisor.wanted + more)
        elif number == signal.SIGUSR2:
            if not self.lifecycle.stopping:
                self.upgrade.begin(self.shutdown.hand_over)
        else:
            at_terminal = number == signal.SIGINT and has_terminal()
            self.shutdown.begin(number, at_terminal=at_terminal)

    def _children(self) -> list[int]:
        """The process numbers of the children that this process started."""
        ours = [reactor.pid for reactor in self.supervisor.reactors]
        ours += [*self.supervisor.zygotes, self.upgrade.pid]
        return ours if self._files is None else [*ours, self._files.pid]
