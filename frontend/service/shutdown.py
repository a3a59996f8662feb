"""From the word to stop until the loop ends: an order in which nothing is lost behind a balancer.

    SERVING   nobody has said anything
    DELAYED   readiness fails, all else goes on: balancers look elsewhere (--shutdown-delay)
    DRAINING  what waits in the backlog was taken, nothing new is; every answer is the last of its
              connection; idle connections have a grace for one more request (--close-grace)
    STOPPING  all is answered, or the time is over (--graceful-timeout): apps shut down

A second SIGINT, or SIGQUIT at any time, ends everything at once.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Timer
from reactor_run.frontend.reactors.supervisor import Supervisor

if TYPE_CHECKING:
    from reactor_run.frontend.service.server import Server

__all__ = ["Shutdown"]

SERVING, DELAYED, DRAINING, STOPPING = range(4)

_EXIT_MAX: Final = 10.0
"""Seconds that the end may take beyond the graceful timeout: an app's shutdown, killing, us."""
_SHUTDOWN_MIN: Final = 1.0
"""Seconds that apps have to shut down, however long their last exchanges took."""


class Shutdown:
    """The end of one service."""

    def __init__(
        self, server: Server, settings: Settings, acceptor: Acceptor, supervisor: Supervisor
    ) -> None:
        self.state = SERVING
        self.handed_over = False
        """The service goes on, with another front end."""
        self._server = server
        self._loop = server.loop
        self._settings = settings
        self._acceptor = acceptor
        self._supervisor = supervisor
        self._delay = Timer(self._drain)
        self._grace = Timer(self._grace_is_over)

    @property
    def begun(self) -> bool:
        """Somebody has said so: the service is not ready any more, whatever it still does."""
        return self.state != SERVING

    def begin(self, number: int) -> None:
        """The word to stop, as a signal; again and again, if it must be."""
        name = signal.Signals(number).name
        if number == signal.SIGQUIT:
            log.warning("%s: stopping at once", name)
            self._at_once()
        elif self.state == SERVING:
            log.info("%s: stopping", name)
            self._server.upgrade.cancel()
            self._server.notifier.stopping(
                self._settings.shutdown_delay + self._settings.graceful_timeout + _EXIT_MAX
            )
            if self._settings.shutdown_delay:
                self.state = DELAYED
                self._loop.set_deadline(self._delay, self._settings.shutdown_delay)
            else:
                self._drain()
        elif number == signal.SIGINT or self.state == STOPPING:
            log.warning("%s again: stopping at once", name)
            self._at_once()

    def _at_once(self) -> None:
        self._supervisor.kill()
        self._loop.stop()

    def hand_over(self, pid: int) -> None:
        """Another front end, process `pid`, accepts from the same listeners: leave them to it."""
        if self.state == SERVING:
            self.handed_over = True
            self._server.notifier.main_pid(pid)
            self._server.notifier.close()
            self._server.admin.leave()
            self._server.health.leave()
            self._drain(leave=True)

    def _drain(self, *, leave: bool = False) -> None:
        """Take nothing new, and finish what has begun."""
        self.state = DRAINING
        if not leave:
            self._acceptor.take_backlog()
        self._server.draining = True
        self._acceptor.end(leave=leave)
        self._acceptor.shut(self._server.close_grace)
        self._loop.set_deadline(self._grace, self._settings.graceful_timeout)
        self._loop.after_batch(self._stop_when_done)

    def _stop_when_done(self) -> None:
        if self.state == DRAINING and not (
            self._supervisor.in_flight or self._server.dispatcher.waiting or self._acceptor.busy
        ):
            self._stop_reactors(self._grace.deadline - self._loop.now)

    def _grace_is_over(self) -> None:
        if self.state == DRAINING:
            log.warning(
                "%d exchanges were not finished within the graceful timeout",
                self._supervisor.in_flight + self._server.dispatcher.waiting,
            )
            self._stop_reactors(0)

    def _stop_reactors(self, seconds: float) -> None:
        self.state = STOPPING
        self._supervisor.stop(max(seconds, _SHUTDOWN_MIN))
        self.end_when_over()

    def end_when_over(self) -> None:
        """Without reactors the service is over, once its last answers could be read."""
        if self.state == STOPPING and not (
            self._supervisor.reactors or any(client.lingers for client in self._acceptor.clients)
        ):
            self._loop.stop()
