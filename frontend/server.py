"""The front-end process: what its parts share, signals, start and stop."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from reactor_run import __version__
from reactor_run.clock import date_field
from reactor_run.frontend.acceptor import Acceptor
from reactor_run.frontend.client import Client
from reactor_run.frontend.dispatcher import Dispatcher
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.limits import connections_for, raise_nofile_limit
from reactor_run.frontend.listeners import Listener, open_listeners
from reactor_run.frontend.log import configure, log
from reactor_run.frontend.loop import Loop
from reactor_run.frontend.notify import Notifier
from reactor_run.frontend.reactor import READY
from reactor_run.frontend.settings import Settings
from reactor_run.frontend.supervisor import Supervisor
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2
from reactor_run.protocol.request import KnownHeads
from reactor_run.protocol.response import simple_response

__all__ = ["Server", "serve"]

_SHUTDOWN_MIN: Final = 1.0
"""Seconds that apps have to shut down, however long their last exchanges took."""
_EXIT_MAX: Final = 10.0
"""Seconds that the end may take beyond the graceful timeout: an app's shutdown, killing, us."""


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; the exit status. Raises OperatorError."""
    configure(settings.log_level)
    nofile = raise_nofile_limit()
    connections, line = connections_for(nofile, settings.max_connections, settings.reactors)
    log.info("%s", line)
    notifier = Notifier(os.environ)
    listeners: list[Listener] = []
    try:
        listeners = open_listeners(settings, os.environ)
        return Server(settings, listeners, connections, notifier).run()
    except OperatorError as error:
        notifier.status(str(error))
        raise
    finally:
        notifier.close()
        for listener in listeners:
            listener.close()


class _Timer:
    """One thing to do later."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.deadline = self.check_at = inf
        self.on_deadline = action


class Server:
    """What the connections, the dispatcher and the reactors of one front end share."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[Listener],
        connections_max: int,
        notifier: Notifier,
    ) -> None:
        self.loop = Loop()
        self.dispatcher = Dispatcher(settings.queue_size)
        self.limits = Limits(
            request_line=settings.limit_request_line,
            field_count=settings.limit_field_count,
            field_size=settings.limit_field_size,
            head_size=settings.limit_head_size,
            body_size=settings.max_body_size,
        )
        self.known_heads = KnownHeads()
        self.head_timeout = settings.head_timeout
        self.body_timeout = settings.body_timeout
        self.min_body_rate = settings.min_body_rate
        self.keep_alive = settings.keep_alive
        self.response_timeout = settings.response_timeout
        self.min_response_rate = settings.min_response_rate
        self.queue_timeout = settings.queue_timeout
        self.request_timeout = settings.request_timeout
        self.buffers = False
        """Request bodies are collected before the app is called, answers are taken off its hands:
        its interface is WSGI."""
        self.answer_file_max = 0
        """Bytes of an answer that may wait in a temporary file for a slow client; 0: none."""
        self.draining = False
        """Every answer is the last of its connection."""
        self._settings = settings
        self._notifier = notifier
        self._listeners = listeners
        self._acceptor = Acceptor(self, listeners, connections_max, settings)
        self._clients = self._acceptor.clients
        self._supervisor = Supervisor(self, settings)
        self._failure: tuple[OperatorError, str | None] | None = None
        self._grace = _Timer(self._grace_is_over)
        self._stopped = False

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
            self._notifier.ready()

    def client_closed(self, client: Client) -> None:
        """A connection has ended."""
        self._acceptor.left(client)
        if self._stopped:
            self._end_when_over()

    # From start to stop --------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; the exit status. Raises OperatorError."""
        with _Signals(self.loop, self._on_signal):
            for listener in self._listeners:
                origin = f" ({listener.origin})" if listener.origin else ""
                log.info("reactor-run %s listening on %s%s", __version__, listener.name, origin)
            try:
                self._supervisor.start()
                self._notifier.attach(self.loop, self._figures)
                self.loop.run()
            finally:
                self._supervisor.kill()
        if self._failure is not None:
            error, details = self._failure
            if details:
                print(details.rstrip(), file=sys.stderr)
            raise error
        return 0

    def _figures(self) -> str:
        """What goes on, in one line."""
        reactors = self._supervisor.reactors
        return (
            f"{sum(reactor.state == READY for reactor in reactors)} of {self._settings.reactors} "
            f"reactors ready, {self._supervisor.in_flight} requests in flight, "
            f"{self.dispatcher.waiting} waiting, {len(self._clients)} connections"
        )

    def fail(self, error: OperatorError, details: str | None) -> None:
        """The service cannot begin."""
        if self._failure is None:
            self._failure = (error, details)
        self._supervisor.kill()
        self.loop.stop()

    def _on_signal(self, number: int) -> None:
        if self._stopped or (self.draining and number == signal.SIGINT):
            log.warning("%s again: stopping at once", signal.Signals(number).name)
            self._supervisor.kill()
            self.loop.stop()
        elif not self.draining:
            log.info("%s: stopping", signal.Signals(number).name)
            self._drain()

    def _drain(self) -> None:
        """Take nothing new, and finish what has begun."""
        self.draining = True
        self._acceptor.end()
        for client in list(self._clients):
            client.shut()
        self.loop.set_deadline(self._grace, self._settings.graceful_timeout)
        self._notifier.stopping(self._settings.graceful_timeout + _EXIT_MAX)
        self.loop.after_batch(self._stop_when_done)

    def _stop_when_done(self) -> None:
        if not self._stopped and not (
            self._supervisor.in_flight
            or self.dispatcher.waiting
            or any(client.busy for client in self._clients)
        ):
            self._stop_reactors()

    def _grace_is_over(self) -> None:
        if not self._stopped:
            log.warning(
                "%d exchanges were not finished within the graceful timeout",
                self._supervisor.in_flight + self.dispatcher.waiting,
            )
            self._stop_reactors()

    def _stop_reactors(self) -> None:
        self._stopped = True
        left = max(self._grace.deadline - self.loop.now, _SHUTDOWN_MIN)
        if left == inf:
            left = _SHUTDOWN_MIN
        self._supervisor.stop(left)
        self._end_when_over()

    def reactor_left(self) -> None:
        """One reactor fewer."""
        self._end_when_over()

    def _end_when_over(self) -> None:
        """Without reactors the service is over, once its last answers could be read."""
        if not self._supervisor.reactors and not any(client.lingers for client in self._clients):
            self.loop.stop()


class _Signals:
    """SIGTERM and SIGINT as events of the loop, while it lasts."""

    _NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, loop: Loop, on_signal: Callable[[int], None]) -> None:
        self._loop = loop
        self._on_signal = on_signal

    def __enter__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._before = {
            number: signal.signal(number, lambda number, frame: None) for number in self._NUMBERS
        }
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._loop.watch(self._ours.fileno(), select.EPOLLIN, self._on_events)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._loop.unwatch(self._ours.fileno())
        self._ours.close()
        self._theirs.close()

    def _on_events(self, _: int) -> None:
        for number in self._ours.recv(64):
            self._on_signal(number)
