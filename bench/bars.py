"""What the comparison must come to, and whether it did: the first table of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.records import Results
from bench.workloads.overload import QUEUE_TIMEOUT

Values = Sequence[tuple[str, float]]
"""What was measured, each with what it is of."""

_ANYBODY: Final = "*"


@dataclass(frozen=True)
class Bar:
    """One line: what is wanted, how it is found, and on which side of the bound it must be."""

    wanted: str
    find: Callable[[Results], Values]
    bound: float
    at_most: bool = False
    read: str = ""
    """Where to read what was tried: a heading of bench/README.md."""

    def measured(self, results: Results) -> tuple[str, float] | None:
        """The value furthest on the wrong side, and what it is of; None if there is none."""
        values = self.find(results)
        if not values:
            return None
        return (max if self.at_most else min)(values, key=lambda value: value[1])

    def is_met(self, results: Results) -> bool | None:
        """Whether it passes; None if it was not measured."""
        worst = self.measured(results)
        if worst is None:
            return None
        return worst[1] <= self.bound if self.at_most else worst[1] >= self.bound


def _ratios(cases: str, measure: str, ours: str, *peers: str) -> Callable[[Results], Values]:
    """Ours / peer in each of these cases (WORKLOAD/CASE, with spaces between them)."""

    def find(results: Results) -> Values:
        values = []
        for workload, _, case in (name.partition("/") for name in cases.split()):
            pairs = results.workloads.get(workload, {}).get("cases", {}).get(case, {}).get("pairs")
            for one, peer in pairs or ():
                if ours not in (_ANYBODY, one) or (peers and peer not in peers):
                    continue
                ratio = results.case(workload, case).ratio(one, peer, measure)
                if ratio:
                    values.append((f"{one} / {peer}, {workload}/{case}", ratio.median))
        return values

    return find


def _cheaper(cases: str, ours: str, peer: str, measure: str = "cpu") -> Callable[[Results], Values]:
    """The peer's figure / ours in each of these cases: above 1 ours costs less."""
    ratios = _ratios(cases, measure, ours, peer)
    return lambda results: [(what, 1 / ratio) for what, ratio in ratios(results)]


def _best(every: Callable[[Results], Values]) -> Callable[[Results], Values]:
    """The greatest of these values: that of the best of our servers."""

    def find(results: Results) -> Values:
        values = every(results)
        return [max(values, key=lambda value: value[1])] if values else []

    return find


def _values(cases: str, measure: str, *servers: str) -> Callable[[Results], Values]:
    """A measure of ours itself in each of these cases: its median."""

    def find(results: Results) -> Values:
        values = []
        for workload, _, case in (name.partition("/") for name in cases.split()):
            for server in servers:
                figure = results.case(workload, case).figure(server, measure)
                if figure:
                    values.append((f"{server}, {workload}/{case}", figure.median))
        return values

    return find


def _greatest(cases: str, measure: str, *servers: str) -> Callable[[Results], Values]:
    """A measure of ours that no run may exceed: its greatest."""

    def find(results: Results) -> Values:
        values = []
        for workload, _, case in (name.partition("/") for name in cases.split()):
            for server in servers:
                figure = results.case(workload, case).figure(server, measure)
                if figure:
                    values.append((f"{server}, {workload}/{case}", figure.high))
        return values

    return find


_ASGI: Final = "reactor-run"
_UVLOOP: Final = "reactor-run-uvloop"
_WSGI: Final = "reactor-run-wsgi"
_ACCESS_LOG: Final = "reactor-run-access-log"
_METRICS: Final = "reactor-run-metrics"
_HOOKS: Final = "reactor-run-hooks"
_PRELOAD: Final = "reactor-run-preload"
_POOLS: Final = "pools/kill pools/hang pools/reload pools/overload"
_KINDS: Final = {
    _ASGI: "ASGI on Trio",
    _UVLOOP: "ASGI on uvloop",
    _WSGI: "WSGI",
    _ACCESS_LOG: "ASGI on Trio",
    _METRICS: "ASGI on Trio",
    _HOOKS: "ASGI on Trio",
}
_OURS: Final = (_ASGI, _WSGI)


def _hello(peer: str, bound: float, ours: str = _ASGI) -> Bar:
    kind = _KINDS.get(ours, "plain lanes")
    return Bar(
        f"hello, {kind}, one core, 64 connections: requests/s >= {bound:g} x {peer}",
        _ratios("hello/64", "rate", ours, peer),
        bound,
        read="what-a-request-costs",
    )


def _cpu(
    what: str,
    cases: str,
    ours: str,
    peer: str,
    bound: float,
    measure: str = "cpu",
    read: str = "what-a-request-costs",
) -> Bar:
    wanted = f"{what}, {_KINDS[ours]}: CPU time of {peer} / ours >= {bound:g}"
    return Bar(wanted, _cheaper(cases, ours, peer, measure), bound, read=read)


def _front(what: str, case: str, microseconds: float) -> Bar:
    seconds = _values(case, "cpu_front", _ASGI)
    return Bar(
        f"{what}: the front end takes at most {microseconds:g} µs of CPU a request",
        lambda results: [(of, 1e6 * value) for of, value in seconds(results)],
        microseconds,
        at_most=True,
        read="large-bodies",
    )


_REAL: Final[Sequence[Bar]] = (
    _cpu("an app that awaits sleep(0)", "real/await-0", _UVLOOP, "uvicorn", 0.9),
    _cpu("an app that awaits sleep(0)", "real/await-0", _ASGI, "uvicorn", 1.2),
    _cpu("an app that awaits 5 ms", "real/await-5", _UVLOOP, "uvicorn", 0.9),
    _cpu("an app that awaits 5 ms", "real/await-5", _ASGI, "uvicorn", 0.65),
    _cpu("a browser's requests", "real/browser", _ASGI, "uvicorn", 1.5),
    _cpu("a browser's requests", "real/browser", _ASGI, "granian-asgi", 1.2),
    _cpu("an API client's requests", "real/api", _ASGI, "uvicorn", 1.45),
    _cpu("an API client's requests", "real/api", _ASGI, "granian-asgi", 1.2),
    _cpu("a browser's and an API's", "real/browser real/api", _WSGI, "gunicorn-gthread", 8),
    _cpu("a browser's and an API's", "real/browser real/api", _WSGI, "granian-wsgi", 0.85),
    Bar(
        "FastAPI with a backend, on its best runtime: CPU time of uvicorn / ours >= 1.15",
        _best(_cheaper("real/fastapi", _ANYBODY, "uvicorn")),
        1.15,
        read="frameworks",
    ),
    Bar(
        "FastAPI with a backend, on its best runtime: CPU time of granian-asgi / ours >= 1",
        _best(_cheaper("real/fastapi", _ANYBODY, "granian-asgi")),
        1.0,
        read="frameworks",
    ),
    *(
        _cpu(f"answers of {size}", f"real/answer-{case}", _ASGI, peer, bound, read="large-bodies")
        for case, size, *bounds in (
            ("10k", "10 KB", 1.1, 1.1),
            ("64k", "64 KiB", 0.8, 0.8),
            ("100k", "100 KB", 0.75, 0.8),
            ("1m", "1 MB", 0.9, 1.0),
        )
        for peer, bound in zip(("uvicorn", "granian-asgi"), bounds, strict=True)
    ),
    *(
        _cpu(what, cases, _ASGI, peer, bound, read="large-bodies")
        for what, cases, peer, bound in (
            ("uploads of 100 KB and 1 MB", "real/upload-100k real/upload-1m", "uvicorn", 0.8),
            ("uploads of 100 KB and 1 MB", "real/upload-100k real/upload-1m", "granian-asgi", 0.9),
            ("1,000 chunks of 100 bytes", "real/chunks", "uvicorn", 0.85),
            ("1,000 chunks of 100 bytes", "real/chunks", "granian-asgi", 1.0),
        )
    ),
    *(
        _cpu(
            "500 and 1,000 event streams, per event",
            "events/500 events/1000",
            ours,
            peer,
            bound,
            "cpu_event",
            "large-bodies",
        )
        for ours, peer, bound in (
            (_UVLOOP, "uvicorn", 0.8),
            (_UVLOOP, "granian-asgi", 0.7),
            (_ASGI, "uvicorn", 0.45),
            (_ASGI, "granian-asgi", 0.4),
        )
    ),
    *(
        _cpu(f"WebSockets, {what}", f"websockets/{case}", ours, peer, bound, read="websockets")
        for what, case, ours, peer, bound in (
            ("echo of 100 bytes", "echo-100", _ASGI, "uvicorn", 0.85),
            ("echo of 100 bytes", "echo-100", _UVLOOP, "uvicorn", 0.95),
            ("echo of 100 bytes", "echo-100", _UVLOOP, "granian-asgi", 1.1),
            ("echo of 100 bytes", "echo-100", _ASGI, "hypercorn-trio", 2.0),
            ("echo of 100 bytes", "echo-100", _UVLOOP, "hypercorn-uvloop", 2.0),
            ("echo of 10 KiB", "echo-10k", _ASGI, "uvicorn", 0.6),
            ("echo of 10 KiB", "echo-10k", _ASGI, "uvicorn-wsproto", 1.3),
            ("a message to 5,000", "all", _ASGI, "uvicorn", 1.0),
        )
    ),
    Bar(
        "9,500 idle WebSockets: at most 14 KiB each, over all processes",
        _values("websockets/idle", "per_client", _ASGI, _UVLOOP),
        14 * 1024,
        at_most=True,
        read="websockets",
    ),
    Bar(
        "9,500 idle WebSockets: at most 5 ms of CPU a second",
        _values("websockets/idle", "cpu_second", _ASGI, _UVLOOP),
        0.005,
        at_most=True,
        read="websockets",
    ),
    _cpu("16 requests pipelined", "real/pipelined", _ASGI, "uvicorn", 1.0),
    _cpu("hello, identical requests, 64 connections", "real/hello", _ASGI, "uvicorn", 1.55),
    Bar(
        "an API client's requests, two cores, nothing pinned, 8 connections: "
        "requests/s >= 0.95 x uvicorn",
        _ratios("real/api-8", "rate_two", _ASGI, "uvicorn"),
        0.95,
        read="what-a-request-costs",
    ),
    Bar(
        "the same with 64 connections: requests/s >= 1.2 x uvicorn",
        _ratios("real/api", "rate_two", _ASGI, "uvicorn"),
        1.2,
        read="what-a-request-costs",
    ),
    Bar(
        "a file of 256 MiB by WSGI's file_wrapper: CPU seconds per GiB <= 0.3",
        _values("gigabyte/file", "cpu_gib", _WSGI),
        0.3,
        at_most=True,
        read="large-bodies",
    ),
    Bar(
        "a file of 256 MiB by ASGI's pathsend: CPU seconds per GiB <= 0.25",
        _values("gigabyte/pathsend", "cpu_gib", _ASGI),
        0.25,
        at_most=True,
        read="large-bodies",
    ),
    Bar(
        "the same: CPU <= 0.5 x granian",
        _ratios("gigabyte/pathsend", "cpu_gib", _ASGI, "granian-asgi"),
        0.5,
        at_most=True,
        read="large-bodies",
    ),
    _front("answers of 10 KB", "real/answer-10k", 10),
    _front("answers of 1 MB", "real/answer-1m", 60),
)

_STATIC: Final[Sequence[Bar]] = (
    Bar(
        "files of 2 KiB and 1 MiB: requests/s >= granian",
        _ratios("static-files/2k static-files/1m", "rate", _ASGI, "granian-asgi"),
        1.0,
        read="what-a-request-costs",
    ),
    _cpu("files of 1 MiB", "static-files/1m", _ASGI, "granian-asgi", 1.0),
)

_SWITCHED_ON: Final[Sequence[Bar]] = (
    _cpu("hello with an access log", "switched-on/access-log", _ACCESS_LOG, _ASGI, 0.85),
    _cpu(
        "hello, both with an access log",
        "switched-on/access-log",
        _ACCESS_LOG,
        "uvicorn-access-log",
        1.3,
    ),
    _cpu("hello, metrics scraped once per second", "switched-on/metrics", _METRICS, _ASGI, 0.98),
    _cpu("hello, hooks but none of requests", "switched-on/hooks", _HOOKS, _ASGI, 1.0),
)

_TLS: Final[Sequence[Bar]] = (
    _cpu("https, 13 bytes", "real/https-hello", _ASGI, "uvicorn", 1.3, read="tls"),
    _cpu("https, 13 bytes", "real/https-hello", _ASGI, "granian-asgi", 0.75, read="tls"),
    _cpu("https, answers of 100 KB", "real/https-100k", _ASGI, "uvicorn", 0.6, read="tls"),
    Bar(
        "a request beside 50 ClientHellos: its median at most 4 ms",
        _values("hellos/50", "p50", _ASGI),
        0.004,
        at_most=True,
        read="tls",
    ),
    Bar(
        "1,000 idle connections with TLS: at most 20 KiB resident each, over all processes",
        _values("https-idle/1000", "per_connection", _ASGI),
        20480,
        at_most=True,
        read="tls",
    ),
)

_HTTP2: Final[Sequence[Bar]] = (
    *(
        _cpu(f"HTTP/2 {how}, 13 bytes", f"http2/{case}", _ASGI, peer, bound, read="http2")
        for how, case, peer, bound in (
            ("without TLS", "plain", "granian-asgi", 0.9),
            ("without TLS", "plain", "hypercorn-trio", 10.0),
            ("without TLS", "plain", "gunicorn-http2", 10.0),
            ("with TLS", "tls", "granian-asgi", 0.75),
            ("with TLS", "tls", "uvicorn-http2", 2.0),
            ("with TLS", "tls", "hypercorn-trio", 10.0),
        )
    ),
    Bar(
        "1,000 idle HTTP/2 connections with TLS: at most 32 KiB resident each",
        _values("http2-idle/1000", "per_connection", _ASGI),
        32768,
        at_most=True,
        read="http2",
    ),
)

BARS: Final[Sequence[Bar]] = (
    *_REAL,
    *_SWITCHED_ON,
    *_STATIC,
    *_TLS,
    *_HTTP2,
    _hello("uvicorn", 1.5),
    _hello("granian-asgi", 1.4),
    _hello("fastpysgi-asgi", 1.0),
    _hello("hypercorn-trio", 25),
    _hello("nginx-uvicorn", 2),
    Bar(
        "hello, ASGI on Trio, 1 connection: p50 <= 1.3 x uvicorn",
        _ratios("hello/1", "p50", _ASGI, "uvicorn"),
        1.3,
        at_most=True,
        read="what-a-request-costs",
    ),
    _hello("gunicorn-gthread", 5, _WSGI),
    _hello("granian-wsgi", 0.9, _WSGI),
    _hello("nginx-gunicorn", 2, _WSGI),
    Bar(
        "hello, ASGI on Trio, one core, 64 connections: p99 <= uvicorn and granian",
        _ratios("hello/64", "p99", _ASGI, "uvicorn", "granian-asgi"),
        1,
        at_most=True,
        read="what-a-request-costs",
    ),
    _hello("uvicorn", 0.9, "reactor-run-plain"),
    Bar(
        "FastAPI, orders in JSON, on its best runtime: requests/s >= 1.15 x uvicorn",
        _best(_ratios("real/orders", "rate", _ANYBODY, "uvicorn")),
        1.15,
        read="frameworks",
    ),
    Bar(
        "1 GiB down and up: CPU seconds per GiB <= 1.8 x uvicorn",
        _ratios("gigabyte/down gigabyte/up", "cpu_gib", _ASGI, "uvicorn"),
        1.8,
        at_most=True,
        read="large-bodies",
    ),
    Bar(
        "uneven load (a), p99 of the fast <= 0.25 x the best peer",
        _ratios(
            "uneven/a-asgi-burn uneven/a-wsgi-burn uneven/a-wsgi-sleep",
            "p99",
            _ANYBODY,
        ),
        0.25,
        at_most=True,
        read="uneven-load",
    ),
    Bar(
        "the same with two slow clients and two threads a worker",
        _ratios("uneven/a-wsgi-sleep-2", "p99", _ANYBODY),
        0.25,
        at_most=True,
        read="uneven-load",
    ),
    Bar(
        "uneven load (b), p99 of the fast <= 0.5 x the best peer",
        _ratios(
            "uneven/b-asgi-0.1 uneven/b-asgi-0.3 uneven/b-wsgi-0.1 uneven/b-wsgi-0.3",
            "p99",
            _ANYBODY,
        ),
        0.5,
        at_most=True,
        read="uneven-load",
    ),
    Bar(
        "200 slow clients: throughput of the others >= 0.9 of without",
        _values("slow-clients/head slow-clients/body slow-clients/read", "beside", *_OURS),
        0.9,
        read="slow-and-idle-clients",
    ),
    Bar(
        "10,000 idle connections: at most 4 KiB resident each, over all processes",
        _values("idle/10000", "per_connection", *_OURS),
        4096,
        at_most=True,
        read="slow-and-idle-clients",
    ),
    Bar(
        "10,000 idle connections: none of it in the reactors (a further one adds < 64 bytes)",
        _values("idle/10000", "in_workers", *_OURS),
        64,
        at_most=True,
        read="slow-and-idle-clients",
    ),
    Bar(
        "10,000 idle connections: throughput beside them >= 0.9 of without",
        _values("idle/10000", "beside", *_OURS),
        0.9,
        read="slow-and-idle-clients",
    ),
    Bar(
        "overload at twice the capacity: goodput >= 0.9 of it",
        _values("overload/twice", "goodput", *_OURS),
        0.9,
        read="overload",
    ),
    Bar(
        "overload: no request is refused but by 503 with Retry-After, or lost",
        _greatest("overload/twice", "lost_requests", *_OURS),
        0,
        at_most=True,
        read="overload",
    ),
    Bar(
        f"overload: the slowest refusal within its queue deadline of {QUEUE_TIMEOUT:g} s",
        _greatest("overload/twice", "slowest_refusal", *_OURS),
        QUEUE_TIMEOUT,
        at_most=True,
        read="overload",
    ),
    Bar(
        "kill -9 every second: no failed request",
        _greatest("kills/kill-9", "failed", *_OURS),
        0,
        at_most=True,
        read="kills-and-reloads",
    ),
    Bar(
        "kill -9 every second: no reset",
        _greatest("kills/kill-9", "resets", *_OURS),
        0,
        at_most=True,
        read="kills-and-reloads",
    ),
    Bar(
        "reload every two seconds: no failed request",
        _greatest("reloads/sighup", "failed", *_OURS),
        0,
        at_most=True,
        read="kills-and-reloads",
    ),
    Bar(
        "reload every two seconds: no reset",
        _greatest("reloads/sighup", "resets", *_OURS),
        0,
        at_most=True,
        read="kills-and-reloads",
    ),
    Bar(
        "reload every two seconds: p99 <= 2 x the quiet one",
        _values("reloads/sighup", "p99_ratio", *_OURS),
        2,
        at_most=True,
        read="kills-and-reloads",
    ),
    Bar(
        "several apps: a fault of one fails no request of the others",
        _greatest(_POOLS, "failed", "reactor-run-pools"),
        0,
        at_most=True,
        read="several-apps",
    ),
    Bar(
        "several apps: with a fault in one, p99 of the others <= 1.5 x the quiet one",
        _values(_POOLS, "p99_ratio", "reactor-run-pools"),
        1.5,
        at_most=True,
        read="several-apps",
    ),
    Bar(
        "start to the first answer <= 1.5 x uvicorn with the same app",
        _ratios("start/hello start/frameworks", "start", _ASGI, "uvicorn"),
        1.5,
        at_most=True,
        read="start",
    ),
    Bar(
        "four FastAPI workers, with --preload on: memory <= 0.65 x uvicorn",
        _ratios("preload/fastapi", "rest", _PRELOAD, "uvicorn"),
        0.65,
        at_most=True,
        read="preload",
    ),
    Bar(
        "kill -9, with --preload on: the replacement is ready within 50 ms",
        lambda results: [
            (of, 1e3 * value)
            for of, value in _values("preload/fastapi", "replaced", _PRELOAD)(results)
        ],
        50,
        at_most=True,
        read="preload",
    ),
    Bar(
        "ten kill -9 a second, with --preload on: no failed request",
        _greatest("kills/ten", "failed", _PRELOAD),
        0,
        at_most=True,
        read="preload",
    ),
    Bar(
        "reload every two seconds, with --preload on: p99 <= 1.3 x the quiet one",
        _values("reloads/sighup", "p99_ratio", _PRELOAD),
        1.3,
        at_most=True,
        read="preload",
    ),
    Bar(
        "a saved file to its first answer, with --reload, <= 1.3 x uvicorn",
        _ratios("edits/bare edits/fastapi", "edit", _ASGI, "uvicorn"),
        1.3,
        at_most=True,
        read="start",
    ),
)
