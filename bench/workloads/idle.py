"""10,000 idle connections: their memory, and what is left for the others."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Set
from contextlib import contextmanager
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
        "number; the kernel's own is not in it. Apart from that, what each of the second half "
        "adds in the processes that run the app, where those are others: small caches fill up "
        "before. The server has served at full speed before, so that what grows is the "
        "connections'. wrk measures 64 others, without and beside them, in the same run. One "
        "core, one worker; every server is set to allow so many and to keep them for 75 s."
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
        core = setup.cores.load
        wanted = setup.scaled(case["idle"], 2)
        count = min(wanted, _allowed()) // 2 * 2
        without = load(case, server, core, setup.seconds)
        before = server.memory()
        with (
            idle.idle(server.address, count // 2) as first,
            _halfway(server) as halfway,
            idle.idle(server.address, count // 2, first=count // 2) as second,
        ):
            after = server.memory()
            with watching(server) as sample:
                result = load(case, server, core, setup.seconds)
            left = idle.still_open(first) + idle.still_open(second)
        add_wrk(sample, result)
        workers = {program.rest for _, program in server.leaders} & before.keys()
        sample.measures |= {
            "per_connection": _grown(before, after, before.keys()) / count,
            "without": without.rate,
            "beside": result.rate / without.rate if without.rate else 0.0,
        }
        if workers:
            sample.measures["in_workers"] = _grown(halfway, after, workers) / (count / 2)
        if count < wanted:
            sample.remarks.append(f"only {count} connections: more files may not be opened here")
        if left < count:
            sample.remarks.append(f"the server closed {count - left} of the idle connections")
        return sample


@contextmanager
def _halfway(server: Running) -> Iterator[dict[str, Memory]]:
    yield server.memory()


def _allowed() -> int:
    """Connections that a server can hold which counts on two files for each, beside wrk's."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 300


def _grown(before: dict[str, Memory], after: dict[str, Memory], roles: Set[str]) -> float:
    """Bytes by which the processes of these roles have grown."""
    nothing = Memory(0, 0)
    return float(sum(after.get(role, nothing).resident - before[role].resident for role in roles))
