"""Hello with features that are off by default: what each of them costs a request."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.load.requests import Load
from bench.load.scrape import scraped
from bench.running import Running
from bench.sample import Sample
from bench.servers import METRICS_HOST
from bench.workload import Case, Setup, against
from bench.workloads.real import Real

_CONNECTIONS: Final = 64
SCRAPED: Final = "reactor-run-metrics"


class SwitchedOn(Real):
    name: ClassVar[str] = "switched-on"
    title: ClassVar[str] = "Hello with features that are off by default"
    about: ClassVar[str] = (
        "What a feature costs, where a request costs least: identical requests, 13 bytes, 64 "
        "connections, one worker. A server with the feature is compared with the same server "
        "without it, and with peers that have it. Measured as the requests of real services."
    )

    def __init__(self) -> None:
        hello = Deployment(both("hello"), connections=200)
        values = {"load": Load("identical"), "connections": _CONNECTIONS}
        self.cases = (
            Case(
                "access-log",
                "the access log, to standard output",
                hello,
                against("reactor-run-access-log", "reactor-run", "uvicorn-access-log"),
                1,
                values,
            ),
            Case(
                "metrics",
                "metrics, scraped once per second",
                hello,
                against(SCRAPED, "reactor-run"),
                1,
                values,
            ),
            Case(
                "hooks",
                "a hooks module without hooks of requests",
                hello,
                against("reactor-run-hooks", "reactor-run"),
                1,
                values,
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        if server.server.name != SCRAPED:
            return super().sample(case, server, setup)
        with scraped(f"http://{METRICS_HOST}:{server.port}/metrics", every=1.0):
            return super().sample(case, server, setup)
