"""10,000 idle connections: their memory, and what is left for the others."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar

from bench.deployment import Deployment, both
from bench.load import idle
from bench.proc import Memory
from bench.running import Running
from bench.sample import Sample, add_wrk, watching
from bench.workload import Case, Setup, Workload, against
from bench.workloads.closed import load


class Idle(Workload):
    name: ClassVar[str] = "idle"
    title: ClassVar[str] = "10,000 idle connections"
    loop: ClassVar[str] = "closed, beside connections that do nothing"
    about: ClassVar[str] = (
        "10,000 connections, each answered once and then kept, from several addresses of the "
        "loopback. Memory is what the resident memory of all processes grew by, divided by their "
        "number, and of it the part in the processes that run the app; the kernel's own is not in "
        "it. The server has served at full speed before, so that what grows is the connections'. "
        "wrk measures 64 others, without and beside them, in the same run. One core, one worker; "
        "every server is set to allow so many and to keep them for 75 s."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "per_connection", "in_workers", "beside", "without", "rate", "p99", "cpu",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("per_connection", "beside")
    start: ClassVar = "fresh"
    factor: ClassVar[float] = 2.0
    overhead: ClassVar[float] = 4.5

    def __init__(self) -> None:
        self.cases = (
            Case(
                "10000",
                "10,000 connections",
                Deployment(both("hello"), connections=10_500, threads=4),
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-wsgi", "gunicorn-gthread"),
                ),
                2,
                {"connections": 64, "idle": 10_000},
                ("uvicorn",),
                cannot={"gunicorn-sync": "keeps no connection open"},
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        core, count = setup.cores.load, setup.scaled(case["idle"])
        without = load(case, server, core, setup.seconds)
        before = server.memory()
        with idle.idle(server.address, count) as socks:
            after = server.memory()
            with watching(server) as sample:
                result = load(case, server, core, setup.seconds)
            left = idle.still_open(socks)
        add_wrk(sample, result)
        workers = {program.rest for _, program in server.leaders}
        sample.measures |= {
            "per_connection": _grown(before, after, before.keys()) / count,
            "without": without.rate,
            "beside": result.rate / without.rate if without.rate else 0.0,
        }
        if workers & before.keys():
            sample.measures["in_workers"] = _grown(before, after, before.keys() & workers) / count
        if left < count:
            sample.remarks.append(f"the server closed {count - left} of the idle connections")
        return sample


def _grown(before: dict[str, Memory], after: dict[str, Memory], roles: Set[str]) -> float:
    """Bytes by which the processes of these roles have grown."""
    nothing = Memory(0, 0)
    return float(sum(after.get(role, nothing).resident - before[role].resident for role in roles))
