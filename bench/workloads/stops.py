"""A server that is told to stop, under load: whom does it leave without an answer?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from bench.load.answers import Outcome
from bench.running import Running
from bench.workload import Case, Setup, against
from bench.workloads.disruption import Disruption, Event, deployment, nothing_beside


class Stops(Disruption):
    name: ClassVar[str] = "stops"
    title: ClassVar[str] = "A stop under load"
    about: ClassVar[str] = (
        "GET requests that take 2 ms of CPU arrive at a third of the capacity of two workers "
        "(Poisson), over kept connections. Half-way the server gets SIGTERM. Connections that are "
        "refused from then on are as they should be, a balancer takes those elsewhere; requests "
        "that were sent and never answered are not, and are what is counted."
    )
    measures: ClassVar[tuple[str, ...]] = ("resets", "p99", "quiet_p99", "p50")
    broken: ClassVar = (Outcome.RESET, Outcome.CLOSED, Outcome.CUT, Outcome.TIMEOUT)

    def __init__(self) -> None:
        self.cases = (
            Case(
                "sigterm",
                "SIGTERM half-way",
                deployment(),
                (
                    *against("reactor-run", "uvicorn", "granian-asgi", "hypercorn-uvloop"),
                    *against("reactor-run-wsgi", "gunicorn-gthread"),
                ),
                3,
                {"connections": 32, "path": "/burn/2"},
            ),
        )

    def disturb(
        self, case: Case, server: Running, setup: Setup
    ) -> tuple[Sequence[Event], AbstractContextManager[Callable[[], int]]]:
        def stop() -> None:
            os.kill(server.pid, signal.SIGTERM)

        return [(setup.seconds / 2, stop)], nothing_beside(lambda: 1)
