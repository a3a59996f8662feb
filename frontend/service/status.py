"""The status of a service, for operators. `Status` reads all parts and changes none.

docs/admin.md documents the names in the report. They do not change.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Final

from reactor_run import __version__
from reactor_run.frontend.access_log.access_log import AccessLog
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.http1_state import Http1State
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics.failures import Failure
from reactor_run.frontend.metrics.recent import WINDOW
from reactor_run.frontend.metrics.requests import RequestMetrics
from reactor_run.frontend.reactors.process_usage import cpu_time, resident
from reactor_run.frontend.reactors.reactor import READY, Reactor
from reactor_run.frontend.reactors.zygote import Zygote
from reactor_run.frontend.service.lifecycle import Lifecycle
from reactor_run.frontend.service.pool import Pool, Pools
from reactor_run.frontend.sockets.listener import Listener
from reactor_run.logs import request_name

if TYPE_CHECKING:
    # It imports ssl, which takes memory.
    from reactor_run.frontend.tls.renewal import Renewal

__all__ = ["Status"]

_ERRORS_MAX: Final = 20
"""Most failed requests in a report."""
_RUNS_MAX: Final = 5
"""Most requests of one reactor in a report."""


class Status:
    """The status of one service."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        listeners: list[Listener],
        acceptor: Acceptor,
        pools: Pools,
        counters: Counters,
        lifecycle: Lifecycle,
        access_log: AccessLog | None,
        requests: RequestMetrics,
        by_app: Mapping[str, RequestMetrics],
        certificates: Renewal | None = None,
    ) -> None:
        """`by_app`: the requests of each app, by name, if there are several. `access_log`,
        `certificates`: None if there are none."""
        self._pools = pools
        self._certificates = certificates
        self._requests = requests
        self._by_app = by_app
        self._loop = loop
        self._counted = counters
        self._lifecycle = lifecycle
        self._access_log = access_log
        self._settings = settings
        self._listeners = listeners
        self._acceptor = acceptor
        self._started = loop.now

    def not_ready(self) -> str | None:
        """Return why a balancer should send no requests here; None if it should.

        A full queue is no reason: if all machines of a busy service failed, the whole service would
        be down. An upgrade is no reason either: the check is about the service, and the new front
        end serves it.
        """
        if self._lifecycle.handed_over:
            return None
        if self._lifecycle.stopping:
            return "the service is stopping"
        serving = [pool for pool in self._pools if not pool.failed]
        if len(self._pools) == 1 or not serving:
            return None if self._pools[0].dispatcher.reactors else "no reactor is ready"
        # An app that cannot start keeps no other one from serving.
        for pool in serving:
            if not pool.dispatcher.reactors:
                return f"no reactor of {pool.name} is ready"
        return None

    @property
    def generation(self) -> int:
        """The number of the generation that serves, of the first app."""
        return self._pools[0].supervisor.generation

    def serves(self) -> str:
        """Return which generations serve, as text."""
        if len(self._pools) == 1:
            return f"generation {self.generation} serves"
        parts = [f"{pool.name}: generation {pool.supervisor.generation}" for pool in self._pools]
        return f"{', '.join(parts)}"

    def line(self) -> str:
        """Return the current figures, in one line."""
        reactors = self._pools.reactors
        why = self._pools.reload_failure
        failure = f"; the last reload failed: {why}" if why else ""
        return (
            f"{sum(reactor.state is READY for reactor in reactors)} of {self._pools.wanted} "
            f"reactors ready, {self._pools.in_flight} requests in flight, "
            f"{self._pools.waiting} waiting, {self._pools.websockets} WebSockets, "
            f"{len(self._acceptor.clients) + self._acceptor.strangers} connections{failure}"
        )

    def report(self) -> dict[str, Any]:
        """Return the whole report, ready for JSON. Ages are in seconds, sizes in bytes."""
        reason = self.not_ready()
        reactors = self._pools.reactors
        first = self._pools[0]
        return {
            "version": __version__,
            "app": first.settings.app,
            "pid": os.getpid(),
            "rss": resident(os.getpid()),
            "cpu": cpu_time(os.getpid()),
            "uptime": self._age(self._started),
            "generation": self.generation,
            "reloading": self._pools.reloading,
            "reload_failure": self._pools.reload_failure,
            "ready": reason is None,
            "reason": reason,
            "maintenance": first.entry.maintenance,
            "listeners": [
                {"name": each.name, "origin": each.origin, "app": each.app or None}
                for each in self._listeners
            ],
            "tls": None if self._certificates is None else self._certificates.report(),
            "apps": [self._app(pool) for pool in self._pools],
            "reactors_wanted": self._pools.wanted,
            "reactors": [self._reactor(reactor) for reactor in reactors],
            "queue": {
                "waiting": self._pools.waiting,
                "size": self._pools.queue_size,
            },
            "connections": self.connections(),
            "lanes": {
                "mode": self._settings.lanes,
                "open": sum(reactor.lanes.open for reactor in reactors),
            },
            "recent": _recent(self._requests),
            "errors": [_error(failure) for failure in self._requests.failures[:_ERRORS_MAX]],
            "heuristics": self._heuristics(),
            "counters": self._totals(),
        }

    def _heuristics(self) -> dict[str, Any]:
        """Return what each heuristic has decided so far. A heuristic that is off has decided
        nothing."""
        turns, busy_poll = self._loop.turns, self._loop.busy_poll
        standbys = [pool.dispatcher.standby for pool in self._pools]
        decisions = [standby.decisions for standby in standbys]
        return {
            "sched_yield": {"given": turns.given, "pauses": turns.pauses},
            "busy_poll": {"found": busy_poll.found, "missed": busy_poll.missed},
            "set_aside": {
                "routes": sum(len(standby.routes.routes) for standby in standbys),
                "set_aside": sum(each.set_aside for each in decisions),
                "called_up": sum(each.called_up for each in decisions),
                "not_worth_it": sum(each.not_worth_it for each in decisions),
                "too_much": sum(each.too_much for each in decisions),
            },
        }

    def _age(self, since: float) -> float:
        return round(self._loop.now - since, 1)

    def _app(self, pool: Pool) -> dict[str, Any]:
        supervisor = pool.supervisor
        counted = self._by_app.get(pool.name, self._requests)
        return {
            "name": pool.name,
            "app": pool.settings.app,
            "generation": supervisor.generation,
            "reloading": supervisor.reloading,
            "reload_failure": supervisor.reload_failure,
            "failed": pool.failed,
            "maintenance": pool.entry.maintenance,
            "reactors_wanted": supervisor.wanted,
            "reactors": [reactor.name for reactor in supervisor.reactors],
            "zygotes": [self._zygote(zygote) for zygote in supervisor.zygotes],
            "in_flight": supervisor.in_flight,
            "queue": {"waiting": pool.dispatcher.waiting, "size": pool.settings.queue_size},
            "recent": _recent(counted),
            "requests": counted.by_status(),
            "reactor_starts": supervisor.started,
            "reactor_deaths": supervisor.deaths,
        }

    def _zygote(self, zygote: Zygote) -> dict[str, Any]:
        return {
            "pid": zygote.pid,
            "state": zygote.state.value,
            "age": self._age(zygote.started),
            "rss": resident(zygote.pid),
            "cpu": cpu_time(zygote.pid),
        }

    def _reactor(self, reactor: Reactor) -> dict[str, Any]:
        return {
            "name": reactor.name,
            "pid": reactor.pid,
            "generation": reactor.generation,
            "state": reactor.state.value,
            "in_flight": reactor.in_flight,
            "waiting_for_client": reactor.waiting_for_client,
            "websockets": reactor.websockets,
            "capacity": reactor.capacity,
            "served": reactor.served,
            "age": self._age(reactor.started),
            "rss": resident(reactor.pid),
            "cpu": cpu_time(reactor.pid),
            "step": round(reactor.step_seconds(self._loop.now), 3),
            **self._running(reactor),
        }

    def _running(self, reactor: Reactor) -> dict[str, Any]:
        """Return how many requests it runs, and those that have run longest.

        Event streams come last: they may run for hours.
        """
        running = reactor.running
        longest = nsmallest(
            _RUNS_MAX, running, key=lambda each: (each.event_stream, each.dispatched)
        )
        now = self._loop.now
        return {
            "running": len(running),
            "runs": [
                {
                    "request": request_name(each.head.method, each.head.target),
                    "seconds": round(now - each.dispatched, 3),
                }
                for each in longest
            ],
        }

    def connections(self) -> dict[str, Any]:
        """Return how many connections of clients are open, how many may be, and their states."""
        clients = self._acceptor.clients
        strangers = self._acceptor.strangers
        counts = Counter(client.state_name for client in clients)
        names = [state.value for state in Http1State if state is not Http1State.ENDED]
        states = {name: counts[name] for name in ("handshake", *names, "http2", "lingering")}
        return {
            "open": len(clients) + strangers,
            "max": self._acceptor.connections_max,
            "states": {"stranger": strangers, **states},
        }

    def _totals(self) -> dict[str, Any]:
        counters = self._counted
        reactors = self._pools.reactors
        own = counters.own_answers
        return {
            "connections": self._acceptor.accepted,
            "requests": counters.served_by_the_dead + sum(reactor.served for reactor in reactors),
            "answers": counters.answers_by_class(),
            "http2_connections": counters.http2_connections,
            "http2_refused": counters.http2_refused,
            "websockets": counters.websockets,
            "own_answers": {str(status): own[status] for status in sorted(own)},
            "refused": dict(sorted(counters.refused.items())),
            "replays": self._pools.replays,
            "moves": self._pools.moves,
            "reloads": self._pools.reloads,
            "reload_failures": self._pools.reload_failures,
            "reactor_starts": self._pools.started,
            "reactor_deaths": self._pools.deaths,
            "access_log_lost": 0 if self._access_log is None else self._access_log.lost,
        }


def _error(failure: Failure) -> dict[str, Any]:
    return {
        "time": round(failure.when, 3),
        "request": failure.name,
        "status": failure.status or None,
        "why": failure.why,
        "reactor": failure.reactor or None,
    }


def _recent(counted: RequestMetrics) -> dict[str, Any]:
    figures = counted.recent
    return {
        "seconds": WINDOW,
        "requests_per_second": figures.requests_per_second,
        "p50": _rounded(figures.p50),
        "p99": _rounded(figures.p99),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
