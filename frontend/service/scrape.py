"""The metrics of a service, for Prometheus. `Scrape` reads all parts and changes none.

docs/metrics.md documents each metric. No label holds what a client sent: methods, statuses, rules
and states are fixed lists, failures of handshakes are in the words of OpenSSL, and reactors are
numbered.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import time
from typing import TYPE_CHECKING, Final

from reactor_run import __version__
from reactor_run.frontend.access_log.access_log import AccessLog
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics.exposition import Metric, Sample, expose, expose_histograms
from reactor_run.frontend.metrics.histogram import Histogram
from reactor_run.frontend.metrics.requests import RequestMetrics
from reactor_run.frontend.reactors.process_usage import cpu_time, resident
from reactor_run.frontend.reactors.reactor import READY, RETIRING, STARTING, Reactor
from reactor_run.frontend.reactors.zygote import ZygoteState
from reactor_run.frontend.service.pool import Pool, Pools
from reactor_run.frontend.service.status import Status
from reactor_run.protocol.policy import RULES

if TYPE_CHECKING:
    # It imports ssl, which takes memory.
    from reactor_run.frontend.tls.renewal import Renewal

__all__ = ["METRICS", "Scrape"]


def _counter(name: str, meaning: str) -> Metric:
    return Metric(name, "counter", meaning)


def _gauge(name: str, meaning: str) -> Metric:
    return Metric(name, "gauge", meaning)


def _histogram(name: str, meaning: str) -> Metric:
    return Metric(name, "histogram", meaning)


METRICS: Final = {
    metric.name.removeprefix("reactor_run_"): metric
    for metric in (
        _counter("reactor_run_requests_total", "Requests that ended, by method and status class."),
        _histogram(
            "reactor_run_request_duration_seconds",
            "Time from the head of a request to the end of its response.",
        ),
        _histogram(
            "reactor_run_request_first_byte_seconds",
            "Time from the head of a request to the first byte of its response.",
        ),
        _histogram(
            "reactor_run_request_queue_seconds",
            "Time that a request waited until a reactor was given it.",
        ),
        _counter("reactor_run_request_bytes_total", "Bytes of requests, heads included."),
        _counter("reactor_run_response_bytes_total", "Bytes of responses, heads included."),
        _gauge("reactor_run_requests_in_flight", "Requests that reactors have."),
        _gauge("reactor_run_queue_requests", "Requests that wait for a reactor."),
        _gauge("reactor_run_queue_limit", "Requests that may wait: --queue-size."),
        _counter("reactor_run_rejections_total", "Requests that broke a rule, by rule."),
        _counter(
            "reactor_run_own_responses_total",
            "Responses that the front end made itself, by status.",
        ),
        _counter(
            "reactor_run_retries_total",
            "Requests that were given to another reactor, by reason: death of theirs, or moved.",
        ),
        _counter(
            "reactor_run_responses_in_pieces_total",
            "Large or streamed responses, by the way that they took: direct or relayed.",
        ),
        _counter(
            "reactor_run_grants_given_back_total",
            "Direct responses whose rest was relayed.",
        ),
        _gauge(
            "reactor_run_shared_client_sockets",
            "Duplicates of clients' sockets that reactors hold.",
        ),
        _gauge("reactor_run_websockets", "WebSockets that are open."),
        _counter("reactor_run_websockets_opened_total", "Connections that became WebSockets."),
        _counter(
            "reactor_run_websockets_closed_total",
            "WebSockets that ended, by close code; unknown: their reactor died.",
        ),
        _counter("reactor_run_websocket_seconds_total", "Time of WebSockets that ended."),
        _counter(
            "reactor_run_websocket_messages_total",
            "Messages of WebSockets that ended, by direction: received or sent.",
        ),
        _gauge("reactor_run_connections", "Connections of clients, by state."),
        _gauge("reactor_run_connections_limit", "Connections of clients that may be open."),
        _counter(
            "reactor_run_connections_accepted_total", "Connections of clients that were accepted."
        ),
        _counter("reactor_run_http2_connections_total", "Connections that spoke HTTP/2."),
        _counter(
            "reactor_run_http2_streams_refused_total",
            "Requests of HTTP/2 beyond those that a connection may have at once.",
        ),
        _counter("reactor_run_tls_handshakes_total", "TLS handshakes that succeeded, by version."),
        _counter(
            "reactor_run_tls_handshake_failures_total",
            "TLS handshakes that failed, by reason in the words of OpenSSL.",
        ),
        _gauge(
            "reactor_run_tls_certificate_expiry_timestamp_seconds",
            "When a certificate expires, since the epoch, by file.",
        ),
        _counter(
            "reactor_run_tls_certificate_reloads_total",
            "How often changed files of certificates were read, by outcome.",
        ),
        _gauge("reactor_run_reactors", "Reactor processes, by state."),
        _gauge("reactor_run_zygotes", "Zygotes, which fork reactors (--preload on), by state."),
        _gauge("reactor_run_zygote_resident_memory_bytes", "Resident memory of the zygotes."),
        _gauge("reactor_run_reactors_wanted", "Reactors that should serve."),
        _counter("reactor_run_reactor_starts_total", "Reactor processes that were started."),
        _counter(
            "reactor_run_reactor_deaths_total",
            "Serving reactors that died or were killed.",
        ),
        _counter("reactor_run_reloads_total", "Reloads that ended, by outcome."),
        _gauge("reactor_run_generation", "The number of the generation that serves."),
        _gauge(
            "reactor_run_reactor_resident_memory_bytes",
            "Resident memory of a reactor.",
        ),
        _counter(
            "reactor_run_reactor_cpu_seconds_total",
            "CPU time of a reactor, user and system.",
        ),
        _gauge("reactor_run_reactor_requests_in_flight", "Requests that a reactor has."),
        _gauge("reactor_run_reactor_capacity", "Requests that a reactor takes at once."),
        _counter("reactor_run_reactor_requests_total", "Requests that a reactor was given."),
        _counter(
            "reactor_run_reactor_stall_seconds_total",
            "Time of steps of apps that stalled a reactor's loop for more than 1 ms.",
        ),
        _gauge(
            "reactor_run_reactor_step_seconds",
            "How long the step of an app that runs in a reactor's loop has run; 0: none runs.",
        ),
        _counter(
            "reactor_run_access_log_lost_lines_total",
            "Lines of the access log that were lost.",
        ),
        _gauge("reactor_run_ready", "1 if /readyz has status 200, else 0."),
        _gauge("reactor_run_build_info", "Always 1; the labels tell the version."),
        _counter("process_cpu_seconds_total", "CPU time of the front end, user and system."),
        _gauge("process_resident_memory_bytes", "Resident memory of the front end."),
        _gauge("process_start_time_seconds", "When the front end started, since the epoch."),
        _gauge("process_open_fds", "Open descriptors of the front end."),
        _gauge("process_max_fds", "Descriptors that the front end may open."),
    )
}
"""Each metric, by its name without `reactor_run_`, in the order in which they are exposed."""


class Scrape:
    """The metrics of one service."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        status: Status,
        requests: Mapping[str, RequestMetrics],
        acceptor: Acceptor,
        pools: Pools,
        counters: Counters,
        access_log: AccessLog | None,
        certificates: Renewal | None = None,
    ) -> None:
        """`requests`: by the name of the app, if there are several. `access_log`, `certificates`:
        None if there are none."""
        self._certificates = certificates
        self._loop = loop
        self._settings = settings
        self._status = status
        self._requests = requests
        self._acceptor = acceptor
        self._pools = pools
        self._counters = counters
        self._access_log = access_log
        self._started = time()

    def text(self) -> str:
        """Return all metrics in the text format, without the last line end."""
        histograms: dict[str, Callable[[RequestMetrics], Histogram]] = {
            "request_duration_seconds": lambda counted: counted.duration,
            "request_first_byte_seconds": lambda counted: counted.first_byte,
            "request_queue_seconds": lambda counted: counted.queue,
        }
        samples = dict(self._samples())
        lines: list[str] = []
        for name, metric in METRICS.items():
            if metric.kind == "histogram":
                find = histograms[name]
                found = [(labels, find(counted)) for labels, counted in self._counted()]
                lines += expose_histograms(metric, found)
            else:
                lines += expose(metric, samples[name])
        return "\n".join(lines)

    def _samples(self) -> Iterator[tuple[str, Iterable[Sample]]]:
        """Yield the samples of each counter and gauge."""
        counters, pools = self._counters, self._pools
        acceptor = self._acceptor
        yield (
            "requests_total",
            [
                ({**labels, "method": method, "status": status}, count)
                for labels, counted in self._counted()
                for method, status, count in counted.by_method_and_status()
            ],
        )
        yield "request_bytes_total", [(each, counted.bytes_in) for each, counted in self._counted()]
        yield (
            "response_bytes_total",
            [(each, counted.bytes_out) for each, counted in self._counted()],
        )
        yield "requests_in_flight", self._by_app(lambda pool: pool.supervisor.in_flight)
        yield "queue_requests", self._by_app(lambda pool: pool.dispatcher.waiting)
        yield "queue_limit", self._by_app(lambda pool: pool.settings.queue_size)
        yield "rejections_total", [({"rule": rule}, counters.refused[rule]) for rule in RULES]
        yield (
            "own_responses_total",
            [({"status": str(status)}, count) for status, count in counters.own_answers.items()],
        )
        yield (
            "retries_total",
            [
                ({**self._label(pool), "reason": reason}, count)
                for pool in pools
                for reason, count in (
                    ("death", pool.dispatcher.replays),
                    ("moved", pool.dispatcher.moves),
                )
            ],
        )
        relayed = counters.in_pieces - counters.grants
        yield (
            "responses_in_pieces_total",
            [({"way": "direct"}, counters.grants), ({"way": "relayed"}, relayed)],
        )
        yield "grants_given_back_total", _one(counters.grants_given_back)
        shared = sum(len(reactor.clients) for reactor in pools.reactors)
        yield "shared_client_sockets", _one(shared)
        yield "websockets", self._by_app(lambda pool: pool.supervisor.websockets)
        yield "websockets_opened_total", _one(counters.websockets)
        websockets = [(labels, counted.websockets) for labels, counted in self._counted()]
        yield (
            "websockets_closed_total",
            [
                ({**labels, "code": code}, count)
                for labels, each in websockets
                for code, count in each.codes.items()
            ],
        )
        yield "websocket_seconds_total", [(labels, each.seconds) for labels, each in websockets]
        yield (
            "websocket_messages_total",
            [
                ({**labels, "direction": direction}, count)
                for labels, each in websockets
                for direction, count in (("received", each.received), ("sent", each.sent))
            ],
        )
        states = self._status.connections()["states"]
        yield "connections", [({"state": state}, count) for state, count in states.items()]
        yield "connections_limit", _one(acceptor.connections_max)
        yield "connections_accepted_total", _one(acceptor.accepted)
        yield "http2_connections_total", _one(counters.http2_connections)
        yield "http2_streams_refused_total", _one(counters.http2_refused)
        yield (
            "tls_handshakes_total",
            [({"version": each}, count) for each, count in counters.handshakes.items()],
        )
        yield (
            "tls_handshake_failures_total",
            [({"reason": each}, count) for each, count in counters.failed_handshakes.items()],
        )
        yield from self._of_certificates()
        yield "reactor_starts_total", self._by_app(lambda pool: pool.supervisor.started)
        yield "reactor_deaths_total", self._by_app(lambda pool: pool.supervisor.deaths)
        yield (
            "reloads_total",
            [
                ({**labels, "outcome": outcome}, count)
                for pool in pools
                for labels in [self._label(pool)]
                for outcome, count in (
                    ("success", pool.supervisor.generation - 1),
                    ("failure", pool.supervisor.reload_failures),
                )
            ],
        )
        yield "generation", self._by_app(lambda pool: pool.supervisor.generation)
        yield from self._of_reactors()
        lost = 0 if self._access_log is None else self._access_log.lost
        yield "access_log_lost_lines_total", _one(lost)
        yield "ready", _one(int(self._status.not_ready() is None))
        yield "build_info", [({"version": __version__}, 1)]
        yield from self._of_front_end()

    def _of_certificates(self) -> Iterator[tuple[str, Iterable[Sample]]]:
        renewal = self._certificates
        identities = [] if renewal is None else renewal.credentials.identities
        yield (
            "tls_certificate_expiry_timestamp_seconds",
            [({"file": each.certfile}, each.certificate.not_after) for each in identities],
        )
        outcomes = (0, 0) if renewal is None else (renewal.reloads, renewal.failures)
        yield (
            "tls_certificate_reloads_total",
            [({"outcome": "success"}, outcomes[0]), ({"outcome": "failure"}, outcomes[1])],
        )

    def _of_reactors(self) -> Iterator[tuple[str, Iterable[Sample]]]:
        pools = self._pools
        yield (
            "reactors",
            [
                (
                    {**self._label(pool), "state": state.value},
                    sum(reactor.state is state for reactor in pool.supervisor.reactors),
                )
                for pool in pools
                for state in (STARTING, READY, RETIRING)
            ],
        )
        yield (
            "zygotes",
            [
                (
                    {**self._label(pool), "state": state.value},
                    sum(zygote.state is state for zygote in pool.supervisor.zygotes),
                )
                for pool in pools
                for state in ZygoteState
            ],
        )
        yield (
            "zygote_resident_memory_bytes",
            self._by_app(lambda pool: sum(resident(each.pid) for each in pool.supervisor.zygotes)),
        )
        yield "reactors_wanted", self._by_app(lambda pool: pool.supervisor.wanted)

        def each(value: Callable[[Reactor], float]) -> list[Sample]:
            return [
                ({**self._label(pool), "reactor": reactor.name}, value(reactor))
                for pool in pools
                for reactor in pool.supervisor.reactors
            ]

        yield "reactor_resident_memory_bytes", each(lambda reactor: resident(reactor.pid))
        yield "reactor_cpu_seconds_total", each(lambda reactor: cpu_time(reactor.pid))
        yield "reactor_requests_in_flight", each(lambda reactor: reactor.in_flight)
        yield "reactor_capacity", each(lambda reactor: reactor.capacity)
        yield "reactor_requests_total", each(lambda reactor: reactor.served)
        yield "reactor_stall_seconds_total", each(lambda reactor: reactor.stall_seconds)
        now = self._loop.now
        yield "reactor_step_seconds", each(lambda reactor: reactor.step_seconds(now))

    def _label(self, pool: Pool) -> dict[str, str]:
        """Return the label that names the app, if there are several."""
        return {"app": pool.name} if len(self._pools) > 1 else {}

    def _counted(self) -> list[tuple[dict[str, str], RequestMetrics]]:
        """Return what was counted of requests, by the label that names the app."""
        if len(self._pools) == 1:
            return [({}, counted) for counted in self._requests.values()]
        return [({"app": name}, counted) for name, counted in self._requests.items()]

    def _by_app(self, value: Callable[[Pool], float]) -> list[Sample]:
        return [(self._label(pool), value(pool)) for pool in self._pools]

    def _of_front_end(self) -> Iterator[tuple[str, Iterable[Sample]]]:
        pid = os.getpid()
        yield "process_cpu_seconds_total", _one(cpu_time(pid))
        yield "process_resident_memory_bytes", _one(resident(pid))
        yield "process_start_time_seconds", _one(self._started)
        yield "process_open_fds", _one(len(os.listdir("/proc/self/fd")))
        yield "process_max_fds", _one(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _one(value: float) -> list[Sample]:
    return [({}, value)]
