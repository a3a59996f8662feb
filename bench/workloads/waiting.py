"""An app that waits: 10 ms of awaited sleep."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment, both
from bench.workload import Case, against
from bench.workloads.closed import Closed


class Waiting(Closed):
    name: ClassVar[str] = "waiting"
    title: ClassVar[str] = "Waiting: 10 ms of awaited sleep"
    about: ClassVar[str] = (
        "512 connections that each wait 10 ms could be answered 51,200 times a second by a server "
        "that cost nothing. One core, one worker. Trio's own sleep costs more than uvloop's, "
        "so each of our runtimes is shown."
    )

    def __init__(self) -> None:
        self.cases = (
            Case(
                "512",
                "512 connections",
                Deployment(both("slow"), connections=600),
                (
                    *against("reactor-run", "uvicorn", "hypercorn-trio"),
                    *against("reactor-run-uvloop", "uvicorn", "granian-asgi"),
                ),
                2,
                {"connections": 512, "path": "/sleep/10"},
            ),
        )
