"""`python -m bench`: compare reactor-run with others, side by side.

bench/README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from bench import machine, pinning, plan, plots, report
from bench.bars import BARS
from bench.campaign import Campaign, tell
from bench.compiled import compile_ours
from bench.errors import CannotMeasure
from bench.plan import NotThere, Options
from bench.records import Recorder, Results
from bench.running import ROOT
from bench.servers import BY_NAME, SERVERS
from bench.workloads import WORKLOADS

RESULTS = ROOT / "bench" / "results"
_OPEN_FILES = 65536


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return the exit status.

    0: measured, and no bar missed. 1: a bar missed, or a server of ours that failed. 2: nothing
    could be measured. 130: interrupted; what was measured until then is reported.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    arguments = _arguments(argv)
    try:
        if arguments.list:
            print(_list())
            return 0
        if arguments.report:
            return _report(arguments.report)
        options = Options(
            rounds=arguments.rounds or (1 if arguments.quick else 5),
            seconds=arguments.seconds,
            warm_up=arguments.warm_up,
            only=arguments.only or (("real",) if arguments.cpu else ()),
            peers=arguments.peers,
            quick=arguments.quick,
            cpu=arguments.cpu,
        )
        return _compare(options, arguments.output, just_plan=arguments.plan)
    except (CannotMeasure, NotThere) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _compare(options: Options, output: Path | None, *, just_plan: bool) -> int:
    planned = plan.make(options)
    if not planned:
        raise CannotMeasure("no case has one of these peers")
    print(f"{plan.describe(planned, options)}\n", flush=True)
    if just_plan:
        return 0
    cores = pinning.choose()
    names = {name for each in planned for name in each.case.servers()}
    os.sched_setaffinity(0, {cores.load})
    _allow_open_files()
    compile_ours()
    facts = machine.describe(cores, {d for name in names for d in BY_NAME[name].distributions})

    day = datetime.now().strftime("%Y-%m-%dT%H%M%S")
    folder = output or RESULTS / (day if options.is_full else f"part-{day}")
    recorder = Recorder(folder)
    recorder.begin(facts, options, planned)
    state = "cut short by an error of this tool"
    try:
        with closing(Campaign(cores, options, recorder).run(planned)) as cases:
            for _ in cases:
                report.write(folder)
        state = "complete"
    except KeyboardInterrupt:
        state = "cut short by a signal; what was measured until then is below"
        tell("stopped; every server has ended")
    finally:
        recorder.end(state)
        path = report.write(folder, plots.draw(folder))
        tell(f"report: {path}")
    if options.is_full and state == "complete":
        tell(f"newest: {report.write_latest(folder)}")
    results = Results(folder)
    if options.only:
        print(report.render(results))
    else:
        print(report.bars(results))
    if state != "complete":
        return 130
    return 1 if any(bar.is_met(results) is False for bar in BARS) else 0


def _allow_open_files() -> None:
    """Let servers and loads open what 10,000 connections take, if we may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(hard, _OPEN_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _report(folder: Path) -> int:
    """Report a folder once more."""
    try:
        print(report.write(folder, plots.draw(folder)))
    except (OSError, ValueError, KeyError) as error:
        raise CannotMeasure(f"{folder} holds no run: {error}") from None
    return 0


def _list() -> str:
    lines = ["Workloads (--only), with their cases:"]
    for workload in WORKLOADS:
        cases = ", ".join(case.name for case in workload.cases)
        lines.append(f"  {workload.name:14} {workload.title}; {cases}")
    lines.append("Servers (--peers):")
    lines += [f"  {server.name}" for server in SERVERS]
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Compare reactor-run with others, side by side."
    )
    add = parser.add_argument
    add("--only", type=_names, default=(), metavar="NAME,...", help="workloads, or WORKLOAD/CASE")
    add("--peers", type=_names, default=(), metavar="NAME,...", help="servers, or their families")
    add("--rounds", type=_at_least_one, help="rounds that count (5; 1 with --quick)")
    add("--seconds", type=_at_least_one, help="of each run (as each case says)")
    add("--warm-up", type=_at_least_one, default=1, help="seconds of it (%(default)s)")
    add("--quick", action="store_true", help="a short run of the main cases with one or two peers")
    add("--cpu", action="store_true", help="only CPU time in lock-step, of `real`")
    add("--output", type=Path, metavar="DIR", help="where to write (bench/results/DATE)")
    add("--plan", action="store_true", help="only say what would be run, and how long it takes")
    add("--list", action="store_true", help="only say which workloads and servers there are")
    add("--report", type=Path, metavar="DIR", help="only write the report of a run once more")
    return parser.parse_args(argv)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number of at least 1 is needed")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
