"""A worker killed with signal 9 every second, under load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import ClassVar

from bench.pinning import pinned
from bench.running import ROOT, Running
from bench.workload import Case, Setup, against
from bench.workloads.disruption import Disruption, Event, deployment


class Kills(Disruption):
    name: ClassVar[str] = "kills"
    title: ClassVar[str] = "A worker killed every second"
    about: ClassVar[str] = (
        "GET requests that take 2 ms of CPU arrive at a third of the capacity of two workers "
        "(Poisson). Every second the oldest worker is killed with signal 9; the server has to "
        "replace it. Failed is everything but an answer below 400. The quiet p99 is from the same "
        "server just before."
    )

    def __init__(self) -> None:
        self.cases = (
            Case(
                "kill-9",
                "kill -9 of a worker, once a second",
                deployment(),
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-wsgi", "gunicorn-gthread"),
                ),
                3,
                {"connections": 32, "path": "/burn/2", "every": 1.0},
                ("uvicorn",),
                cannot={
                    "hypercorn-uvloop": "stops altogether when a worker is killed",
                    "fastpysgi-asgi": "does not replace a worker that has ended",
                    "bjoern": "does not replace a worker that has ended",
                },
            ),
            Case(
                "ten",
                "kill -9 of one of four forked workers, ten times a second",
                replace(deployment(), workers=4),
                (),
                20,
                {"connections": 32, "path": "/", "every": 0.1},
                alone=("reactor-run-preload",),
            ),
        )

    def disturb(
        self, case: Case, server: Running, setup: Setup
    ) -> tuple[Sequence[Event], AbstractContextManager[Callable[[], int]]]:
        return (), _killing(server.pid, case["every"], setup)


@contextmanager
def _killing(pid: int, every: float, setup: Setup) -> Iterator[Callable[[], int]]:
    times = max(1, int(setup.seconds / every))
    command = [sys.executable, "-m", "bench.load.killer", str(pid), str(every), str(times)]
    with subprocess.Popen(
        pinned([setup.cores.load], command), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield lambda: int(process.communicate(timeout=10)[0] or 0)
        finally:
            process.kill()
