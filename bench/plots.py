"""Pictures of a report: for each workload, the first measure of every server, with its spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measures import MEASURES, Measure
from bench.records import CaseResults, Results
from bench.servers import OURS


def draw(folder: Path) -> list[str]:
    """Draw what there is into the folder; return the names of the files.

    None without matplotlib, which the extra `bench` brings.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    results = Results(folder)
    names = []
    for name, workload in results.workloads.items():
        if _draw_workload(folder / f"{name}.png", results, name, workload):
            names.append(f"{name}.png")
    return names


def _draw_workload(path: Path, results: Results, name: str, workload: dict[str, Any]) -> bool:
    from matplotlib import pyplot

    first = workload["measures"][0]
    cases = [
        (facts, found)
        for case, facts in workload["cases"].items()
        if any((found := results.case(name, case)).figure(s, first) for s in facts["servers"])
    ]
    if not cases:
        return False
    heights = [1.1 + 0.28 * len(facts["servers"]) for facts, _ in cases]
    figure, axes = pyplot.subplots(
        len(cases),
        1,
        figsize=(8, sum(heights)),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    figure.suptitle(workload["title"])
    for (facts, found), (axis,) in zip(cases, axes, strict=True):
        _draw_case(axis, facts, found, first, MEASURES[first])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _draw_case(
    axis: Any, facts: dict[str, Any], found: CaseResults, name: str, measure: Measure
) -> None:
    servers = [s for s in reversed(facts["servers"]) if found.figure(s, name)]
    figures = [figure for s in servers if (figure := found.figure(s, name))]
    middles = [figure.median / measure.unit for figure in figures]
    spread = [
        [(figure.median - figure.low) / measure.unit for figure in figures],
        [(figure.high - figure.median) / measure.unit for figure in figures],
    ]
    colours = ["#1f6f8b" if server in OURS else "#b8c4ca" for server in servers]
    axis.barh(servers, middles, xerr=spread, color=colours, ecolor="#444444", capsize=2)
    side = "less is better" if measure.less_is_better else "more is better"
    axis.set_title(f"{facts['title']}: {measure.label} ({side})", fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
