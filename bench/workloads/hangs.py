"""A worker that stops dead, as one does in a lock or on a disk that hangs, under load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import ClassVar

from bench import proc
from bench.running import Running
from bench.workload import Case, Setup, against
from bench.workloads.disruption import Disruption, Event, deployment, nothing_beside


class Hangs(Disruption):
    name: ClassVar[str] = "hangs"
    title: ClassVar[str] = "A worker that hangs"
    about: ClassVar[str] = (
        "GET requests that take 2 ms of CPU arrive at a third of the capacity of two workers "
        "(Poisson). Half a second later the oldest worker is stopped with SIGSTOP, and nobody "
        "wakes it. Servers that look for such workers are told to give up on one after two "
        "seconds; a client gives up after five. Failed is everything but an answer below 400."
    )

    def __init__(self) -> None:
        self.cases = (
            Case(
                "sigstop",
                "SIGSTOP of a worker",
                replace(
                    deployment(),
                    flags=(
                        *deployment().flags,
                        ("reactor-run", "--timeout 2 --request-timeout 4"),
                        ("gunicorn", "--timeout 2"),
                        ("uvicorn", "--timeout-worker-healthcheck 2"),
                    ),
                ),
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-wsgi", "gunicorn-gthread"),
                ),
                5,
                {"connections": 32, "path": "/burn/2"},
            ),
        )

    def disturb(
        self, case: Case, server: Running, setup: Setup
    ) -> tuple[Sequence[Event], AbstractContextManager[Callable[[], int]]]:
        def stop() -> None:
            os.kill(proc.workers(server.pid)[0], signal.SIGSTOP)

        return [(0.5, stop)], nothing_beside(lambda: 1)
