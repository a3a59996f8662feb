"""2,000 clients of server-sent events, one event a second each."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.load import events
from bench.load.answers import percentile
from bench.running import Running
from bench.sample import Sample, watching
from bench.workload import Case, Setup, Workload, against

_LATE = 0.1
"""Seconds from which on an event is late."""


class Events(Workload):
    name: ClassVar[str] = "events"
    title: ClassVar[str] = "Server-sent events"
    loop: ClassVar[str] = "open: each event is due on a schedule of its own"
    about: ClassVar[str] = (
        "Each client has its own connection and its own second. An event is late if it arrives "
        "more than 100 ms after the app had it due, lost if it does not arrive. Latency is that "
        "of the events, CPU milliseconds are for each second of all clients together, memory is "
        "what the server grew by for each client. One core, one worker."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "cpu_second", "late", "lost", "p50", "p99", "p99.9", "per_client",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("cpu_second", "per_client")
    start: ClassVar = "fresh"
    overhead: ClassVar[float] = 3.0

    def __init__(self) -> None:
        deployment = Deployment(
            (("asgi", "bench.apps.events:asgi"),),
            connections=2000,
            flags=(("ours", "--concurrency 3000"),),
        )
        self.cases = (
            Case(
                "2000",
                "2,000 clients",
                deployment,
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-uvloop", "uvicorn"),
                ),
                4,
                {"clients": 2000},
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        clients = setup.scaled(case["clients"], 50)
        before = sum(m.resident for m in server.memory().values())
        with watching(server) as sample:
            seen = events.run(server.address, clients, setup.seconds)
            after = sum(m.resident for m in server.memory().values())
        if not seen.lateness:
            raise RunFailed("no event came")
        ordered = sorted(seen.lateness)
        used = sum(user + system for user, system in sample.cpu.values())
        sample.measures |= {
            # Those of connecting are in it, alike for every server.
            "cpu_second": used / setup.seconds,
            "late": float(sum(late > _LATE for late in ordered)),
            "lost": float(seen.lost),
            "p50": percentile(ordered, 0.5),
            "p99": percentile(ordered, 0.99),
            "p99.9": percentile(ordered, 0.999),
            "per_client": (after - before) / clients,
        }
        sample.details |= {"events": len(ordered), "connections closed by it": seen.ended}
        return sample
