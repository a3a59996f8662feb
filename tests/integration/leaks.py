"""What the processes of a server hold, seen from outside: whether anything of a test is left."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.integration.client import Client, request
from tests.integration.server import Server
from tests.integration.waiting import eventually

__all__ = ["POOL", "Figures", "complaints", "cpu_seconds", "figures", "settled", "tasks_of"]

POOL = 256
"""Free lanes of each sort that are kept for later, at most as many as these tests need; see
`_POOL_MAX`."""


@dataclass
class Figures:
    """Of each process of a server."""

    sockets: dict[int, int]
    others: dict[int, int]
    """Descriptors that are no sockets."""
    files: list[str]
    """Temporary files, those without a name too."""
    memory: dict[int, int]
    """Resident bytes."""


def figures(server: Server, temporary: Path | None = None) -> Figures:
    """What they hold now; `temporary` is their directory for temporary files, if it is their own.

    The log of a server is a temporary file too, but lies elsewhere then.
    """
    sockets, others, files = {}, {}, []
    if temporary is not None:
        files = [str(path) for path in temporary.iterdir()]
    for pid in server.pids():
        links = _links(pid)
        sockets[pid] = sum(link.startswith("socket:") for link in links)
        others[pid] = len(links) - sockets[pid]
        prefix = str(temporary or Path(tempfile.gettempdir()) / "reactor-run-")
        files += [link for link in links if link.startswith(prefix)]
    memory = {pid: each.now for pid, each in server.memory().items()}
    return Figures(sockets, others, files, memory)


def _links(pid: int) -> list[str]:
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return links


def settled(server: Server, start: Figures, temporary: Path | None = None) -> Figures:
    """The figures once nothing is left of what came after `start`, but for lanes kept for later."""

    def settled() -> Figures:
        now = figures(server, temporary)
        assert set(now.sockets) == set(start.sockets), "a process was replaced"
        more = {pid: now.sockets[pid] - start.sockets[pid] for pid in now.sockets}
        lanes = more.pop(server.pid)
        # Each plain lane has one end here and one there; and all else is gone. A client's socket
        # that a reactor shares would look the same, so without plain lanes there must be nothing.
        assert lanes == sum(more.values()), f"{lanes} sockets more, and {more} in the reactors"
        assert lanes <= 0 or "plain" in server.command, f"{lanes} clients' sockets"
        # They are fewer than at the start if some of them have idled for too long since.
        assert all(each <= 2 * POOL for each in more.values()), more
        assert not now.files
        assert server.is_at_rest()
        return now

    return eventually(settled, deadline=30)


def tasks_of(server: Server) -> dict[int, int]:
    """Tasks, or threads, that live in each reactor, asked of apps that have routes for it."""
    found: dict[int, int] = {}

    def asked() -> bool:
        # Two at once go to two reactors.
        with Client(server.address) as one, Client(server.address) as other:
            for client in one, other:
                client.send(request("GET", "/tasks"))
            for client in one, other:
                pid, count = client.response().json()
                found[pid] = count
        return set(found) == set(server.reactor_pids())

    assert eventually(asked)
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def complaints(log: str) -> list[str]:
    """Lines of the log that no client may bring about."""
    return re.findall(r"^.*(?: error | warning |Traceback).*$", log, re.MULTILINE)
