"""What the kernel grants this process: open files, and what follows for client connections; CPUs.

Knows nothing of settings or sockets: numbers in, numbers out.
"""

from __future__ import annotations

import math
import os
import resource
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import StrPath

NOFILE_CAP = 1_048_576
"""Open files asked for where the hard limit is higher or infinite. More serves nobody, and programs
that close "all" descriptors one by one take minutes over a limit of a thousand million."""

_RESERVED = 64
"""Descriptors kept for listeners, logs, epoll, signal wake-up and whatever imports hold open."""

_PER_REACTOR = 8
"""Descriptors kept for each reactor: express lane, control channel and pidfd, twice while a reload
has two generations running, and a little room."""

_PER_CONNECTION = 2
"""Descriptors for each client connection: its socket, and a lane or a temporary file for its
exchange."""


class ConnectionLimit(NamedTuple):
    """How many client connections the front end may hold at once, and the line that says why."""

    connections: int
    line: str


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to the hard one, at most to `NOFILE_CAP`.

    A soft limit that is higher already is left alone. Returns the soft limit that now holds.
    Processes started afterwards inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return NOFILE_CAP
    wanted = NOFILE_CAP if hard == resource.RLIM_INFINITY else min(hard, NOFILE_CAP)
    if wanted <= soft:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def connections_for(nofile: int, max_connections: int, reactors: int) -> ConnectionLimit:
    """Say how many client connections `nofile` open files allow, of `max_connections` wanted.

    `max_connections` 0 asks for as many as the open files allow. The result is at least 1.
    """
    room = nofile - _RESERVED - _PER_REACTOR * reactors
    allowed = max(1, room // _PER_CONNECTION)
    if max_connections and max_connections <= allowed:
        return ConnectionLimit(
            max_connections,
            f"at most {max_connections} client connections ({nofile} open files allowed)",
        )
    line = f"at most {allowed} client connections, as {nofile} open files are allowed"
    if max_connections:
        line += (
            f"; raise the limit (ulimit -n, LimitNOFILE=) for the {max_connections} of "
            "--max-connections"
        )
    return ConnectionLimit(allowed, line)


def available_cpus(
    cgroup_root: StrPath = "/sys/fs/cgroup", membership: StrPath = "/proc/self/cgroup"
) -> int:
    """Count the CPUs this process may use: its affinity mask, bounded by cgroup v2's `cpu.max`.

    A quota of one and a half CPUs counts as two. What cannot be read sets no bound.
    """
    cpus = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas(cgroup_root, membership):
        cpus = min(cpus, max(1, math.ceil(quota)))
    return cpus


def _cpu_quotas(cgroup_root: StrPath, membership: StrPath) -> list[float]:
    """Read the quotas, in CPUs, of our cgroup and of every one above it: each of them binds."""
    try:
        lines = _read(membership).splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if own is None:
        return []
    group = own.rstrip("/")
    quotas = []
    while True:
        try:
            quota, period = _read(f"{os.fspath(cgroup_root)}{group}/cpu.max").split()
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):  # no controller at this level, or `max`: no bound
            pass
        if not group:
            return quotas
        group = group.rpartition("/")[0]


def _read(path: StrPath) -> str:
    with open(path) as file:
        return file.read()
