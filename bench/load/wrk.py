"""wrk, a closed loop: runs it on its cores and reads what its script `wrk.lua` says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import CannotMeasure, RunFailed
from bench.pinning import pinned

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_SPARE: Final = 15.0
"""Seconds that wrk may take beyond its duration."""


@dataclass(frozen=True)
class Result:
    """What one run of wrk saw."""

    requests: int
    rate: float
    """Requests a second."""
    latency: Mapping[str, float]
    """Seconds, by name: p50, p99, p99.9, max."""
    failures: Mapping[str, int]
    """By kind: status (beyond 399), connect, read, write, timeout; those that there were."""
    busy: float = 0.0
    """Share of its core that wrk itself used; near 1 it is wrk that was measured."""


def run(
    url: str,
    *,
    cores: Iterable[int],
    connections: int,
    seconds: float,
    pool: Path | None = None,
) -> Result:
    """Load `url` from one thread that keeps so many connections busy; at least a second.

    `cores`: those on which the thread may run. `pool`: a file of requests that `requests.write`
    has written; without one, GET. Raises RunFailed if wrk does not come through.
    """
    whole = max(1, round(seconds))
    command = [
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={whole}s",
        "--timeout=5s",
        f"--script={_SCRIPT}",
        url,
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    before = _children()
    try:
        done = subprocess.run(
            pinned(cores, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=whole + _SPARE,
            start_new_session=True,
            env=kept if pool is None else {**kept, "BENCH_POOL": str(pool)},
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"wrk did not end in {whole + _SPARE:g} seconds") from None
    if done.returncode:
        raise RunFailed(f"wrk: {done.stdout.strip()[-300:]}")
    return parse(done.stdout, busy=(_children() - before) / whole)


def _children() -> float:
    """CPU seconds of all children that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def parse(text: str, busy: float = 0.0) -> Result:
    """Read what the script prints. Raises RunFailed if that is not a result."""
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RunFailed(f"this is no result of wrk:\n{text.strip()[-300:]}")
    said = json.loads(lines[-1].removeprefix("RESULT "))
    kinds = ("status", "connect", "read", "write", "timeout")
    return Result(
        requests=said["requests"],
        rate=said["requests"] / (said["microseconds"] / 1e6),
        latency={name: said[name] / 1e6 for name in ("p50", "p99", "p99.9", "max")},
        failures={kind: said[kind] for kind in kinds if said[kind]},
        busy=busy,
    )


def version() -> str:
    """The version line's part that names wrk's. Raises CannotMeasure if it is not installed."""
    if shutil.which("wrk") is None:
        raise CannotMeasure("wrk is not installed; on Debian: apt install wrk")
    # It prints its version and its usage, and calls that a failure.
    text = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return text.partition(" [")[0].removeprefix("wrk ")
