"""The one interface of all workloads: what `bench.campaign` needs to know to run one.

A workload has cases: one table of the report each. A case compares servers under one deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from bench.deployment import Deployment
from bench.pinning import Cores
from bench.running import Running
from bench.sample import Sample


@dataclass(frozen=True)
class Pair:
    """Two servers by name; ratios are ours divided by the peer's."""

    ours: str
    peer: str


def against(ours: str, *peers: str) -> tuple[Pair, ...]:
    """One of ours and each of its peers."""
    return tuple(Pair(ours, peer) for peer in peers)


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    title: str
    deployment: Deployment
    pairs: tuple[Pair, ...]
    seconds: float = 2.0
    """Of the load in one run, if the user says nothing else."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the workload wants to know of it."""
    quick: tuple[str, ...] = ()
    """The peers with which `make bench-quick` runs it; without any it does not."""
    alone: tuple[str, ...] = ()
    """Servers of ours that are run without a peer."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Servers that would be in it, and why they are not."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def servers(self) -> list[str]:
        """Everyone in it, ours before their peers."""
        found: dict[str, None] = dict.fromkeys(self.alone)
        for pair in self.pairs:
            found |= {pair.ours: None, pair.peer: None}
        return list(found)


@dataclass(frozen=True)
class Setup:
    """How a run is to be made."""

    cores: Cores
    seconds: float
    round: int
    """From 1; 0 is the warm-up. Also the seed of what is left to chance: equal for all servers."""
    scale: float = 1.0
    """What sizes and numbers of clients are multiplied by, where a workload can be cut down."""
    cpu: bool = False
    """Take only CPU time in lock-step, where a workload takes it."""

    def scaled(self, number: int, least: int = 1) -> int:
        return max(least, round(number * self.scale))


Starter = Callable[[], AbstractContextManager[Running]]
"""Starts the server of a run, which ends with the block: `with start() as server`."""


class Workload:
    """What is asked of servers. A subclass says what, and how it is measured."""

    name: ClassVar[str]
    title: ClassVar[str]
    loop: ClassVar[str]
    """closed, open, or what else: when the next request comes."""
    about: ClassVar[str]
    """What a reader has to know to judge the figures: a paragraph."""
    measures: ClassVar[tuple[str, ...]]
    """The columns of its tables; the first is plotted."""
    compared: ClassVar[tuple[str, ...]]
    """Those of which ratios are shown."""
    start: ClassVar[Literal["kept", "fresh", "own"]] = "kept"
    """kept: servers run all the time; fresh: a new one for each run; own: the run starts it."""
    overhead: ClassVar[float] = 0.2
    """Seconds that a run takes beside its load."""
    factor: ClassVar[float] = 1.0
    """How many times `Case.seconds` a run loads the server."""

    cases: tuple[Case, ...]

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        """One run. Raises RunFailed if it gives nothing."""
        raise NotImplementedError

    def sample_start(self, case: Case, start: Starter, setup: Setup) -> Sample:
        """One run of a workload that starts the server itself."""
        raise NotImplementedError

    def select(self, case: str) -> Iterator[Case]:
        """The case of this name, or all of them."""
        yield from (each for each in self.cases if case in ("", each.name))

    def cost(self, seconds: float) -> float:
        """Seconds that one run takes."""
        return seconds * self.factor + self.overhead
