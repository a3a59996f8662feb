"""The stop of a service, in an order that loses no request behind a balancer.

`lifecycle.ServicePhase` names the phases. A second SIGINT, or SIGQUIT at any time, kills all
reactors at once.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Final

from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.connection import ConnectionPhase
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.exchanges.exchange import RUNNING
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.retirement import SERVICE_RESTART
from reactor_run.frontend.reactors.supervisor import Supervisor
from reactor_run.frontend.service.admin import Admin
from reactor_run.frontend.service.lifecycle import Lifecycle, ServicePhase
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.pool import Pools
from reactor_run.frontend.service.upgrade import Upgrade

__all__ = ["Shutdown"]

_EXIT_MAX: Final = 10.0
"""Most seconds that the end takes after the graceful timeout: shutdown of apps, kills, and our
own."""
_SHUTDOWN_MIN: Final = 1.0
"""Fewest seconds that apps have to shut down, however long their last exchanges took."""

_GOING_AWAY: Final = 1001
"""The close code of WebSockets at the end of the service (RFC 6455 §7.4.1)."""
_NAMED_MAX: Final = 5
"""Most requests that the log names when the stop begins."""


class Shutdown:
    """The stop of one service."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        *,
        lifecycle: Lifecycle,
        clients: ClientContext,
        acceptor: Acceptor,
        pools: Pools,
        upgrade: Upgrade,
        notifier: Notifier,
        admins: Sequence[Admin],
    ) -> None:
        """`admins`: the admin listeners, which an upgrade leaves to the next front end."""
        self._loop = loop
        self._settings = settings
        self._lifecycle = lifecycle
        self._clients = clients
        self._acceptor = acceptor
        self._pools = pools
        self._upgrade = upgrade
        self._notifier = notifier
        self._admins = admins
        self._at_terminal = False
        """A developer has pressed Ctrl-C."""
        self._delay = Timer(self._drain)
        self._grace = Timer(self._grace_is_over)

    def begin(self, number: int, cause: str = "", *, at_terminal: bool = False) -> None:
        """Begin to stop, as after signal `number`. A second SIGINT, or SIGQUIT, kills all reactors.

        `cause`: the text for the log in place of the signal's name. `at_terminal`: a developer has
        pressed Ctrl-C, so event streams and idle connections end at once.
        """
        cause = cause or f"{signal.Signals(number).name} received"
        if number == signal.SIGQUIT:
            log.warning("%s, killing all reactors (%s)", cause, self._in_flight())
            self._at_once()
        elif self._lifecycle.phase is ServicePhase.SERVING:
            delay, limit = self._settings.shutdown_delay, self._settings.graceful_timeout
            self._at_terminal = at_terminal
            log.info(
                "%s, shutting down%s (%s, at most %g s)%s%s",
                cause,
                f" in {delay:g} s" if delay else "",
                self._in_flight(),
                delay + limit,
                self._waited_for(),
                "; press Ctrl-C again to stop at once" if number == signal.SIGINT else "",
            )
            self._upgrade.cancel()
            self._notifier.stopping(
                self._settings.shutdown_delay + self._settings.graceful_timeout + _EXIT_MAX
            )
            if self._settings.shutdown_delay:
                self._lifecycle.phase = ServicePhase.DELAYED
                self._loop.set_deadline(self._delay, self._settings.shutdown_delay)
            else:
                self._drain()
        elif number == signal.SIGINT or self._lifecycle.phase is ServicePhase.STOPPING:
            log.warning("%s again, killing all reactors (%s)", cause, self._in_flight())
            self._at_once()

    def _in_flight(self) -> str:
        """Return the number of requests that have no complete response yet, as text."""
        count = self._pools.in_flight + self._pools.waiting
        text = "1 request in flight" if count == 1 else f"{count} requests in flight"
        websockets = self._pools.websockets
        if websockets:
            text += ", 1 WebSocket" if websockets == 1 else f", {websockets} WebSockets"
        return text

    def _waited_for(self) -> str:
        """Return the requests that run, the longest first, as text; empty: there are none."""
        exchanges = [
            exchange
            for reactor in self._pools.reactors
            for exchange in reactor.exchanges
            if (exchange.state is RUNNING or not exchange.app_done)
            and not exchange.upgraded
            and not (exchange.event_stream and self._at_terminal and reactor.interface == "asgi")
        ]
        exchanges.sort(key=lambda exchange: exchange.arrived)
        now = self._loop.now
        names = [f"{each.name} for {now - each.arrived:.1f} s" for each in exchanges[:_NAMED_MAX]]
        if len(exchanges) > _NAMED_MAX:
            names.append(f"and {len(exchanges) - _NAMED_MAX} more")
        return f", waiting for {', '.join(names)}" if names else ""

    def _at_once(self) -> None:
        self._pools.each(Supervisor.kill)
        self._loop.stop()

    def hand_over(self, pid: int) -> None:
        """Leave the listeners to another front end, process `pid`, which accepts from them."""
        if self._lifecycle.phase is ServicePhase.SERVING:
            self._lifecycle.handed_over = True
            self._notifier.main_pid(pid)
            self._notifier.close()
            for admin in self._admins:
                admin.leave()
            self._drain(leave=True)

    def _drain(self, *, leave: bool = False) -> None:
        """Accept no new connections, and finish the requests in flight."""
        self._lifecycle.phase = ServicePhase.DRAINING
        if not leave:
            self._acceptor.take_backlog()
        self._clients.drain()
        self._acceptor.end(leave=leave)
        self._acceptor.shut(0 if self._at_terminal else self._settings.close_grace)
        if self._at_terminal:
            self._end_event_streams(0)
        elif self._settings.event_stream_grace is not None:
            self._end_event_streams(self._settings.event_stream_grace)
        self._close_websockets(leave=leave)
        self._loop.set_deadline(self._grace, self._settings.graceful_timeout)
        self._loop.after_batch(self._stop_when_done)

    def _end_event_streams(self, seconds: float) -> None:
        self._pools.each(lambda supervisor: supervisor.end_event_streams(seconds))

    def _close_websockets(self, *, leave: bool) -> None:
        """Close all WebSockets, spread over a part of the graceful timeout. `leave`: their clients
        may connect again at once, to the next front end."""
        seconds = min(self._settings.ws_drain, self._settings.graceful_timeout / 2)
        code = SERVICE_RESTART if leave else _GOING_AWAY
        spread = 0 if self._at_terminal else seconds
        self._pools.each(lambda supervisor: supervisor.close_websockets(code, spread))

    def _stop_when_done(self) -> None:
        if self._lifecycle.phase is ServicePhase.DRAINING and not (
            self._pools.in_flight
            or self._pools.websockets
            or self._pools.waiting
            or self._acceptor.busy
        ):
            self._stop_reactors(self._grace.deadline - self._loop.now)

    def _grace_is_over(self) -> None:
        if self._lifecycle.phase is ServicePhase.DRAINING:
            log.warning(
                "graceful timeout of %g s is over, cancelling apps (%s)",
                self._settings.graceful_timeout,
                self._in_flight(),
            )
            self._stop_reactors(0)

    def _stop_reactors(self, seconds: float) -> None:
        self._lifecycle.phase = ServicePhase.STOPPING
        end_children = not self._lifecycle.handed_over
        seconds = max(seconds, _SHUTDOWN_MIN)
        self._pools.each(lambda supervisor: supervisor.stop(seconds, end_children=end_children))
        self.end_when_over()

    def end_when_over(self) -> None:
        """End the service if no reactor is left and the last answers have been read."""
        if self._lifecycle.phase is ServicePhase.STOPPING and not (
            self._pools.reactors
            or any(client.phase is ConnectionPhase.LINGERING for client in self._acceptor.clients)
        ):
            self._loop.stop()
