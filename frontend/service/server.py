"""The front-end process: what its parts share, signals, start and stop."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from reactor_run import __version__
from reactor_run.clock import date_field
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.http1 import Client
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.orphans import Deserted
from reactor_run.frontend.exchanges.replay import METHODS
from reactor_run.frontend.log import configure, log
from reactor_run.frontend.loop.epoll import LATE, Loop, Timer
from reactor_run.frontend.loop.signals import Signals, has_terminal
from reactor_run.frontend.reactors.heartbeat import Heartbeat
from reactor_run.frontend.reactors.recycling import Recycling
from reactor_run.frontend.reactors.supervisor import Supervisor, Told, nobody
from reactor_run.frontend.service.admin import Admin
from reactor_run.frontend.service.counters import Counters
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.orphan_reaper import Reaper
from reactor_run.frontend.service.shutdown import Shutdown
from reactor_run.frontend.service.status import Status
from reactor_run.frontend.service.upgrade import Inheritance, Upgrade, inherit
from reactor_run.frontend.sockets.listeners import Listener, open_admin, open_health, open_listeners
from reactor_run.frontend.sockets.rlimits import available_cpus, connections_for, raise_nofile_limit
from reactor_run.heap import keep_dropped_memory
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2
from reactor_run.protocol.request import KnownHeads
from reactor_run.protocol.response import simple_response

__all__ = ["Server", "serve"]

_LOOK_AT_CPUS: Final = 10.0
"""Seconds between two looks at how many CPUs there are for us."""


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; the exit status. Raises OperatorError."""
    # What was imported lives as long as the process: no collection needs to look at it.
    gc.freeze()
    gc.enable()
    configure(settings.log_level)
    # Works while the loop stands still, which is when somebody asks.
    faulthandler.register(signal.SIGUSR1)
    keep_dropped_memory()
    nofile = raise_nofile_limit()
    reactors = settings.reactors or available_cpus()
    connections, line = connections_for(nofile, settings.max_connections, reactors)
    log.info("%s", line)
    notifier = Notifier(os.environ)
    with ExitStack() as closing:
        closing.callback(notifier.close)
        try:
            inheritance = inherit(os.environ)
            if inheritance is not None:
                listeners = inheritance.service
                desks, health = inheritance.admin, inheritance.health
            else:
                listeners, desks, health = (
                    open_listeners(
                        settings.bind,
                        os.environ,
                        backlog=settings.backlog,
                        unix_mode=settings.unix_mode,
                    ),
                    [],
                    [],
                )
            for listener in listeners:
                closing.callback(listener.close)
            if inheritance is None and settings.admin is not None:
                desks = open_admin(settings.admin, settings.admin_mode)
            if inheritance is None and settings.health is not None:
                health = open_health(settings.health)
            server = Server(settings, listeners, connections, notifier, desks, health, inheritance)
            closing.callback(server.health.close)
            closing.callback(server.admin.close)
            return server.run()
        except OperatorError as error:
            notifier.status(str(error))
            raise


class Server:
    """What the connections, the dispatcher and the reactors of one front end share."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[Listener],
        connections_max: int,
        notifier: Notifier,
        desks: list[Listener],
        health: list[Listener],
        inheritance: Inheritance | None = None,
    ) -> None:
        """`listeners`: for clients; `desks`: for the operator; `health`: for balancers."""
        self.loop = Loop()
        self.dispatcher = Dispatcher(self.loop, settings.queue_size)
        self.limits = Limits(
            request_line=settings.limit_request_line,
            field_count=settings.limit_field_count,
            field_size=settings.limit_field_size,
            head_size=settings.limit_head_size,
            body_size=settings.max_body_size,
            path_policy=settings.path_policy,
        )
        self.known_heads = KnownHeads()
        self.counters = Counters()
        self.answers = self.counters.answers
        self.head_timeout = settings.head_timeout
        self.body_timeout = settings.body_timeout
        self.min_body_rate = settings.min_body_rate
        self.keep_alive = settings.keep_alive
        self.close_grace = settings.close_grace
        self.response_timeout = settings.response_timeout
        self.min_response_rate = settings.min_response_rate
        # Nobody shall wait longer than that: deadlines pass late, and this one must not.
        self.queue_timeout = max(settings.queue_timeout - LATE, settings.queue_timeout / 2)
        self.first_byte_timeout = settings.first_byte_timeout
        self.request_timeout = settings.request_timeout
        self.times_exchanges = bool(settings.first_byte_timeout or settings.request_timeout)
        self.replayed = METHODS[settings.replay]
        """The methods of requests that may be run twice."""
        self.buffers = False
        """Request bodies are collected before the app is called, answers are taken off its hands:
        its interface is WSGI."""
        self.answer_file_max = 0
        """Bytes of an answer that may wait in a temporary file for a slow client; 0: none."""
        self.draining = False
        """Every answer is the last of its connection."""
        self._settings = settings
        self.notifier = notifier
        self._listeners = listeners
        self._acceptor = Acceptor(self, listeners, connections_max, settings)
        self._clients = self._acceptor.clients
        self._supervisor = Supervisor(self, settings)
        self.status = Status(self, settings, listeners, self._acceptor, self._supervisor)
        self._failure: tuple[OperatorError, str | None] | None = None
        self._inheritance = inheritance
        self.admin = Admin(self, desks)
        self.health = Admin(self, health, health_only=True)
        self.shutdown = Shutdown(self, settings, self._acceptor, self._supervisor)
        self.upgrade = Upgrade(
            self.loop, listeners, desks, health, notifier.environment, self.shutdown.hand_over
        )
        self._recycling = Recycling(self.loop, self._supervisor, settings)
        self.deserted = Deserted(self.loop)
        self.heartbeat = Heartbeat(
            self.loop, self.dispatcher, self._supervisor.at_work, settings.timeout
        )
        self._follows_cpus = settings.reactors == 0
        self._cpus = Timer(self._follow_cpus)
        self._had_terminal = has_terminal()
        self._reaper = Reaper(self.loop, self._children)

    # What the others ask -------------------------------------------------------------------------

    def own_answer(
        self,
        status: int,
        text: bytes,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        *,
        head_only: bool,
    ) -> bytes:
        """An answer by the front end itself."""
        self.counters.answered_here(status)
        return simple_response(
            status,
            text,
            fields=(*fields, (b"server", b"reactor-run")),
            date_field=date_field(),
            close=False,
            head_only=head_only,
        )

    def encode_proxy(
        self,
        source: Endpoint | None,
        destination: Endpoint | None,
        tlvs: Iterable[tuple[int, bytes]],
    ) -> bytes:
        """The header before each exchange on a lane."""
        if self._settings.lane_proxy == "v2":
            return encode_v2(source, destination, tlvs)
        if self._settings.lane_proxy == "v1":
            return encode_v1(source, destination)
        return b""

    def serves(self, interface: str) -> None:
        """A reactor is ready, so there is somebody to serve the clients."""
        self.buffers = interface == "wsgi"
        self.answer_file_max = self._settings.answer_spool_size if self.buffers else 0
        if not self.draining and self._acceptor.begin():
            log.info("ready")
            self.notifier.ready()
            if self._inheritance is not None:
                self._begin_telling()
                self._inheritance.accept_begins()

    def client_closed(self, client: Client) -> None:
        """A connection has ended."""
        self._acceptor.left(client)
        if self.draining:
            self.shutdown.end_when_over()

    # From start to stop --------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; the exit status. Raises OperatorError."""
        with Signals(self.loop, self._on_signal):
            for listener in self._listeners:
                origin = f" ({listener.origin})" if listener.origin else ""
                log.info("reactor-run %s listening on %s%s", __version__, listener.name, origin)
            try:
                self._supervisor.start()
                # Until it can serve, the one before it speaks for the service.
                if self._inheritance is None:
                    self._begin_telling()
                self.notifier.attach(self.loop, self.status.line)
                self._recycling.begin()
                self.heartbeat.begin()
                self._follow_cpus()
                self.loop.run()
            finally:
                self._supervisor.bury()
        if self._failure is not None:
            error, details = self._failure
            if details:
                print(details.rstrip(), file=sys.stderr)
            raise error
        return 0

    def _begin_telling(self) -> None:
        """Answer those who ask how the service is."""
        self.admin.begin()
        self.health.begin()

    def fail(self, error: OperatorError, details: str | None) -> None:
        """The service cannot begin."""
        if self._failure is None:
            self._failure = (error, details)
        self._supervisor.kill()
        self.loop.stop()

    def stop(self) -> None:
        """Do what SIGTERM does."""
        self._on_signal(signal.SIGTERM)

    def _children(self) -> list[int]:
        """The processes that we started."""
        return [*(reactor.pid for reactor in self._supervisor.reactors), self.upgrade.pid]

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reaper.child_ended()
        elif number == signal.SIGHUP:
            if self._had_terminal and not has_terminal():
                # It was closed: this is how the shell says that it ends, not a wish to reload.
                self.shutdown.begin(number)
            else:
                self.reload()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            self._follows_cpus = False
            more = 1 if number == signal.SIGTTIN else -1
            self._supervisor.scale(self._supervisor.wanted + more)
        elif number == signal.SIGUSR2:
            if not self.shutdown.begun:
                self.upgrade.begin()
        else:
            self.shutdown.begin(number)

    def reload(self, then: Told = nobody) -> None:
        """Start the app anew, beside the one that serves; `then` is told how that ended."""
        if self.shutdown.begun:
            log.warning("no reload: the service is stopping")
            then("the service is stopping")
        else:
            self._supervisor.reload(then)

    def _follow_cpus(self) -> None:
        """As many reactors as there are CPUs for us: their number may have changed."""
        if self._follows_cpus:
            self.loop.set_deadline(self._cpus, _LOOK_AT_CPUS)
            self._supervisor.scale(available_cpus())

    def reactor_left(self) -> None:
        """One reactor fewer."""
        self.shutdown.end_when_over()
