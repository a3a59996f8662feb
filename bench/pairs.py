"""Two servers side by side, in turns, round after round.

A pair is measured as ours, then the peer, at once after one another; its ratio is taken within
that turn, so what changes slowly on the machine changes both alike. Knows no workload: what is
loaded and how is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench import proc, wrk
from bench.errors import DidNotStart, RunFailed
from bench.figures import Figure, figure
from bench.running import Running, running
from bench.servers import Server

Load = Callable[[str], wrk.Result]
"""Puts load on a URL."""


@dataclass(frozen=True)
class Pair:
    """Two servers by name."""

    ours: str
    peer: str


@dataclass(frozen=True)
class Run:
    """One run of the load against one server."""

    server: str
    result: wrk.Result
    cpu: Mapping[str, proc.Cpu]
    """Seconds, by the role of the process."""
    disturbance: float
    """Share of the server's core that other processes or the hypervisor took."""
    problems: Sequence[str]
    """Why it does not count."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.result.rate

    @property
    def p50(self) -> float:
        """Microseconds of latency."""
        return self.result.percentiles[50.0]

    @property
    def p99(self) -> float:
        """Microseconds of latency."""
        return self.result.percentiles[99.0]

    def per_request(self, role: str) -> proc.Cpu:
        """CPU time of one role's processes for one request, in seconds."""
        return self.cpu[role] / self.result.requests


@dataclass(frozen=True)
class Turn:
    """One round of one pair."""

    round: int
    pair: Pair
    ours: Run
    peer: Run


@dataclass
class Comparison:
    """Everything that was measured of one workload."""

    started: dict[str, Running] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Servers that did not start, and what they said."""
    turns: list[Turn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Of single runs; a run that has one counts in no figure."""

    def runs(self, server: str) -> list[Run]:
        """All runs of a server, of whichever pair."""
        every = (run for turn in self.turns for run in (turn.ours, turn.peer))
        return [run for run in every if run.server == server]

    def figure(self, server: str, value: Callable[[Run], float]) -> Figure | None:
        """The figure of a server over all its runs that count."""
        return figure(value(run) for run in self.runs(server) if not run.problems)

    def ratio(self, pair: Pair, value: Callable[[Run], float]) -> Figure | None:
        """The figure of ours divided by the peer's, within each turn of a pair."""
        return figure(
            value(turn.ours) / value(turn.peer)
            for turn in self.turns
            if turn.pair == pair and not turn.ours.problems and not turn.peer.problems
        )


@contextmanager
def started(
    servers: Sequence[Server], apps: Mapping[str, str], body: bytes, core: int
) -> Iterator[Comparison]:
    """Start the servers; all of them run until the end. One that does not start is noted.

    `apps` names the app for each interface.
    """
    with ExitStack() as stack:
        comparison = Comparison()
        for server in servers:
            try:
                comparison.started[server.name] = stack.enter_context(
                    running(server, apps[server.interface], body, core)
                )
            except DidNotStart as error:
                comparison.failed[server.name] = str(error)
        yield comparison


def warm_up(comparison: Comparison, load: Load) -> None:
    """Load each server once, and forget what it did."""
    for name, server in list(comparison.started.items()):
        try:
            load(server.url)
        except RunFailed as error:
            _drop(comparison, name, str(error))


def play(comparison: Comparison, pairs: Sequence[Pair], rounds: int, load: Load) -> Iterator[Turn]:
    """Measure every pair once a round; yield each turn as it is over."""
    for number in range(1, rounds + 1):
        for pair in pairs:
            if not {pair.ours, pair.peer} <= comparison.started.keys():
                continue
            runs = []
            for name in (pair.ours, pair.peer):
                try:
                    run = measure(comparison.started[name], load)
                except RunFailed as error:
                    _drop(comparison, name, str(error))
                    break
                comparison.problems += [
                    f"{name}, round {number}: {problem}" for problem in run.problems
                ]
                runs.append(run)
            else:
                turn = Turn(number, pair, *runs)
                comparison.turns.append(turn)
                yield turn


def _drop(comparison: Comparison, name: str, reason: str) -> None:
    """Go on without a server that cannot be loaded any more."""
    del comparison.started[name]
    comparison.problems.append(f"{name} was given up: {reason}")


def measure(server: Running, load: Load) -> Run:
    """One run. Raises RunFailed if the load gave no result."""
    problems = server.faults()
    before, core_before, begin = server.usage(), proc.core_seconds(server.core), time.monotonic()
    result = load(server.url)
    after, core_after, end = server.usage(), proc.core_seconds(server.core), time.monotonic()
    if before.keys() != after.keys():
        problems.append("a process of the server ended or began while it was measured")
    cpu: dict[str, proc.Cpu] = {}
    for key in before.keys() & after.keys():
        role = key[0]
        cpu[role] = cpu.get(role, proc.Cpu(0, 0)) + (after[key] - before[key])
    used = sum(each.total for each in cpu.values())
    if result.non_2xx:
        problems.append(f"{result.non_2xx} answers were not 2xx")
    problems += [f"{n} socket errors: {kind}" for kind, n in result.socket_errors.items() if n]
    if not result.requests:
        problems.append("no request was answered")
    return Run(
        server.server.name,
        result,
        {role: cpu[role] for role in server.server.roles if role in cpu},
        max(0.0, (core_after - core_before - used) / (end - begin)),
        problems,
    )
