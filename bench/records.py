"""What a campaign writes down as it goes, and reads again to report.

A folder holds `run.json` (machine, options, workloads) and `records.jsonl`: a line for every run,
every server that started, and every failure, each written when it happens.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import Figure, figure
from bench.plan import Options, Planned
from bench.sample import Sample


class Recorder:
    """Writes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._head: dict[str, Any] = {}
        self._records = (folder / "records.jsonl").open("a")

    def begin(self, machine: Mapping[str, str], options: Options, planned: list[Planned]) -> None:
        """Write what is known before the first run."""
        workloads: dict[str, Any] = {}
        for each in planned:
            workload, case = each.workload, each.case
            entry = workloads.setdefault(
                workload.name,
                {
                    "title": workload.title,
                    "loop": workload.loop,
                    "about": workload.about,
                    "measures": list(workload.measures),
                    "compared": list(workload.compared),
                    "cases": {},
                },
            )
            entry["cases"][case.name] = {
                "title": case.title,
                "seconds": each.seconds,
                "servers": case.servers(),
                "pairs": [[pair.ours, pair.peer] for pair in case.pairs],
                "cannot": dict(case.cannot),
            }
        self._head = {
            "machine": dict(machine),
            "options": asdict(options),
            "state": "unfinished",
            "workloads": workloads,
        }
        self._write_head()

    def end(self, state: str) -> None:
        """Write how it ended: complete, or why not."""
        self._head["state"] = state
        self._write_head()
        self._records.close()

    def sample(self, planned: Planned, server: str, number: int, turn: int, sample: Sample) -> None:
        """Write down a run."""
        self._write("sample", planned, server, round=number, turn=turn, **asdict(sample))

    def started(self, planned: Planned, server: str, command: str, keeps_alive: bool) -> None:
        """Write down how a server was started."""
        self._write("started", planned, server, command=command, keeps_alive=keeps_alive)

    def failed(self, planned: Planned, server: str, why: str) -> None:
        """Write down a run, or a start, that gave nothing."""
        self._write("failed", planned, server, why=why)

    def _write(self, kind: str, planned: Planned, server: str, **values: Any) -> None:
        record = {
            "kind": kind,
            "workload": planned.workload.name,
            "case": planned.case.name,
            "server": server,
            **values,
        }
        self._records.write(json.dumps(record) + "\n")
        self._records.flush()

    def _write_head(self) -> None:
        (self.folder / "run.json").write_text(json.dumps(self._head, indent=1) + "\n")


@dataclass
class CaseResults:
    """All that is known of one case."""

    samples: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By server, as written down; also those that count in no figure."""
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    started: dict[str, dict[str, Any]] = field(default_factory=dict)

    def counted(self, server: str) -> list[dict[str, Any]]:
        """The runs of a server that count."""
        return [sample for sample in self.samples.get(server, ()) if not sample["problems"]]

    def figure(self, server: str, measure: str) -> Figure | None:
        """A measure over all runs of a server that count."""
        found = self.counted(server)
        return figure(s["measures"][measure] for s in found if measure in s["measures"])

    def ratio(self, ours: str, peer: str, measure: str) -> Figure | None:
        """Ours divided by the peer's, within each turn."""
        by_turn = {(s["round"], s["turn"]): s["measures"].get(measure) for s in self.counted(ours)}
        ratios = []
        for sample in self.counted(peer):
            mine = by_turn.get((sample["round"], sample["turn"]))
            theirs = sample["measures"].get(measure)
            if mine is not None and theirs:
                ratios.append(mine / theirs)
        return figure(ratios)


class Results:
    """A folder, read."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError or ValueError if there is no run in this folder."""
        self.folder = folder
        head = json.loads((folder / "run.json").read_text())
        self.machine: dict[str, str] = head["machine"]
        self.options: dict[str, Any] = head["options"]
        self.state: str = head["state"]
        self.workloads: dict[str, Any] = head["workloads"]
        self._cases: dict[tuple[str, str], CaseResults] = defaultdict(CaseResults)
        for line in (folder / "records.jsonl").read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                # The last line of a run that was killed.
                continue
            case = self._cases[record["workload"], record["case"]]
            if record["kind"] == "sample":
                case.samples[record["server"]].append(record)
            elif record["kind"] == "started":
                case.started[record["server"]] = record
            else:
                case.failures[record["server"]].append(record["why"])

    def case(self, workload: str, case: str) -> CaseResults:
        """The results of a case; empty ones if it was not run."""
        return self._cases.get((workload, case)) or CaseResults()
