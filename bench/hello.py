"""`make bench-hello`: 13 bytes over keep-alive connections, each server on one core.

A closed loop; bench/README.md says what that means and how to read the rest.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from bench import machine, pairs, pinning, report
from bench.apps import HELLO
from bench.bars import Bar
from bench.errors import CannotMeasure
from bench.pairs import Pair
from bench.running import ROOT
from bench.servers import BY_NAME, SERVERS
from bench.wrk import Wrk

APPS: Final = {"asgi": "bench.apps:hello_asgi", "wsgi": "bench.apps:hello_wsgi"}

PAIRS: Final = (
    Pair("reactor-run", "uvicorn"),
    Pair("reactor-run", "granian-asgi"),
    Pair("reactor-run", "hypercorn-trio"),
    Pair("reactor-run-plain", "uvicorn"),
    Pair("reactor-run-uvloop", "uvicorn"),
    Pair("reactor-run-wsgi", "granian-wsgi"),
    Pair("reactor-run-wsgi", "gunicorn-gthread"),
    Pair("reactor-run-wsgi", "gunicorn-sync"),
)

BARS: Final = (
    Bar(Pair("reactor-run", "uvicorn"), "requests/s", 1.25),
    Bar(Pair("reactor-run", "granian-asgi"), "requests/s", 1.15),
    Bar(Pair("reactor-run", "hypercorn-trio"), "requests/s", 20),
    Bar(Pair("reactor-run-plain", "uvicorn"), "requests/s", 0.9),
    Bar(Pair("reactor-run", "uvicorn"), "p99", 1),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; return the exit status.

    0: measured, and no bar missed. 1: a bar missed, a run with errors, or a server of ours that
    does not run. 2: nothing could be measured.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    options = _options(argv)
    try:
        return _compare(options)
    except CannotMeasure as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; every server was stopped", file=sys.stderr)
        return 130


def _compare(options: argparse.Namespace) -> int:
    cores = pinning.choose()
    chosen = [p for p in PAIRS if not options.only or {p.ours, p.peer} & set(options.only)]
    servers = [s for s in SERVERS if any(s.name in (p.ours, p.peer) for p in chosen)]
    facts = machine.describe(cores, {d for server in servers for d in server.distributions})
    os.sched_setaffinity(0, {cores.load})
    wrk = Wrk(cores.load, options.connections)

    print(f"# hello, {options.connections} keep-alive connections\n\n{report.facts(facts)}")
    print(
        f"- runs: closed loop, {options.seconds} s each, ours and the peer in turns, "
        f"{options.rounds} rounds after a warm-up\n",
        flush=True,
    )
    with pairs.started(servers, APPS, HELLO, cores.server) as comparison:
        for name, why in comparison.failed.items():
            _tell(f"{name} did not start: {why}")
        pairs.warm_up(comparison, lambda url: wrk.run(url, options.warm_up))
        for turn in pairs.play(
            comparison, chosen, options.rounds, lambda url: wrk.run(url, options.seconds)
        ):
            _tell(report.turn(turn))

    bars = [bar for bar in BARS if bar.pair in chosen]
    print("Medians [least to greatest] of the rounds.\n")
    print(report.servers(comparison, [server.name for server in servers]), end="\n\n")
    print(report.ratios(comparison, chosen), end="\n\n")
    if bars:
        print(report.bars(comparison, bars), end="\n\n")
    for remark in report.remarks(comparison):
        print(f"- {remark}")
    if options.write:
        path = report.write(
            ROOT / "bench" / "results", "hello", facts, vars(options), comparison, bars
        )
        _tell(f"written to {path.relative_to(ROOT)}")

    ours_failed = comparison.failed.keys() & {pair.ours for pair in chosen}
    missed = any(bar.is_met(comparison) is False for bar in bars)
    return 1 if missed or comparison.problems or ours_failed else 0


def _tell(line: str) -> None:
    """Say how it goes, beside the report."""
    print(line, file=sys.stderr, flush=True)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hello",
        description="Compare servers that answer 13 bytes, side by side. Pairs: "
        + ", ".join(f"{pair.ours} and {pair.peer}" for pair in PAIRS),
    )
    count = _at_least_one
    parser.add_argument("--rounds", type=count, default=5, help="rounds that count (%(default)s)")
    parser.add_argument("--seconds", type=count, default=5, help="of each run (%(default)s)")
    parser.add_argument("--warm-up", type=count, default=2, help="seconds of it (%(default)s)")
    parser.add_argument(
        "--connections", type=count, default=64, help="kept open by wrk (%(default)s)"
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="only the pairs in which one of these servers is",
    )
    parser.add_argument(
        "--write", action="store_true", help="write every run to bench/results/ as JSON"
    )
    return parser.parse_args(argv)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number of at least 1 is needed")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in BY_NAME:
            raise argparse.ArgumentTypeError(
                f"{name}: no such server; there are {', '.join(BY_NAME)}"
            )
    return names


if __name__ == "__main__":
    sys.exit(main())
