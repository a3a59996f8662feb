"""Which clients' sockets the reactors of a server hold, from /proc/PID/fd."""

from __future__ import annotations

import os

from tests.integration.server import Server

__all__ = ["duplicates", "sockets"]


def sockets(pid: int) -> set[str]:
    """The sockets of a process, by inode."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if link.startswith("socket:"):
                found.add(link)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def duplicates(server: Server) -> dict[int, int]:
    """The number of sockets that each reactor shares with the front end.

    All of these are clients': of a socketpair each process has one end.
    """
    ours = sockets(server.pid)
    return {pid: len(ours & sockets(pid)) for pid in server.reactor_pids()}
