"""What workloads share that load a server with wrk and nothing else."""

from __future__ import annotations

from typing import ClassVar

from bench.load import wrk
from bench.running import Running
from bench.sample import Sample, add_wrk, watching
from bench.workload import Case, Setup, Workload


class Closed(Workload):
    """wrk, by a case's `connections` and `path`."""

    loop: ClassVar[str] = "closed"
    measures: ClassVar[tuple[str, ...]] = ("rate", "p50", "p99", "p99.9", "cpu")
    compared: ClassVar[tuple[str, ...]] = ("rate", "p50", "p99", "cpu")

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        with watching(server) as sample:
            result = load(case, server, setup.cores.load, setup.seconds)
        return add_wrk(sample, result)


def load(case: Case, server: Running, core: int, seconds: float) -> wrk.Result:
    """Run wrk as the case says."""
    return wrk.run(
        server.url + case.values.get("path", "/"),
        cores=[core],
        connections=case["connections"],
        seconds=seconds,
    )
