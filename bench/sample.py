"""One run against one server: its measures, and what its processes used meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench import proc
from bench.load.answers import Answers
from bench.load.wrk import Result
from bench.running import Running

_ERRORS: Final = 0.001
"""Share of failed requests from which on a run that should have none counts in no figure."""
_DISTURBED: Final = 0.02
"""Share of a server's core that others took, from which on the reader is warned."""
_SATURATED: Final = 0.95
"""Share of wrk's core that wrk used, from which on wrk may be what was measured."""


@dataclass
class Sample:
    """What one run gave. Times are seconds; names of measures are those of `bench.measures`."""

    measures: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Seconds of user and system time, by the role of the process."""
    requests: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Why it counts in no figure."""
    remarks: list[str] = field(default_factory=list)
    """What the reader should know."""


class Watch:
    """Watches a server's processes from `begin` to `finish`."""

    def __init__(self, server: Running, *, changing: bool) -> None:
        self._server = server
        self._changing = changing
        self.sample = Sample(problems=[] if changing else server.faults())
        self._before = server.usage()
        self._core = self._core_seconds()
        self._begin = time.monotonic()

    def finish(self) -> None:
        """Fill the sample's CPU times and remarks."""
        seconds = time.monotonic() - self._begin
        core = self._core_seconds() - self._core
        after = self._server.usage()
        if self._before.keys() != after.keys() and not self._changing:
            self.sample.problems.append("a process of the server ended or began meanwhile")
        used: dict[str, proc.Cpu] = {}
        for key, cpu in after.items():
            role = key[0]
            before = self._before.get(key, proc.Cpu(0, 0))
            used[role] = used.get(role, proc.Cpu(0, 0)) + (cpu - before)
        self.sample.cpu = {role: (cpu.user, cpu.system) for role, cpu in used.items()}
        if len(self._server.cores) == 1:
            # With two cores the load may be on one of them.
            others = max(0.0, core - sum(cpu.total for cpu in used.values())) / seconds
            self.sample.details["others on its core"] = others
            if others > _DISTURBED:
                self.sample.remarks.append("others used the server's core")

    def _core_seconds(self) -> float:
        return sum(proc.core_seconds(core) for core in self._server.cores)


@contextmanager
def watching(server: Running, *, changing: bool = False) -> Iterator[Sample]:
    """A sample with what the server's processes use during the block.

    `changing`: the block is to end and begin some of them.
    """
    watch = Watch(server, changing=changing)
    yield watch.sample
    watch.finish()


def add_wrk(sample: Sample, result: Result, *, forgiving: bool = False) -> Sample:
    """Take over what wrk saw. `forgiving`: failures are part of what is measured."""
    sample.requests = result.requests
    sample.measures["rate"] = result.rate
    if result.requests:
        sample.measures |= {name: result.latency[name] for name in ("p50", "p99", "p99.9")}
    add_cpu_per_request(sample)
    sample.details |= {"failures": dict(result.failures), "wrk busy": result.busy}
    failed = sum(result.failures.values())
    if result.failures and not forgiving:
        told = ", ".join(f"{count} {kind}" for kind, count in result.failures.items())
        heavy = failed > _ERRORS * result.requests
        (sample.problems if heavy else sample.remarks).append(f"wrk's errors: {told}")
    if not result.requests and not forgiving:
        sample.problems.append("no request was answered")
    if result.busy > _SATURATED:
        sample.remarks.append("wrk used up its core: the server may be faster than shown")
    return sample


def add_answers(sample: Sample, answers: Answers, kind: str | None = None) -> Sample:
    """Take over what a generator saw of one kind of request, or of all."""
    sample.requests = len(answers.all)
    percentiles = answers.percentiles(kind)
    sample.measures |= {name: percentiles[name] for name in ("p50", "p99", "p99.9") if percentiles}
    sample.measures["failed"] = float(answers.failed(kind))
    sample.details |= {"outcomes": answers.outcomes(), "generator late, p99": answers.late()}
    sample.remarks += answers.remarks
    add_cpu_per_request(sample)
    return sample


def by_role(used: Mapping[str, float]) -> dict[str, float]:
    """The measures of our own processes, of what each role has used; none for peers."""
    names = {"front end": "cpu_front", "reactor": "cpu_reactors"}
    return {names[role]: seconds for role, seconds in used.items() if role in names}


def add_cpu_per_request(sample: Sample) -> None:
    """The CPU time of all processes together, for one request."""
    if sample.requests and sample.cpu:
        used = sum(user + system for user, system in sample.cpu.values())
        sample.measures["cpu"] = used / sample.requests
