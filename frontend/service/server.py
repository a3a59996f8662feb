"""The composition of the front end: its parts, what they tell each other, its signals, its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

from reactor_run import __version__, turns
from reactor_run.frontend.access_log.access_log import open_access_log
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import Forwarding
from reactor_run.frontend.clients.http2_service import open_http2
from reactor_run.frontend.command.pools import apps_of
from reactor_run.frontend.command.routing import cross_origin_of, route_table
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.loop.signals import Signals, Terminal, has_terminal
from reactor_run.frontend.metrics.by_app import NO_APP, RequestsByApp
from reactor_run.frontend.metrics.requests import RequestMetrics
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.frontend.reactors.supervisor import Supervisor
from reactor_run.frontend.service.admin import Admin, Purpose
from reactor_run.frontend.service.commands import Commands
from reactor_run.frontend.service.endpoints import Endpoints
from reactor_run.frontend.service.hooks import open_hooks
from reactor_run.frontend.service.lifecycle import Lifecycle
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.orphan_reaper import Reaper
from reactor_run.frontend.service.parent import Parent
from reactor_run.frontend.service.pool import Pool, Pools, make_dispatcher
from reactor_run.frontend.service.scrape import Scrape
from reactor_run.frontend.service.shutdown import Shutdown
from reactor_run.frontend.service.status import Status
from reactor_run.frontend.service.upgrade import Inheritance, Upgrade
from reactor_run.frontend.sockets.listener import Speech
from reactor_run.hooks import ReactorExited, ReactorStarted, ReloadStarted, Service

if TYPE_CHECKING:
    from reactor_run.frontend.clients.redirect import RedirectContext
    from reactor_run.frontend.clients.reload_gate import ReloadGate
    from reactor_run.frontend.clients.tls_handshake import TlsService
    from reactor_run.frontend.reloading.file_watch import FileWatch
    from reactor_run.frontend.routes.table import RouteTable
    from reactor_run.frontend.tls.credentials import Credentials
    from reactor_run.frontend.tls.renewal import Renewal

__all__ = ["Server"]


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
        self._endpoints = endpoints
        self._notifier = notifier
        self._inheritance = inheritance
        self._closing = ExitStack()
        """Closes what routes have open."""
        self._serves = False
        """A reactor has been ready."""
        self._failure: tuple[OperatorError, str | None] | None = None

        counters = Counters()
        apps = apps_of(settings)
        first = apps[0].settings
        self._app = first.app
        dispatcher = make_dispatcher(self.loop, first)
        self.clients = ClientContext(self.loop, dispatcher, counters, first)
        self.access_log = open_access_log(
            self.loop, settings.access_log, settings.access_log_format
        )
        if self.access_log is not None:
            self.clients.observe(self.access_log)
        self.clients.http2 = open_http2(
            settings.http2, self.loop, streams_max=settings.h2_max_streams
        )
        self._certificates = self._read_certificates(settings, endpoints)
        self._own: dict[str, ClientContext] = {}
        """The contexts of apps' own listeners, by the name of the app."""
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
            own=self._own,
        )
        place = StartDirectory(os.environ)
        self._hooks = open_hooks(settings.hooks, place.locate(settings.app_dir))
        requests = RequestMetrics(self.loop)
        by_app = {NO_APP: requests}
        if settings.admin or settings.metrics:
            self.clients.observe(requests)
            if len(apps) > 1:
                observer = RequestsByApp(self.loop, [app.name for app in apps])
                by_app = observer.counted
                self.clients.observe(observer)
        table = route_table(settings)
        self.pools = Pools()
        for name, own, _ in apps:
            context = self.clients
            if self.pools:
                context = context.for_app(make_dispatcher(self.loop, own), own)
            # Until an app has started, bodies are collected, as any app can take them.
            if len(apps) > 1:
                context.serves("wsgi")
            self.pools.add(
                Pool(
                    name,
                    self.loop,
                    context,
                    counters,
                    own,
                    place,
                    self,
                    label=f"{name} " if len(apps) > 1 else "",
                    mount_path="" if table is None else table.mount_path(name),
                )
            )
        self.pool = self.pools[0]
        self.dispatcher = dispatcher
        self.supervisor = self.pool.supervisor
        self.heartbeat = self.pool.heartbeat
        self.status = Status(
            self.loop,
            settings,
            endpoints.clients,
            self.acceptor,
            self.pools,
            counters,
            self.lifecycle,
            self.access_log,
            requests,
            by_app,
            self._certificates,
        )
        self.scrape = Scrape(
            self.loop,
            settings,
            self.status,
            by_app,
            self.acceptor,
            self.pools,
            counters,
            self.access_log,
            self._certificates,
        )
        self.commands = commands = Commands(
            self.pools,
            self.lifecycle,
            self._certificates,
            self.access_log,
            lambda: self.upgrade.state_changed(),
        )
        self.admins = [
            Admin(
                self.loop,
                listeners,
                self.status,
                self.scrape,
                reload=commands.reload,
                reopen_logs=commands.reopen_logs,
                maintain=commands.maintain,
                scale=commands.scale,
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
            state=self._state,
            missing=notifier.environment,
            from_file=from_file,
        )
        self.shutdown = Shutdown(
            self.loop,
            settings,
            lifecycle=self.lifecycle,
            clients=self.clients,
            acceptor=self.acceptor,
            pools=self.pools,
            upgrade=self.upgrade,
            notifier=notifier,
            admins=self.admins,
        )
        if table is not None:
            self._open_routes(table, place)
        self._open_own_listeners(settings, table)
        if inheritance is not None:
            self._take_state(inheritance.state)
        self._gates: dict[Pool, ReloadGate] = {}
        self._files: FileWatch | None = None
        if settings.reload:
            from reactor_run.frontend.clients.reload_gate import ReloadGate
            from reactor_run.frontend.reloading.file_watch import FileWatch

            for pool in self.pools:
                self._gates[pool] = ReloadGate(
                    pool.context,
                    pool.entry,
                    pool.settings.app,
                    behind_proxy=settings.proxy_protocol,
                )
            self._files = FileWatch(
                self.loop,
                place,
                [
                    *dict.fromkeys(pool.settings.app_dir for pool in self.pools),
                    *settings.reload_dir,
                ],
                settings.reload_include,
                settings.reload_exclude,
                self._files_changed,
            )
        self._terminal = Terminal(self.loop)
        self._parent = Parent(self.loop, os.environ, self._parent_ended)
        self._reaper = Reaper(self.loop, self._children, lambda: self.pools.forking)

    def _read_certificates(self, settings: Settings, endpoints: Endpoints) -> Renewal | None:
        """Read the certificates; return None if there are none. Raises OperatorError."""
        self._tls: TlsService | None = None
        if settings.tls_dev:
            from reactor_run.frontend.tls.development import make_certificate

            settings = settings.replace(certfile=(make_certificate(),))
        if not settings.certfile:
            return None
        from reactor_run.frontend.clients.tls_handshake import TlsService
        from reactor_run.frontend.tls.credentials import tls_options
        from reactor_run.frontend.tls.renewal import Renewal

        for listener in endpoints.clients:
            listener.speak_tls()
        options = tls_options(settings, http2=self.clients.http2 is not None)
        certificates = Renewal(self.loop, options, self._apply_certificates)
        self._tls = TlsService(certificates.credentials, settings.handshake_timeout)
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

    def _open_routes(self, table: RouteTable, place: StartDirectory) -> None:
        """Lead requests by the routes. Raises OperatorError."""
        # Most services have no routes.
        from reactor_run.frontend.service.routing import open_router

        entries = {pool.name: pool.entry for pool in self.pools}
        router = open_router(self.clients, table, entries, place, self._closing)
        for pool in self.pools:
            pool.entry.route(router)

    def _open_own_listeners(self, settings: Settings, table: RouteTable | None) -> None:
        """Lead the requests of apps' own listeners to these apps."""
        for listener in self._endpoints.public:
            name = listener.app
            if not name or name in self._own:
                continue
            pool = self.pools.named(name)
            if pool is None:
                # An upgrade, with settings in which the app has another name.
                log.warning(
                    "there is no app %r, so the routes lead requests on %s", name, listener.name
                )
                listener.app = ""
                continue
            # Most services have none.
            from reactor_run.frontend.service.routing import own_router

            context = self._own[name] = pool.context.for_own_listeners()
            router = own_router(
                context,
                pool.entry,
                "" if table is None else table.mount_path(name),
                cross_origin_of(settings),
                several=len(self.pools) > 1,
            )
            context.submit, context.find_answerer = router.submit, router.find

    def _state(self) -> dict[str, Any]:
        """Return what the operator has changed since the start, for the next front end."""
        return {
            "maintenance": {
                pool.name: pool.entry.maintenance
                for pool in self.pools
                if pool.entry.maintenance is not None
            },
            "scale": {pool.name: pool.supervisor.wanted for pool in self.pools if pool.scaled},
        }

    def _take_state(self, state: dict[str, Any]) -> None:
        """Do what the front end before this one did. Apps may have other names by now."""
        maintenance, scale = state.get("maintenance", {}), state.get("scale", {})
        for pool in self.pools:
            text = maintenance.get(pool.name)
            if text != pool.entry.maintenance:
                self.commands.maintain(text, pool.name)
            if pool.name in scale:
                pool.scale(scale[pool.name])

    # From start to end ---------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; return the exit status. Raises OperatorError."""
        with Signals(self.loop, self._on_signal), self._terminal, self._parent:
            for pool in self.pools:
                wanted = pool.supervisor.wanted
                count = "1 reactor" if wanted == 1 else f"{wanted} reactors"
                what = pool.settings.app
                if len(self.pools) > 1:
                    what = f"{pool.name} ({what})"
                log.info("reactor-run %s runs %s in %s", __version__, what, count)
            for listener in self._endpoints.public:
                origin = f" ({listener.origin})" if listener.origin else ""
                app = f" for {listener.app}" if listener.app else ""
                log.info("listening on %s%s%s", listener.name, origin, app)
            self._hooks.call("on_start", self._about())
            try:
                for pool in self.pools:
                    pool.start()
                if self._files is not None:
                    self._files.begin()
                # Until this one can serve, the front end before it answers on these listeners.
                if self._inheritance is None:
                    self._begin_admin()
                self._notifier.attach(self.loop, self.status.line)
                if self._certificates is not None:
                    self._certificates.begin()
                for pool in self.pools:
                    pool.begin()
                self.loop.run()
            finally:
                self.pools.each(Supervisor.bury)
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
            self.pools.wanted,
            inherited=self._inheritance is not None,
            handed_over=self.lifecycle.handed_over,
        )

    def _begin_admin(self) -> None:
        for admin in self.admins:
            admin.begin()

    def _client_left(self) -> None:
        if self.clients.draining:
            self.shutdown.end_when_over()

    # Calls by pools ------------------------------------------------------------------------------

    def pool_serves(self, pool: Pool) -> None:
        """Accept clients, because a reactor is ready."""
        if self.clients.draining:
            return
        if self._inheritance is not None and not all(each.ready for each in self.pools):
            # The front end before this one serves meanwhile.
            return
        if self._inheritance is not None and not self._serves:
            self._inheritance.update()
            self._take_state(self._inheritance.state)
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

    def reload_begins(self, pool: Pool) -> None:
        """Tell the service manager and the hooks that a reload begins."""
        self._notifier.reloading()
        self._hooks.call("on_reload", ReloadStarted(pool.supervisor.generation + 1))

    def reload_ended(self, pool: Pool) -> None:
        """Tell the service manager that the reload has ended."""
        if not self.pools.reloading:
            self._notifier.ready()
        gate = self._gates.get(pool)
        if gate is not None:
            if pool.supervisor.reload_failure is None:
                gate.opens()
            else:
                gate.failed(pool.supervisor.reload_failure, pool.supervisor.reload_details)

    def reactor_ended(self) -> None:
        """End the service if this was the last reactor of a stop."""
        self.shutdown.end_when_over()

    def pool_failed(self, pool: Pool, error: OperatorError, details: str | None) -> bool:
        """End the service, because no app ever started. With `--reload`, wait for a change. Return
        whether other apps may serve, so that this one is started again. An upgrade needs all apps.
        """
        gate = self._gates.get(pool)
        shown = f"{pool.name}: {error}" if len(self.pools) > 1 else str(error)
        if gate is not None and self._inheritance is None:
            log.error("%s; waiting for a change%s", shown, f"\n{details}" if details else "")
            gate.failed(str(error), details)
            # Until an app has started, bodies are collected, as any app can take them.
            pool.context.serves("wsgi")
            self.acceptor.begin()
            return False
        upgrades = self._inheritance is not None and not self._serves
        if not (upgrades or all(each.failed for each in self.pools)):
            log.error("%s; trying again%s", shown, f"\n{details}" if details else "")
            return True
        if self._failure is None:
            self._failure = (OperatorError(shown), details)
        self.pools.each(Supervisor.kill)
        self.loop.stop()
        return False

    def _parent_ended(self) -> None:
        """End the service at once: nothing that it would finish is awaited any more."""
        self.shutdown.begin(signal.SIGQUIT, "the process that started this service has ended")

    def _files_changed(self, names: list[str]) -> None:
        """Start a new generation with the changed files (`--reload`)."""
        if not self.lifecycle.stopping:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            log.info("%s%s changed", names[0], more)
            for pool in self.pools:
                self._gates[pool].starts()
                pool.supervisor.reload(anew=True)

    # Commands of the operator --------------------------------------------------------------------

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
                self.commands.reload()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            more = 1 if number == signal.SIGTTIN else -1
            self.commands.scale("", self.supervisor.wanted + more)
        elif number == signal.SIGUSR2:
            if self._inheritance is not None and not self._serves:
                # The front end before this one waits for it, and knows no third one.
                log.warning("upgrade rejected: this front end does not accept connections yet")
            elif not self.lifecycle.stopping:
                self.upgrade.begin(self.shutdown.hand_over)
        else:
            at_terminal = number == signal.SIGINT and has_terminal()
            self.shutdown.begin(number, at_terminal=at_terminal)

    def _children(self) -> list[int]:
        """The process numbers of the children that this process started."""
        ours = [reactor.pid for reactor in self.pools.reactors]
        ours += [*self.pools.zygotes, self.upgrade.pid]
        return ours if self._files is None else [*ours, self._files.pid]
