"""A storm of hostile clients, and afterwards: everybody was served, and nothing is left of it.

The seed is in the output of a test that fails; `STORM_SEED` in the environment sets it.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.integration.client import Client, request
from tests.integration.conftest import Config, Gate, Notes, Start
from tests.integration.leaks import complaints, figures, settled, tasks_of
from tests.integration.server import Server
from tests.integration.storm import OPTIONS, PATIENCE, storm
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

MIB = 1 << 20
GROWTH = 24 * MIB
"""What a process may have more after the storm than after the one that warmed it up."""
TASKS = 64
"""Workers that a reactor keeps for later; see PARKED_MAX."""


@dataclass(frozen=True)
class Weather:
    """A server, and how many exchanges it takes at once."""

    config: Config
    reactors: int
    capacity: int
    """Of each reactor."""
    unix: bool = False

    @property
    def app(self) -> str:
        """The ASGI app that knows of clients that leave, or the WSGI app, which never hears."""
        return self.config.app.replace("asgi", "storm_asgi")

    @property
    def options(self) -> list[str]:
        words = [*self.config.options, "--reactors", str(self.reactors), *OPTIONS]
        if self.config.interface == "asgi":
            words += ["--concurrency", str(self.capacity)]
        return words

    def __str__(self) -> str:
        words = f"{self.config}, {self.reactors} reactor{'s' * (self.reactors > 1)}"
        return words + ", unix" * self.unix


WEATHERS = [
    Weather(Config("asgi", "express"), 1, 100),
    Weather(Config("wsgi", "plain"), 2, 1, unix=True),
    Weather(Config("asgi", "plain"), 2, 100),
    Weather(Config("asgi", "express", "uvloop"), 2, 100),
    Weather(Config("wsgi", "express"), 1, 1),
    Weather(Config("wsgi", "express", threads=8), 2, 8),
    Weather(Config("wsgi", "plain", threads=8), 1, 8),
    Weather(Config("asgi", "express"), 2, 100, unix=True),
]
SHORT = [
    pytest.param(weather, 3.0, id=str(weather), marks=pytest.mark.timeout(120))
    for weather in WEATHERS[:2]
]
LONG = [
    pytest.param(
        weather, 60.0, id=f"{weather}, long", marks=[pytest.mark.slow, pytest.mark.timeout(300)]
    )
    for weather in WEATHERS
]


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path short enough for a unix socket, whatever the temporary directory of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        yield f"{directory}/socket"


def capacity_is_all_there(
    server: Server, weather: Weather, connect: Connect, gate: Gate, notes: Notes
) -> None:
    """As many exchanges as it takes run at once, and not one more."""
    total = weather.capacity * weather.reactors
    clients = [connect(server) for _ in range(total + 1)]
    for client in clients:
        client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    assert eventually(lambda: len(notes.lines()) >= total, deadline=20)
    if weather.config.interface == "asgi":
        assert eventually(server_is_quiet(server))
    assert len(notes.lines()) == total
    gate.open()
    assert [client.response().text for client in clients] == ["waited"] * (total + 1)


def server_is_quiet(server: Server) -> Callable[[], bool]:
    """Whether the front end rests; an app that waits for a gate looks at it again and again."""
    return lambda: server.is_at_rest([server.pid])


@pytest.mark.parametrize(("weather", "seconds"), SHORT + LONG)
def test_storm(
    weather: Weather,
    seconds: float,
    start: Start,
    connect: Connect,
    gate: Gate,
    notes: Notes,
    tmp_path: Path,
    socket_path: str,
) -> None:
    seed = int(os.environ.get("STORM_SEED", random.randrange(1 << 32)))
    print(f"STORM_SEED={seed}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    bind = f"unix:{socket_path}" if weather.unix else "127.0.0.1:0"
    server = start(weather.app, *weather.options, bind=(bind,), env={"TMPDIR": str(temporary)})
    assert eventually(lambda: server.log().count(") is ready: ") == weather.reactors)
    # Each has served something: a reactor may not have all that it is given before.
    threads = tasks_of(server)
    assert eventually(server.is_at_rest)
    before = figures(server, temporary)

    warm_up = trio.run(lambda: storm(server.address, seconds=seconds / 3, seed=seed + 1))
    warm = settled(server, before, temporary)
    tally = trio.run(lambda: storm(server.address, seconds=seconds, seed=seed, more=PATIENCE))
    after = settled(server, before, temporary)

    print(f"{tally.done.total()} in {seconds} s:", dict(tally.done.most_common()))
    print(f"{tally.too_busy} of them were too slow, as the machine is too busy")
    wrong = warm_up.wrong + tally.wrong
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])
    assert after.others == warm.others
    grown = {pid: (after.memory[pid] - warm.memory[pid]) / MIB for pid in after.memory}
    print("grown by MiB:", grown)
    assert max(grown.values()) <= GROWTH / MIB, grown
    for pid, count in tasks_of(server).items():
        assert count <= threads[pid] + TASKS
    capacity_is_all_there(server, weather, connect, gate, notes)
    assert complaints(server.log()) == []
    server.close()
    assert complaints(server.log()) == []
