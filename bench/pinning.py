"""Which core runs what: the servers one, the load another."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import CannotMeasure


@dataclass(frozen=True)
class Cores:
    """One core for the server that is measured, one for the load."""

    server: int
    load: int


def choose() -> Cores:
    """The first two cores that we may use. Raises CannotMeasure if there is only one."""
    for program in ("taskset", "setpriv"):
        if shutil.which(program) is None:
            raise CannotMeasure(f"{program} is not installed; on Debian: apt install util-linux")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise CannotMeasure("two cores are needed, one for the server and one for wrk")
    return Cores(*allowed[:2])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on one core, it and all that it starts; it is told to end when we die."""
    return ["taskset", "--cpu-list", str(core), "setpriv", "--pdeathsig", "TERM", *command]
