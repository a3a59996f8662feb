"""In which order servers are measured.

Each peer runs directly before or after one of ours: peer, ours, peer. That is one *turn*; ratios
are taken within it, so what changes slowly on the machine changes both alike. From round to round
the order is reversed, so that nobody always goes first.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.workload import Case


def turns(case: Case, number: int) -> Iterator[list[str]]:
    """The turns of a round, each the servers that run one after another."""
    found: list[list[str]] = [[name] for name in case.alone]
    for ours in dict.fromkeys(pair.ours for pair in case.pairs):
        peers = [pair.peer for pair in case.pairs if pair.ours == ours]
        for first in range(0, len(peers), 2):
            before, *after = peers[first : first + 2]
            found.append([before, ours, *after])
    if number % 2 == 0:
        found = [turn[::-1] for turn in reversed(found)]
    yield from found


def runs(case: Case) -> int:
    """How many runs a round has."""
    return sum(len(turn) for turn in turns(case, 1))
