"""Finds reactors that have reached --max-requests, --max-rss or --max-lifetime.

Such a reactor is spent. The supervisor replaces spent reactors, one at a time.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.process_usage import resident
from reactor_run.frontend.reactors.reactor import READY, Reactor
from reactor_run.frontend.reactors.supervisor import Supervisor

__all__ = ["Recycling"]

_EVERY: Final = 1.0
"""Seconds between two checks of the reactors."""


class Recycling:
    """Checks the reactors that serve, and reports the spent ones to the supervisor."""

    def __init__(self, loop: Loop, supervisor: Supervisor, settings: Settings) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._settings = settings
        self._limits: dict[str, int] = {}
        """By name of the reactor: the requests that it may serve, with its random jitter."""
        self._timer = Timer(self._look)

    def begin(self) -> None:
        """Check from now on, if any limit is set."""
        settings = self._settings
        if settings.max_requests or settings.max_rss or settings.max_lifetime:
            self._loop.set_deadline(self._timer, _EVERY)

    def _look(self) -> None:
        self._loop.set_deadline(self._timer, _EVERY)
        reactors = self._supervisor.serving
        self._limits = {reactor.name: self._limit_of(reactor) for reactor in reactors}
        for reactor in reactors:
            if reactor.state is READY and (why := self._why(reactor)):
                self._supervisor.reactor_spent(reactor, why)

    def _limit_of(self, reactor: Reactor) -> int:
        limit = self._limits.get(reactor.name)
        if limit is None:
            import random  # here, because few services need it

            jitter = random.randint(0, self._settings.max_requests_jitter)
            limit = self._settings.max_requests + jitter
        return limit

    def _why(self, reactor: Reactor) -> str | None:
        settings = self._settings
        if settings.max_requests and reactor.served >= self._limits[reactor.name]:
            return f"it has served {reactor.served} requests"
        if settings.max_lifetime and self._loop.now - reactor.started >= settings.max_lifetime:
            return f"it has run for {self._loop.now - reactor.started:.0f} s"
        if settings.max_rss and (size := resident(reactor.pid)) > settings.max_rss:
            return f"it uses {size >> 20} MiB of memory"
        return None
