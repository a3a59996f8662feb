"""h2load, a closed loop of HTTP/2: runs it on its cores and reads its report."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bench.errors import RunFailed
from bench.pinning import pinned

_SPARE: Final = 15.0
"""Seconds that h2load may take beyond its duration."""
_RATE: Final = re.compile(r"finished in ([\d.]+)s, ([\d.]+) req/s")
_REQUESTS: Final = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")
_PROTOCOL: Final = re.compile(r"Application protocol: (\S+)")


@dataclass(frozen=True)
class Result:
    """What one run of h2load saw."""

    requests: int
    rate: float
    """Requests a second."""
    failed: int
    """Requests that failed, or had no success as their status."""
    protocol: str
    """As in `h2` and `h2c`."""


def run(
    url: str, *, cores: Iterable[int], connections: int, streams: int, seconds: float
) -> Result:
    """Load `url` from one thread, by so many connections with so many streams each.

    Raises RunFailed.
    """
    whole = max(1, round(seconds))
    program = shutil.which("h2load")
    if program is None:
        raise RunFailed("h2load is not installed; on Debian: apt install nghttp2-client")
    command = [program, "-t1", f"-c{connections}", f"-m{streams}", f"-D{whole}", url]
    try:
        done = subprocess.run(
            pinned(cores, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=whole + _SPARE,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"h2load did not end in {whole + _SPARE:g} seconds") from None
    return parse(done.stdout)


def parse(text: str) -> Result:
    """Read the report. Raises RunFailed if it is none."""
    rate, requests, protocol = (each.search(text) for each in (_RATE, _REQUESTS, _PROTOCOL))
    if rate is None or requests is None or protocol is None:
        raise RunFailed(f"this is no report of h2load:\n{text.strip()[-300:]}")
    done, _, failed, errored = map(int, requests.groups())
    return Result(done, float(rate[2]), failed + errored, protocol[1])
