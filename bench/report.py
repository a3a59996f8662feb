"""What was measured, as Markdown and as data; the same for every workload."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.bars import Bar
from bench.figures import Figure
from bench.pairs import Comparison, Pair, Run, Turn

_DISTURBED: Final = 0.02
"""Share of a server's core that others took, from which on the reader is warned."""
_SATURATED: Final = 0.95
"""Share of wrk's core that wrk used, from which on wrk may be what was measured."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns in line for those who read it as text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines)


def facts(machine: Mapping[str, str]) -> str:
    """On what it was measured."""
    return "\n".join(f"- {name}: {value}" for name, value in machine.items())


def turn(done: Turn) -> str:
    """One line for those who watch."""
    ours, peer = done.ours, done.peer
    return (
        f"round {done.round}: {ours.server} {ours.rate:,.0f}/s, {peer.server} {peer.rate:,.0f}/s, "
        f"ratio {ours.rate / peer.rate if peer.rate else 0:.2f}"
    )


def servers(comparison: Comparison, names: Sequence[str]) -> str:
    """What each server did."""
    head = (
        "server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU µs per request, user + system",
        "others on its core",
        "wrk busy",
    )
    return table(head, [_server(comparison, name) for name in names])


def _server(comparison: Comparison, name: str) -> list[str]:
    def shown(value: Callable[[Run], float], form: str) -> str:
        found = comparison.figure(name, value)
        assert found is not None, "has runs that count"
        return _spread(found, form)

    runs = [run for run in comparison.runs(name) if not run.problems]
    if not runs:
        return [name, "not measured", "", "", "", "", ""]
    running = comparison.started.get(name)
    closes = " (closes connections)" if running and not running.keeps_alive else ""
    return [
        name + closes,
        shown(lambda run: run.rate, ",.0f"),
        shown(lambda run: run.p50 / 1e3, ".2f"),
        shown(lambda run: run.p99 / 1e3, ".2f"),
        ", ".join(_cpu(runs, role) for role in runs[0].cpu),
        f"{median(run.disturbance for run in runs):.1%}",
        f"{median(run.result.busy for run in runs):.0%}",
    ]


def _spread(figure: Figure, form: str) -> str:
    return f"{figure.median:{form}} [{figure.low:{form}} to {figure.high:{form}}]"


def _cpu(runs: Sequence[Run], role: str) -> str:
    each = [run.per_request(role) for run in runs]
    user, system = median(c.user for c in each) * 1e6, median(c.system for c in each) * 1e6
    return f"{role} {user:.1f} + {system:.1f}"


def ratios(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """Ours divided by the peer's, turn by turn."""
    rows = []
    for pair in pairs:
        found = [
            comparison.ratio(pair, lambda run: run.rate),
            comparison.ratio(pair, lambda run: run.p50),
            comparison.ratio(pair, lambda run: run.p99),
        ]
        shown = ["not measured" if ratio is None else _spread(ratio, ".2f") for ratio in found]
        rows.append([pair.ours, pair.peer, *shown])
    return table(("ours", "peer", "requests/s, ours / peer", "p50, same", "p99, same"), rows)


def bars(comparison: Comparison, wanted: Sequence[Bar]) -> str:
    """What was asked for, and whether it came."""
    words = {True: "pass", False: "FAIL", None: "not measured"}
    rows = []
    for bar in wanted:
        ratio = bar.ratio(comparison)
        rows.append(
            [str(bar), f"{ratio.median:.2f}" if ratio else "", words[bar.is_met(comparison)]]
        )
    return table(("bar", "ratio", "result"), rows)


def remarks(comparison: Comparison) -> list[str]:
    """What makes the figures doubtful, a line each."""
    found = [f"{name} did not start: {why}" for name, why in comparison.failed.items()]
    found += comparison.problems
    runs = [run for each in comparison.turns for run in (each.ours, each.peer)]
    disturbed = sum(run.disturbance > _DISTURBED for run in runs)
    if disturbed:
        found.append(
            f"{disturbed} of {len(runs)} runs: others took more than {_DISTURBED:.0%} of the "
            "server's core; this machine is not quiet"
        )
    saturated = sorted({run.server for run in runs if run.result.busy > _SATURATED})
    if saturated:
        found.append(
            f"wrk used up its core against {', '.join(saturated)}: they may be faster than shown"
        )
    return found


def write(
    folder: Path,
    workload: str,
    machine: Mapping[str, str],
    options: Mapping[str, Any],
    comparison: Comparison,
    wanted: Sequence[Bar],
) -> Path:
    """Write everything, each run included, as JSON; return the file."""
    data = {
        "workload": workload,
        "machine": dict(machine),
        "options": dict(options),
        "commands": {
            name: " ".join(running.command) for name, running in comparison.started.items()
        },
        "failed": comparison.failed,
        "problems": comparison.problems,
        "bars": [
            {"bar": str(bar), "met": bar.is_met(comparison), "ratio": _data(bar.ratio(comparison))}
            for bar in wanted
        ],
        "turns": [asdict(each) for each in comparison.turns],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{workload}-{machine['date'].replace(':', '')}.json"
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def _data(figure: Figure | None) -> dict[str, float] | None:
    return asdict(figure) if figure else None
