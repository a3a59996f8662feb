"""Which core runs what: the servers one or two, the load another."""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.errors import CannotMeasure


@dataclass(frozen=True)
class Cores:
    """Two cores for the server that is measured, the first of them if it has one; one for the load.

    On a machine with two cores the load shares the server's second one.
    """

    servers: tuple[int, int]
    load: int

    def of_server(self, count: Literal[1, 2]) -> frozenset[int]:
        """The cores of a server that may use so many."""
        return frozenset(self.servers[:count])

    @property
    def shared(self) -> bool:
        """Whether a server with two cores shares one of them with the load."""
        return self.load in self.servers


def choose() -> Cores:
    """The first cores that we may use. Raises CannotMeasure if there is only one."""
    for program in ("taskset", "setpriv"):
        if shutil.which(program) is None:
            raise CannotMeasure(f"{program} is not installed; on Debian: apt install util-linux")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise CannotMeasure("two cores are needed, one for the server and one for the load")
    return Cores((allowed[0], allowed[1]), allowed[2] if len(allowed) > 2 else allowed[1])


def pinned(cores: Iterable[int], command: Sequence[str]) -> list[str]:
    """The command on these cores, it and all that it starts; it is told to end when we die."""
    listed = ",".join(map(str, sorted(cores)))
    return ["taskset", "--cpu-list", listed, "setpriv", "--pdeathsig", "TERM", *command]
