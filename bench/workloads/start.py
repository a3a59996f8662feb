"""From the command to the first answer, and the memory that it then has."""

from __future__ import annotations

import time
from typing import ClassVar

from bench.deployment import Deployment, both
from bench.running import Running
from bench.sample import Sample
from bench.workload import Case, Setup, Starter, Workload, against

_SETTLE = 0.3
"""Seconds from the first answer until memory is looked at."""


class Start(Workload):
    name: ClassVar[str] = "start"
    title: ClassVar[str] = "Start, and memory at rest"
    loop: ClassVar[str] = "one request"
    about: ClassVar[str] = (
        "The time from starting the command to the first answer with status 200, asked for every "
        "5 ms, on one core; Python's compiled files are there. Memory is the proportional set "
        "size of all processes (a page that several have is divided among them), after that one "
        "answer. FastAPI and Flask are what is mostly imported."
    )
    measures: ClassVar[tuple[str, ...]] = ("start", "rest")
    compared: ClassVar[tuple[str, ...]] = ("start", "rest")
    start: ClassVar = "own"
    overhead: ClassVar[float] = 1.7

    def __init__(self) -> None:
        hello = Deployment(both("hello"))
        real = Deployment(
            (("asgi", "bench.apps.fastapi_items:app"), ("wsgi", "bench.apps.flask_page:app"))
        )
        pairs = (
            *against("reactor-run", "uvicorn", "granian-asgi", "hypercorn-trio"),
            *against("reactor-run-wsgi", "gunicorn-gthread", "granian-wsgi"),
        )
        self.cases = (
            Case("hello", "hello", hello, pairs, 0, {}, ("uvicorn",)),
            Case("frameworks", "FastAPI and Flask", real, pairs, 0),
        )

    def sample_start(self, case: Case, start: Starter, setup: Setup) -> Sample:
        with start() as server:
            return self._look(server)

    @staticmethod
    def _look(server: Running) -> Sample:
        time.sleep(_SETTLE)
        memory = server.memory()
        rest = sum(each.share for each in memory.values())
        return Sample(
            measures={"start": server.started_in, "rest": float(rest)},
            details={"memory": {role: each.share for role, each in memory.items()}},
            problems=server.faults(),
        )
