"""What will be run, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench import schedule
from bench.servers import BY_NAME, OURS
from bench.workload import Case, Pair, Workload
from bench.workloads import WORKLOADS

_START: Final = 1.0
"""Seconds to start and stop a server."""
_QUICK_SECONDS: Final = 1.0
_QUICK_SCALE: Final = 0.1


class NotThere(ValueError):
    """No workload, case or server of that name."""


@dataclass(frozen=True)
class Options:
    """What the user has said."""

    rounds: int = 5
    seconds: float | None = None
    """Of the load in each run; None: as each case says."""
    warm_up: float = 1.0
    only: Sequence[str] = ()
    """Workloads, or cases as workload/case."""
    peers: Sequence[str] = ()
    """Names of servers, or of their families."""
    quick: bool = False
    cpu: bool = False
    """Only CPU time in lock-step, of the rows that take it."""

    @property
    def is_full(self) -> bool:
        """Whether the report may stand for the whole comparison."""
        return (
            not (self.only or self.peers or self.quick or self.cpu or self.seconds)
            and self.rounds >= 5
        )

    @property
    def scale(self) -> float:
        return _QUICK_SCALE if self.quick else 1.0


@dataclass(frozen=True)
class Planned:
    """One case, with the peers that were asked for."""

    workload: Workload
    case: Case
    seconds: float
    cost: float
    """Seconds that all of it takes."""


def make(options: Options) -> list[Planned]:
    """The cases to run, in order. Raises NotThere."""
    found = []
    before: set[tuple[str, object]] = set()
    for workload, case in _chosen(options.only):
        pairs = _pairs(case, options)
        chosen = replace(case, pairs=pairs)
        if not chosen.servers() or (options.quick and not options.only and not pairs):
            continue
        seconds = options.seconds or case.seconds
        if options.quick:
            seconds = min(seconds, _QUICK_SECONDS)
        cost = schedule.runs(chosen) * options.rounds * workload.cost(seconds)
        if workload.start == "kept":
            servers = {(name, case.deployment) for name in chosen.servers()}
            cost += len(servers - before) * (_START + workload.cost(options.warm_up))
            before = set(servers)
        elif workload.start == "fresh":
            cost += schedule.runs(chosen) * options.rounds * _START
        found.append(Planned(workload, chosen, seconds, cost))
    return found


def _chosen(only: Sequence[str]) -> list[tuple[Workload, Case]]:
    every = [(workload, case) for workload in WORKLOADS for case in workload.cases]
    if not only:
        return every
    known = {workload.name for workload, _ in every}
    known |= {f"{workload.name}/{case.name}" for workload, case in every}
    for name in only:
        if name not in known:
            names = ", ".join(workload.name for workload in WORKLOADS)
            raise NotThere(f"{name}: no such workload; there are {names}, and WORKLOAD/CASE")
    return [
        (workload, case)
        for workload, case in every
        if workload.name in only or f"{workload.name}/{case.name}" in only
    ]


def _pairs(case: Case, options: Options) -> tuple[Pair, ...]:
    families = {server.family for server in BY_NAME.values()} - BY_NAME.keys()
    for name in options.peers:
        if name not in BY_NAME.keys() | families:
            raise NotThere(f"{name}: no such server; there are {', '.join(BY_NAME)}")

    families &= set(options.peers)

    def wanted(peer: str) -> bool:
        if options.quick and not options.only and peer not in case.quick:
            return False
        # Servers of ours and the floor that ours are compared with belong to the workload.
        return (
            not options.peers
            or peer in options.peers
            or BY_NAME[peer].family in families
            or peer in OURS
            or peer == "floor"
        )

    return tuple(pair for pair in case.pairs if wanted(pair.peer))


def describe(planned: Sequence[Planned], options: Options) -> str:
    """The plan, for those who wait."""
    lines = []
    for each in planned:
        name = f"{each.workload.name}/{each.case.name}"
        runs = schedule.runs(each.case) * options.rounds
        servers = len(each.case.servers())
        lines.append(f"  {name:28} {servers:2} servers, {runs:3} runs, {each.cost / 60:5.1f} min")
    total = sum(each.cost for each in planned)
    lines.append(f"  {'together about':28} {'':22} {total / 60:5.1f} min")
    return "\n".join(lines)
