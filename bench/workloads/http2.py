"""HTTP/2: many streams on few connections, with TLS and without, and what a connection takes."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.load import h2load, tls
from bench.running import Running
from bench.sample import Sample, add_cpu_per_request, watching
from bench.workload import Case, Setup, Workload, against

_PAIRS: Final = against(
    "reactor-run", "uvicorn-http2", "granian-asgi", "gunicorn-http2", "hypercorn-trio"
)
_UVLOOP: Final = against("reactor-run-uvloop", "uvicorn-http2", "granian-asgi")
_FLAGS: Final = (("granian", "--http auto"),)


class Http2(Workload):
    name: ClassVar[str] = "http2"
    title: ClassVar[str] = "HTTP/2: 16 connections with 10 streams each"
    loop: ClassVar[str] = "closed"
    about: ClassVar[str] = (
        "h2load asks for 13 bytes, or for 10 KB, on 160 streams at once. All processes of a server "
        "have one core. With TLS it is TLS 1.3 with a P-256 certificate; without, clients begin "
        "with HTTP/2. uvicorn speaks it by zttp, gunicorn by h2."
    )
    measures: ClassVar[tuple[str, ...]] = ("rate", "cpu")
    compared: ClassVar[tuple[str, ...]] = ("rate", "cpu")

    def __init__(self) -> None:
        def case(name: str, about: str, app: str, path: str, *, tls: bool) -> Case:
            deployment = Deployment(both(app), connections=200, flags=_FLAGS, tls=tls)
            values = {"connections": 16, "streams": 10, "path": path}
            return Case(name, about, deployment, (*_PAIRS, *_UVLOOP), 2, values)

        self.cases = (
            case("plain", "13 bytes, without TLS", "hello", "/", tls=False),
            case("tls", "13 bytes, with TLS", "hello", "/", tls=True),
            case("plain-10k", "10 KB, without TLS", "bodies", "/10000", tls=False),
            case("tls-10k", "10 KB, with TLS", "bodies", "/10000", tls=True),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        with watching(server) as sample:
            result = h2load.run(
                server.url + case["path"],
                cores=[setup.cores.load],
                connections=case["connections"],
                streams=case["streams"],
                seconds=setup.seconds,
            )
        sample.requests = result.requests
        sample.measures["rate"] = result.rate
        add_cpu_per_request(sample)
        if result.failed or not result.requests:
            sample.problems.append(f"{result.failed} of {result.requests} requests failed")
        if not result.protocol.startswith("h2"):
            sample.problems.append(f"{result.protocol} was spoken")
        return sample


class Http2Idle(Workload):
    name: ClassVar[str] = "http2-idle"
    title: ClassVar[str] = "1,000 idle connections with HTTP/2 and TLS"
    loop: ClassVar[str] = "none: the connections do nothing"
    about: ClassVar[str] = (
        "Each connection was answered once. Memory is what the resident memory of all processes "
        "grew by, divided by the number of connections."
    )
    measures: ClassVar[tuple[str, ...]] = ("per_connection",)
    compared: ClassVar[tuple[str, ...]] = ("per_connection",)
    start: ClassVar = "fresh"
    overhead: ClassVar[float] = 4.0

    def __init__(self) -> None:
        deployment = Deployment(both("hello"), connections=1500, flags=_FLAGS, tls=True)
        values = {"idle": 1000, "warm": 50}
        pairs = against("reactor-run", "uvicorn-http2", "granian-asgi")
        self.cases = (Case("1000", "1,000 connections", deployment, pairs, 1, values),)

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        count = setup.scaled(case["idle"])
        with watching(server) as sample:
            # What a first connection loads is not that of the others.
            with tls.idle(server.address, case["warm"], http2=True):
                pass
            before = server.memory()
            with tls.idle(server.address, count, http2=True):
                after = server.memory()
        grown = sum(after[role].resident - before[role].resident for role in before)
        sample.measures["per_connection"] = grown / count
        return sample
