"""Retires reactors: they finish what they have, then they are stopped.

A reactor that retires gets no new exchange. It is stopped when it is idle, or when the graceful
timeout is over. To stop it, its app gets time to shut down. After that its process is killed.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.event_streams import EventStreams
from reactor_run.frontend.reactors.reactor import DEAD, STARTING, Reactor

__all__ = ["SERVICE_RESTART", "Retirement"]

_KILL_AFTER: Final = 2.0
"""Seconds that a reactor has to exit, after the time that its app has to shut down."""
SERVICE_RESTART: Final = 1012
"""The close code of WebSockets whose clients may connect again at once (RFC 6455 §11.7)."""
_SHUTDOWN_MIN: Final = 1.0
"""The least seconds that an app has to shut down, however long its last exchanges took."""


class Retirement:
    """The reactors that retire."""

    def __init__(
        self,
        loop: Loop,
        *,
        graceful_timeout: float,
        event_stream_grace: float | None,
        websocket_drain: float,
    ) -> None:
        """`graceful_timeout`: seconds that exchanges have to end. `event_stream_grace`: seconds
        that event streams have; None: as long. `websocket_drain`: seconds over which WebSockets are
        closed."""
        self.streams = EventStreams(loop)
        self._loop = loop
        self._graceful_timeout = graceful_timeout
        self._event_stream_grace = event_stream_grace
        self._websocket_drain = websocket_drain
        self._until: dict[Reactor, float] = {}
        """When the graceful timeout of each of them ends."""
        self._stops = False
        loop.after_batch(self._stop_idle)

    @property
    def reactors(self) -> list[Reactor]:
        """Those that still have exchanges, or had some at the end of the last batch."""
        return list(self._until)

    def begin(self, reactor: Reactor) -> None:
        """Let a reactor that is ready finish its exchanges within the graceful timeout."""
        reactor.retire()
        grace = self._graceful_timeout
        self._until[reactor] = self._loop.now + grace
        reactor.on_overdue = lambda: self._overdue(reactor)
        self._loop.set_deadline(reactor, grace)
        reactor.open_websockets.close(SERVICE_RESTART, min(self._websocket_drain, grace / 2))
        if self._event_stream_grace is not None:
            self.streams.end_after(reactor, self._event_stream_grace)

    def _stop_idle(self) -> None:
        if self._until:
            for reactor, until in list(self._until.items()):
                if reactor.idle:
                    self.stop(reactor, until - self._loop.now)

    def _overdue(self, reactor: Reactor) -> None:
        if reactor.at_terminal and not self._stops:
            # A debugger is in use while a reload waits for the old code to end.
            self._loop.set_deadline(reactor, self._graceful_timeout)
            return
        log.warning(
            "%s (pid %d): %d exchanges not finished within the graceful timeout, stopping it",
            reactor.name,
            reactor.pid,
            reactor.in_flight,
        )
        self.stop(reactor, 0)

    def stop(self, reactor: Reactor, seconds: float) -> None:
        """Stop a reactor: its app has `seconds` to shut down, then its process exits."""
        self._until.pop(reactor, None)
        if reactor.state not in (STARTING, DEAD):
            seconds = max(seconds, _SHUTDOWN_MIN)
            reactor.stop(seconds)
            reactor.on_overdue = reactor.kill
            self._loop.set_deadline(reactor, seconds + _KILL_AFTER)

    def service_stops(self) -> None:
        """Wait for no debugger any more: the service stops."""
        self._stops = True

    def died(self, reactor: Reactor) -> bool:
        """Forget a reactor whose process has ended; return whether it was retiring."""
        return self._until.pop(reactor, None) is not None
