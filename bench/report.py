"""A folder of records as Markdown; from the records alone, so at any time and again later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.bars import BARS, Bar
from bench.figures import Figure
from bench.measures import MEASURES, Measure
from bench.records import CaseResults, Results
from bench.servers import OURS

_README: Final = "../../README.md"
"""From a folder of results."""

_QUICK: Final = (
    "**This is a quick run:** one short round, and a tenth of the clients and bytes. It shows that "
    "everything works; the bars are for a whole run."
)


def render(results: Results, plots: Sequence[str] = ()) -> str:
    """The whole report. `plots`: the names of the pictures that there are."""
    options = results.options
    rounds = f"{options['rounds']} round{'s' if options['rounds'] > 1 else ''}"
    parts = [
        "# reactor-run beside others",
        facts(results),
        *([] if results.state == "complete" else [f"**This run is {results.state}.**"]),
        *([_QUICK] if options["quick"] else []),
        "## Bars",
        bars(results),
        "Ratios are ours / theirs. Where a bar covers several cases or peers, what was measured is "
        f"the worst of them. [How it was measured, and how to read it]({_README}).",
        *front_end(results),
        "## Figures",
        f"{rounds}, each server directly before or after one of ours. A figure is the median of "
        "all runs, then [least to greatest]; a ratio is ours divided by theirs, taken within each "
        "turn. CPU is user + system time of all processes of the server, told apart in the last "
        "column.",
    ]
    for name, workload in results.workloads.items():
        parts += _workload(results, name, workload, plots)
    parts += ["## Command lines", _commands(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def facts(results: Results) -> str:
    """On what, with what and when it was measured."""
    return "\n".join(f"- {name}: {value}" for name, value in results.machine.items())


def bars(results: Results) -> str:
    """What was wanted, and whether it came."""
    rows = [_bar(bar, results) for bar in BARS]
    return table(("bar", "measured", "met"), rows)


def _bar(bar: Bar, results: Results) -> list[str]:
    worst = bar.measured(results)
    if worst is None:
        return [bar.wanted, "not measured", ""]
    what, value = worst
    if bar.is_met(results):
        met = "yes"
    else:
        met = f"**no**; [what was tried]({_README}#{bar.read})"
    return [bar.wanted, f"{value:,.4g} ({what})", met]


def front_end(results: Results) -> list[str]:
    """What the front end takes of each request, and how many reactors it could feed; a section."""
    rows = []
    for case, facts in results.workloads.get("real", {}).get("cases", {}).items():
        for server in facts["servers"]:
            found = results.case("real", case)
            front = found.figure(server, "cpu_front")
            reactors = found.figure(server, "cpu_reactors")
            if front and reactors:
                shown = [f"{1e6 * figure.median:,.1f}" for figure in (front, reactors)]
                feeds = f"{reactors.median / front.median:.1f}"
                rows.append([facts["title"], server, *shown, feeds])
    if not rows:
        return []
    head = ("requests", "server", "front end, CPU µs", "reactors, CPU µs", "reactors it can feed")
    return [
        "## The front end",
        "CPU time for each request. The front end is one process, and so uses one core at most. "
        "The last column is how many reactors, each with a core of its own, keep it busy.",
        table(head, rows),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns in line for those who read it as text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines)


def _workload(
    results: Results, name: str, workload: dict[str, Any], plots: Sequence[str]
) -> list[str]:
    loop = workload["loop"]
    kind = f"{loop} loop" if loop in ("closed", "open") else loop
    parts = [f"### {workload['title']} (`{name}`)", f"**{kind}.** {workload['about']}"]
    for case, facts in workload["cases"].items():
        found = results.case(name, case)
        parts += [f"#### {facts['title']} (`{name}/{case}`)", _case(workload, facts, found)]
        parts.append("\n".join(f"- {remark}" for remark in _remarks(facts, found)))
    if f"{name}.png" in plots:
        parts.append(f"![{workload['title']}]({name}.png)")
    return parts


def _case(workload: dict[str, Any], facts: dict[str, Any], found: CaseResults) -> str:
    measures = {name: MEASURES[name] for name in workload["measures"]}
    compared = [name for name in workload["compared"] if name in measures]
    head = ["server", *(measure.label for measure in measures.values())]
    head += [f"{measures[name].label}: ours / theirs" for name in compared]
    head.append("CPU user + system by process")
    rows = []
    for server in facts["servers"]:
        if not found.counted(server):
            rows.append([server, _why_not(found, server), *[""] * (len(head) - 2)])
            continue
        row = [_name(server, found)]
        row += [_shown(found.figure(server, name), each) for name, each in measures.items()]
        ours = [pair[0] for pair in facts["pairs"] if pair[1] == server]
        for name in compared:
            ratios = [(one, found.ratio(one, server, name)) for one in ours]
            told = [
                _spread(ratio) + (f" ({one})" if len(ours) > 1 else "")
                for one, ratio in ratios
                if ratio
            ]
            row.append(", ".join(told))
        row.append(_cpu(found.counted(server)))
        rows.append(row)
    for server, why in facts["cannot"].items():
        rows.append([server, f"cannot: {why}", *[""] * (len(head) - 2)])
    return table(head, rows)


def _name(server: str, found: CaseResults) -> str:
    shown = f"**{server}**" if server in OURS else server
    started = found.started.get(server)
    return shown + ("" if not started or started["keeps_alive"] else " (closes connections)")


def _why_not(found: CaseResults, server: str) -> str:
    problems = [p for sample in found.samples.get(server, ()) for p in sample["problems"]]
    problems += found.failures.get(server, [])
    return f"not measured: {_one_line(problems[0])}" if problems else "not measured"


def _shown(figure: Figure | None, measure: Measure) -> str:
    if figure is None:
        return ""
    if figure.low == figure.high:
        return measure.shown(figure.median)
    low, high = measure.shown(figure.low), measure.shown(figure.high)
    return f"{measure.shown(figure.median)} [{low} to {high}]"


def _spread(figure: Figure) -> str:
    digits = ".2f" if figure.median < 10 else ".1f"
    if figure.low == figure.high:
        return f"{figure.median:{digits}}"
    return f"{figure.median:{digits}} [{figure.low:{digits}} to {figure.high:{digits}}]"


def _cpu(samples: Sequence[dict[str, Any]]) -> str:
    """By process, for one request where requests were counted."""
    told = []
    for role in samples[0]["cpu"]:
        runs = [s for s in samples if role in s["cpu"]]
        per = [s["requests"] / 1e6 if s["requests"] else 1.0 for s in runs]
        user = median(s["cpu"][role][0] / each for s, each in zip(runs, per, strict=True))
        system = median(s["cpu"][role][1] / each for s, each in zip(runs, per, strict=True))
        unit = "µs" if samples[0]["requests"] else "s"
        digits = ".1f" if unit == "µs" else ".2f"
        told.append(f"{role} {user:{digits}} + {system:{digits}} {unit}")
    return ", ".join(told)


def _remarks(facts: dict[str, Any], found: CaseResults) -> list[str]:
    """What makes the figures of a case doubtful, a line each."""
    lines = []
    for server in facts["servers"]:
        samples = found.samples.get(server, [])
        for what, many in Counter(r for s in samples for r in s["remarks"]).items():
            lines.append(f"{server}: {_one_line(what)} ({many} of {len(samples)} runs)")
        for sample in samples:
            for problem in sample["problems"]:
                lines.append(
                    f"{server}, round {sample['round']} does not count: {_one_line(problem)}"
                )
        lines += [f"{server}: {_one_line(why)}" for why in found.failures.get(server, ())]
        outcomes: Counter[str] = Counter()
        for sample in found.counted(server):
            outcomes.update(sample["details"].get("outcomes", {}))
        if outcomes.keys() - {"answered"}:
            told = ", ".join(f"{count:,} {kind}" for kind, count in outcomes.items())
            lines.append(f"{server}, all requests of all runs: {told}")
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:300]


def _commands(results: Results) -> str:
    lines: dict[str, None] = {}
    for name, workload in results.workloads.items():
        for case in workload["cases"]:
            for server, started in results.case(name, case).started.items():
                command = started["command"]
                port = " ".join(word for word in command.split())
                lines[f"- `{name}/{case}`, {server}: `{_without_port(port)}`"] = None
    return "\n".join(lines)


def _without_port(command: str) -> str:
    return " ".join(
        "PORT" if word.isdecimal() and len(word) == 5 else _bound(word) for word in command.split()
    )


def _bound(word: str) -> str:
    host, colon, port = word.rpartition(":")
    return f"{host}:PORT" if colon and port.isdecimal() and len(port) == 5 else word


def write(folder: Path, plots: Sequence[str] = ()) -> Path:
    """Render a folder's report into it; return the file."""
    path = folder / "report.md"
    path.write_text(render(Results(folder), plots))
    return path


def write_latest(folder: Path) -> Path:
    """Write the page that README.md links: the newest whole comparison in short."""
    results = Results(folder)
    path = folder.parent / "latest.md"
    bars_here = bars(results).replace(_README, "../README.md")
    path.write_text(
        "# The newest comparison\n\n"
        f"[The whole report]({folder.name}/report.md), with every figure and how it was taken.\n\n"
        f"{facts(results)}\n\n## Bars\n\n{bars_here}\n"
    )
    return path
