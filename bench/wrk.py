"""The load: wrk, a closed loop. Runs it pinned to a core and reads what it prints."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.errors import CannotMeasure, RunFailed
from bench.pinning import pinned

_SPARE: Final = 30.0
"""Seconds that wrk may take beyond its duration."""

_UNITS: Final = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}


@dataclass(frozen=True)
class Result:
    """What one run of wrk saw."""

    requests: int
    rate: float
    """Requests a second."""
    percentiles: Mapping[float, float]
    """Microseconds of latency, by per cent."""
    non_2xx: int
    socket_errors: Mapping[str, int]
    """By kind: connect, read, write, timeout."""
    busy: float = 0.0
    """Share of its core that wrk itself used; near 1 it is wrk that was measured."""

    @property
    def errors(self) -> int:
        return self.non_2xx + sum(self.socket_errors.values())


@dataclass(frozen=True)
class Wrk:
    """A load of one thread that keeps so many connections busy for so many seconds."""

    core: int
    connections: int

    def run(self, url: str, seconds: int) -> Result:
        """Load `url`. Raises RunFailed if wrk does not come through."""
        command = [
            "wrk",
            "--threads=1",
            f"--connections={self.connections}",
            f"--duration={seconds}s",
            "--timeout=5s",
            "--latency",
            url,
        ]
        before = _children()
        try:
            done = subprocess.run(
                pinned(self.core, command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds + _SPARE,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise RunFailed(f"wrk did not end in {seconds + _SPARE:g} seconds") from None
        if done.returncode:
            raise RunFailed(f"wrk: {done.stdout.strip()}")
        return parse(done.stdout, busy=(_children() - before) / seconds)


def _children() -> float:
    """CPU seconds of all children that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def parse(text: str, busy: float = 0.0) -> Result:
    """Read what `wrk --latency` prints. Raises RunFailed if that is not a result."""
    requests = re.search(r"^\s*(\d+) requests in ", text, re.M)
    rate = re.search(r"^Requests/sec:\s*([\d.]+)$", text, re.M)
    percentiles = {
        float(percent): float(number) * _UNITS[unit]
        for percent, number, unit in re.findall(
            r"^\s*([\d.]+)%\s+([\d.]+)(us|ms|s|m|h)$", text, re.M
        )
    }
    if requests is None or rate is None or not {50.0, 99.0} <= percentiles.keys():
        raise RunFailed(f"this is no result of wrk:\n{text.strip()}")
    non_2xx = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)$", text, re.M)
    sockets = re.search(r"^\s*Socket errors: (.+)$", text, re.M)
    return Result(
        requests=int(requests[1]),
        rate=float(rate[1]),
        percentiles=percentiles,
        non_2xx=int(non_2xx[1]) if non_2xx else 0,
        socket_errors={
            kind: int(count)
            for kind, count in re.findall(r"(\w+) (\d+)", sockets[1] if sockets else "")
        },
        busy=busy,
    )


def version() -> str:
    """The version line's part that names wrk's. Raises CannotMeasure if it is not installed."""
    if shutil.which("wrk") is None:
        raise CannotMeasure("wrk is not installed; on Debian: apt install wrk")
    # It prints its version and its usage, and calls that a failure.
    text = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return text.partition(" [")[0].removeprefix("wrk ")
