"""Storms of WebSockets, and afterwards: each has ended as it may, and nothing is left of them.

The seed is in the output of a test that fails; `STORM_SEED` in the environment sets it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.leaks import figures, settled, tasks_of
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.integration.websocket import WebSocketClient
from tests.integration.websocket_storm import OPTIONS, Tally, storm

APP = "tests.integration.apps.websocket_storm:app"
MIB = 1 << 20
GROWTH = 64 * MIB
"""What a process may have more after a storm than before it. At the height of a storm, buffers for
clients that do not read take much more, and malloc keeps some of that."""
STORMS = 4
"""Storms until one has added no more than that. A leak adds to each; the first of many clients and
one that is higher than all before may add more without one."""
TASKS = 64
"""Workers that a reactor keeps for later; see PARKED_MAX."""

LONG = [pytest.mark.slow, pytest.mark.timeout(500)]
SHORT = [pytest.mark.timeout(180)]
SIZES = [
    pytest.param(3.5, 60, id="short", marks=SHORT),
    pytest.param(40.0, 2000, id="long", marks=LONG),
]


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """Let this process have a socket for each client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("STORM_SEED", random.randrange(1 << 32)))
    print(f"STORM_SEED={seed}")
    return seed


def reload(server: Server) -> None:
    server.signal(signal.SIGHUP)


def kill_one(server: Server) -> None:
    """Kill a reactor, if there is one."""
    pids = server.reactor_pids()
    if pids:
        try:
            os.kill(random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return


def check(tally: Tally) -> None:
    print(f"{tally.most} open at the same time", dict(tally.done), dict(tally.ends))
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:20])


def nothing_is_left(server: Server, admin: str) -> None:
    """Wait until the server has no WebSocket and no connection, and is at rest."""

    def nothing() -> bool:
        with Client(admin) as client:
            report = json.loads(client.get("/status").body)
        assert [each["websockets"] for each in report["reactors"]] == [0, 0], report["reactors"]
        assert [each["in_flight"] for each in report["reactors"]] == [0, 0]
        assert not any(report["connections"]["states"].values()), report["connections"]
        assert server.is_at_rest()
        return True

    assert eventually(nothing, deadline=40)


def storm_until_memory_stays(server: Server, run: Callable[[int], Tally]) -> None:
    """Run storms until one leaves each process that has seen it as large as before."""
    told = []
    for number in range(STORMS):
        before = figures(server).memory
        check(run(number))
        after = figures(server).memory
        grown = {pid: after[pid] - before[pid] for pid in before.keys() & after.keys()}
        told.append({pid: f"{size / MIB:.1f} MiB" for pid, size in grown.items()})
        if max(grown.values()) <= GROWTH:
            return
    pytest.fail(f"each of {STORMS} storms has left more memory in use: {told}")


@pytest.mark.parametrize(("seconds", "connections"), SIZES)
@pytest.mark.parametrize("lanes", ["express", pytest.param("plain", marks=pytest.mark.slow)])
def test_reloads_and_kills(
    start: Start, tmp_path: Path, seed: int, lanes: str, seconds: float, connections: int
) -> None:
    admin = f"unix:{tmp_path}/admin"
    server = start(APP, "--lanes", lanes, "--reactors", "2", "--admin", admin, *OPTIONS)
    assert eventually(lambda: server.log().count(") is ready: ") == 2)
    nothing_is_left(server, admin)
    before = figures(server)

    def strike(number: int) -> None:
        reload(server)
        kill_one(server)

    def run(seconds: float, seed: int) -> Tally:
        async def main() -> Tally:
            return await storm(
                server.address,
                seconds=seconds,
                seed=seed,
                connections=connections,
                last=lambda: reload(server),
                kills=True,
                meanwhile=strike,
            )

        tally = trio.run(main)
        nothing_is_left(server, admin)
        return tally

    storm_until_memory_stays(server, lambda number: run(seconds, seed + number))
    # The front end may be about to close the last connection of the test.
    assert eventually(lambda: figures(server).sockets[server.pid] <= before.sockets[server.pid])
    assert figures(server).others[server.pid] == before.others[server.pid]
    # It serves as before.
    with WebSocketClient(server, "/echo") as ws:
        ws.text("after")
        assert ws.message() == "after"
        ws.finish()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(("seconds", "connections"), SIZES)
@pytest.mark.parametrize("runtime", ["trio", pytest.param("uvloop", marks=pytest.mark.slow)])
@pytest.mark.parametrize("lanes", ["express", pytest.param("plain", marks=pytest.mark.slow)])
def test_nothing_is_left_in_reactors(
    start: Start,
    tmp_path: Path,
    seed: int,
    lanes: str,
    runtime: str,
    seconds: float,
    connections: int,
) -> None:
    """The same reactors serve to the end. Clients end all that the server does not end."""
    admin = f"unix:{tmp_path}/admin"
    options = ["--lanes", lanes, "--runtime", runtime, "--reactors", "2", "--admin", admin]
    server = start(APP, *options, *OPTIONS)
    assert eventually(lambda: server.log().count(") is ready: ") == 2)
    tasks = tasks_of(server)
    nothing_is_left(server, admin)
    before = figures(server)

    def run(seconds: float, seed: int) -> Tally:
        async def main() -> Tally:
            return await storm(
                server.address,
                seconds=seconds,
                seed=seed,
                connections=connections,
                last=lambda: None,
                leaves=True,
            )

        tally = trio.run(main)
        nothing_is_left(server, admin)
        return tally

    storm_until_memory_stays(server, lambda number: run(seconds, seed + number))
    assert settled(server, before).others == before.others
    for pid, count in tasks_of(server).items():
        assert count <= tasks[pid] + TASKS
    assert server.stop() == 0
    assert "Traceback" not in server.log()
