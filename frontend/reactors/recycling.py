"""When a reactor has served for long enough: --max-requests, --max-rss, --max-lifetime.

Looked at once a second. Which reactor is replaced when, and that no two are at once, is the
supervisor's.
"""

from __future__ import annotations

import os
from typing import Final

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.reactor import READY, Reactor
from reactor_run.frontend.reactors.supervisor import Supervisor

__all__ = ["Recycling", "resident"]

_EVERY: Final = 1.0
"""Seconds between two looks."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Recycling:
    """Looks for reactors that are spent."""

    def __init__(self, loop: Loop, supervisor: Supervisor, settings: Settings) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._settings = settings
        self._limits: dict[str, int] = {}
        """Requests that each reactor may serve, by its name; drawn when it is first seen."""
        self._timer = Timer(self._look)

    def begin(self) -> None:
        """Look from now on, if there is anything to look for."""
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
            import random  # here, since hardly any service asks for it

            jitter = random.randint(0, self._settings.max_requests_jitter)
            limit = self._settings.max_requests + jitter
        return limit

    def _why(self, reactor: Reactor) -> str | None:
        settings = self._settings
        if settings.max_requests and reactor.served >= self._limits[reactor.name]:
            return f"it was given {reactor.served} requests"
        if settings.max_lifetime and self._loop.now - reactor.started >= settings.max_lifetime:
            return f"it has lived for {self._loop.now - reactor.started:.0f} seconds"
        if settings.max_rss and (size := resident(reactor.pid)) > settings.max_rss:
            return f"it takes {size >> 20} MiB of memory"
        return None


def resident(pid: int) -> int:
    """Bytes that are resident of a process (proc(5), statm); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
