"""What kills, hangs, reloads and stops share: a quiet part, then the disruption, at one rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.errors import RunFailed
from bench.load import open as open_loop
from bench.load.answers import Answers, Outcome
from bench.load.client import request
from bench.running import Running, at_once
from bench.sample import Sample, add_answers, watching
from bench.workload import Case, Setup, Workload
from bench.workloads.closed import load

_MOST: Final = 1500.0
"""Arrivals a second that the generator keeps up with beside all else."""

Event = tuple[float, Callable[[], None]]


class Disruption(Workload):
    """A subclass says what happens during the second part."""

    loop: ClassVar[str] = "open"
    measures: ClassVar[tuple[str, ...]] = (
        "failed", "resets", "p99", "quiet_p99", "p99_ratio", "p50", "p99.9", "actions", "cpu",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("p99",)
    start: ClassVar = "fresh"
    broken: ClassVar[tuple[Outcome, ...]] = (
        Outcome.CONNECT, Outcome.RESET, Outcome.CLOSED, Outcome.CUT,
    )  # fmt: skip
    """What counts as reset or closed."""
    factor: ClassVar[float] = 1.7
    overhead: ClassVar[float] = 3.5

    def disturb(
        self, case: Case, server: Running, setup: Setup
    ) -> tuple[Sequence[Event], AbstractContextManager[Callable[[], int]]]:
        """What happens by the generator's clock, and what beside it; how often is told then."""
        raise NotImplementedError

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        with server.preferred() as preferred, at_once() as prompt:
            sample = self._sample(case, server, setup)
        if not (preferred and prompt):
            sample.remarks.append("others may have interrupted it: it takes CAP_SYS_NICE")
        return sample

    def _sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        capacity = load(case, server, setup.cores.load, 1).rate
        if not capacity:
            raise RunFailed("no capacity: nothing was answered")
        rate = min(capacity / 3, _MOST)
        quiet = self._load(case, server, rate, setup.seconds / 2, setup.round, ())
        events, beside = self.disturb(case, server, setup)
        with watching(server, changing=True) as sample, beside as count:
            answers = self._load(case, server, rate, setup.seconds, setup.round + 1000, events)
            actions = count()
        add_answers(sample, answers)
        calm = quiet.percentiles().get("p99")
        p99 = sample.measures.get("p99")
        broken = sum(answer.outcome in self.broken for answer in answers.all)
        sample.measures |= {"resets": float(broken), "actions": float(actions)}
        if calm and p99:
            sample.measures |= {"quiet_p99": calm, "p99_ratio": p99 / calm}
        sample.details |= {"rate": rate, "quiet": quiet.outcomes()}
        if quiet.failed():
            sample.remarks.append(f"{quiet.failed()} requests failed in the quiet part")
        return sample

    @staticmethod
    def _load(
        case: Case, server: Running, rate: float, seconds: float, seed: int, events: Sequence[Event]
    ) -> Answers:
        return open_loop.run(
            server.address,
            [(when, "get") for when in open_loop.poisson(rate, seconds, seed)],
            {"get": request(case["path"])},
            seconds,
            events=events,
        )


def deployment() -> Deployment:
    """Two workers of an app that takes 2 ms of CPU."""
    return Deployment(
        both("slow"),
        workers=2,
        cores=2,
        flags=(
            # Without the first a worker that dies is not replaced; the default pause is 3.5 s.
            ("granian", "--respawn-failed-workers --respawn-interval 0.1"),
        ),
    )


def nothing_beside(count: Callable[[], int]) -> AbstractContextManager[Callable[[], int]]:
    """For disruptions that the generator's clock does alone."""
    return nullcontext(count)
