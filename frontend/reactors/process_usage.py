"""What a process uses, as the kernel counts it: memory and CPU time."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["cpu_time", "resident"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes (proc(5), statm); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def cpu_time(pid: int) -> float:
    """Return the seconds of CPU that a process has used, user and system (proc(5), stat); 0.0 if it
    is gone. Its children do not count."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The second field is a name in brackets, which may hold anything.
            fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0
