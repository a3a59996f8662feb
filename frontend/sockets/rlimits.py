"""The kernel's limits for this process: open files, the connections they allow, and CPUs.

This file knows no settings and no sockets: it takes and returns numbers.
"""

from __future__ import annotations

import math
import os
import resource
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import StrPath

NOFILE_CAP = 1_048_576
"""Most open files to ask for if the hard limit is higher or infinite. No service needs more. With a
limit of a thousand million, programs that close "all" descriptors one by one take minutes."""

_RESERVED = 64
"""Descriptors kept for listeners, logs, epoll, signal wake-up and imported modules."""

_PER_REACTOR = 8
"""Descriptors kept for each reactor: express lane, control channel and pidfd, twice, because two
generations run during a reload, and a few spare ones."""

_PER_CONNECTION = 2
"""Descriptors for each client connection: its socket, and a lane or a temporary file for its
exchange."""


class ConnectionLimit(NamedTuple):
    """The most client connections of the front end, and a line for the log that says why.

    lacks_files: there are fewer than wanted, as too few open files are allowed.
    """

    connections: int
    line: str
    lacks_files: bool = False


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to the hard one, at most to `NOFILE_CAP`.

    A higher soft limit is left alone. Returns the soft limit that now holds. Processes that are
    started afterwards inherit it.
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
    """Return how many client connections `nofile` open files allow, of `max_connections` wanted.

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
    return ConnectionLimit(allowed, line, bool(max_connections))


def available_cpus(
    cgroup_root: StrPath = "/sys/fs/cgroup", membership: StrPath = "/proc/self/cgroup"
) -> int:
    """Count the CPUs that this process may use: its affinity mask, bounded by cgroup v2
    (`cpu.max`).

    A quota of one and a half CPUs counts as two. A file that cannot be read sets no bound.
    """
    cpus = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas(cgroup_root, membership):
        cpus = min(cpus, max(1, math.ceil(quota)))
    return cpus


def _cpu_quotas(cgroup_root: StrPath, membership: StrPath) -> list[float]:
    """Return the quotas, in CPUs, of our cgroup and of every one above it. Each of them is a
    bound."""
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
