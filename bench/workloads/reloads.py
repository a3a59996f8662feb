"""A reload every two seconds, under load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from bench.running import Running
from bench.workload import Case, Setup, against
from bench.workloads.disruption import Disruption, Event, deployment, nothing_beside

_EVERY: Final = 2.0
"""Seconds."""


class Reloads(Disruption):
    name: ClassVar[str] = "reloads"
    title: ClassVar[str] = "A reload every two seconds"
    about: ClassVar[str] = (
        "GET requests that take 2 ms of CPU arrive at a third of the capacity of two workers "
        "(Poisson). Every two seconds the server is told to reload, by SIGHUP, as each one's "
        "documentation says. Failed is everything but an answer below 400. The quiet p99 is from "
        "the same server just before."
    )

    def __init__(self) -> None:
        self.cases = (
            Case(
                "sighup",
                "SIGHUP every two seconds",
                deployment(),
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-wsgi", "gunicorn-gthread"),
                ),
                4,
                {"connections": 32, "path": "/burn/2"},
                ("uvicorn",),
                ("reactor-run-preload",),
                cannot=dict.fromkeys(("fastpysgi-asgi", "bjoern"), "has no reload"),
            ),
        )

    def disturb(
        self, case: Case, server: Running, setup: Setup
    ) -> tuple[Sequence[Event], AbstractContextManager[Callable[[], int]]]:
        done: list[int] = []

        def reload() -> None:
            os.kill(server.pid, signal.SIGHUP)
            done.append(1)

        times = max(1, int(setup.seconds / _EVERY))
        events = [(0.25 + number * _EVERY, reload) for number in range(times)]
        return events, nothing_beside(lambda: len(done))
