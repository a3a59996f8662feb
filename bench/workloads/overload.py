"""Twice as much as there is capacity for."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.errors import RunFailed
from bench.load import open as open_loop
from bench.load.answers import Outcome
from bench.load.client import request
from bench.running import Running
from bench.sample import Sample, add_answers, watching
from bench.workload import Case, Setup, Workload, against
from bench.workloads.closed import load

QUEUE_TIMEOUT: Final = 1.0
"""Seconds, of reactor-run."""
_MOST: Final = 3000.0
"""Arrivals a second that the generator keeps up with."""


class Overload(Workload):
    name: ClassVar[str] = "overload"
    title: ClassVar[str] = "Overload: twice the capacity"
    loop: ClassVar[str] = "open"
    about: ClassVar[str] = (
        "The app uses 2 ms of CPU. Capacity is what a closed loop of 32 connections gets out of "
        "the same server just before; then requests arrive at twice that rate (Poisson), and "
        "latency counts from when they were due. Goodput is what was answered within the time, "
        "relative to capacity. One core, one worker, one thread. Each server is set to what it "
        "offers against overload: reactor-run --queue-timeout 1, for ASGI --concurrency 8, uvicorn "
        "--limit-concurrency 200, granian --backpressure 200; gunicorn has nothing of the sort. "
        "Clients wait 5 s."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "goodput", "p99", "p50", "p99.9", "capacity", "refused", "slowest_refusal",
        "lost_requests", "cpu",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("goodput", "p99")
    factor: ClassVar[float] = 1.5
    overhead: ClassVar[float] = 2.0

    def __init__(self) -> None:
        deployment = Deployment(
            both("slow"),
            connections=8000,
            flags=(
                ("ours", f"--queue-timeout {QUEUE_TIMEOUT:g}"),
                ("reactor-run", "--concurrency 8"),
                ("uvicorn", "--limit-concurrency 200"),
                ("granian", "--backpressure 200"),
            ),
        )
        self.cases = (
            Case(
                "twice",
                "arrivals at twice the capacity",
                deployment,
                (
                    *against("reactor-run", "uvicorn", "granian-asgi"),
                    *against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread"),
                ),
                3,
                {"connections": 32, "path": "/burn/2"},
                ("uvicorn",),
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        capacity = load(case, server, setup.cores.load, setup.seconds / 2).rate
        if not capacity:
            raise RunFailed("no capacity: nothing was answered")
        if not setup.round:
            return Sample()
        rate = min(2 * capacity, _MOST)
        arrivals = open_loop.poisson(rate, setup.seconds, setup.round)
        with watching(server) as sample:
            answers = open_loop.run(
                server.address,
                [(when, "burn") for when in arrivals],
                {"burn": request(case["path"])},
                setup.seconds,
                connections=16,
            )
        add_answers(sample, answers)
        refusals = [a.latency for a in answers.all if a.outcome is Outcome.REFUSED]
        sample.measures |= {
            "goodput": answers.answered_in_time() / answers.seconds / capacity,
            "capacity": capacity,
            "refused": float(len(refusals)),
            "slowest_refusal": max(refusals, default=0.0),
            "lost_requests": float(answers.failed() - len(refusals)),
        }
        return sample
