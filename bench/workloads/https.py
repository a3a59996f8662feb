"""TLS: what handshakes do to the requests of others, and what a connection takes."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.load import tls
from bench.running import Running
from bench.sample import Sample, watching
from bench.workload import Case, Setup, Workload, against

_PAIRS: Final = against("reactor-run", "uvicorn", "granian-asgi")
_TLS: Final = "TLS 1.3 with a P-256 certificate. One core, one worker. "


class Hellos(Workload):
    name: ClassVar[str] = "hellos"
    title: ClassVar[str] = "A request beside 50 ClientHellos"
    loop: ClassVar[str] = "closed, one request at a time"
    about: ClassVar[str] = (
        f"{_TLS}50 clients send the first message of a handshake at once. Just after them, a "
        "client with a kept connection sends a request. What is measured is how long its answer "
        "takes."
    )
    measures: ClassVar[tuple[str, ...]] = ("p50", "p99")
    compared: ClassVar[tuple[str, ...]] = ("p50",)

    def __init__(self) -> None:
        deployment = Deployment(both("hello"), connections=200, tls=True)
        values = {"hellos": 50}
        self.cases = (Case("50", "50 ClientHellos at once", deployment, _PAIRS, 3, values),)

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        with watching(server) as sample:
            times = sorted(tls.beside_hellos(server.address, case["hellos"], setup.seconds))
        sample.requests = len(times)
        sample.measures |= {
            "p50": times[len(times) // 2],
            "p99": times[len(times) * 99 // 100],
        }
        return sample


class HttpsIdle(Workload):
    name: ClassVar[str] = "https-idle"
    title: ClassVar[str] = "1,000 idle connections with TLS"
    loop: ClassVar[str] = "none: the connections do nothing"
    about: ClassVar[str] = (
        f"{_TLS}Each connection was answered once. Memory is what the resident memory of all "
        "processes grew by, divided by the number of connections."
    )
    measures: ClassVar[tuple[str, ...]] = ("per_connection",)
    compared: ClassVar[tuple[str, ...]] = ("per_connection",)
    start: ClassVar = "fresh"
    overhead: ClassVar[float] = 4.0

    def __init__(self) -> None:
        deployment = Deployment(both("hello"), connections=1500, tls=True)
        self.cases = (
            Case("1000", "1,000 connections", deployment, _PAIRS, 1, {"idle": 1000, "warm": 50}),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        count = setup.scaled(case["idle"])
        with watching(server) as sample:
            # What a first handshake loads is not a connection's.
            with tls.idle(server.address, case["warm"]):
                pass
            before = server.memory()
            with tls.idle(server.address, count):
                after = server.memory()
        grown = sum(after[role].resident - before[role].resident for role in before)
        sample.measures["per_connection"] = grown / count
        return sample
