"""Reactors killed under load: safe requests are all answered, others are never run twice."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import LANES, Config, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

CONFIGS = [
    *(Config("asgi", lanes) for lanes in LANES),
    *(Config("wsgi", lanes) for lanes in LANES),
    Config("wsgi", threads=4),
]
ALONE = [CONFIGS[0], CONFIGS[3]]
"""Each interface and each kind of lane, where requests wait for the next reactor."""
CLIENTS = 8


class Load:
    """A client that asks again and again on one connection; each request notes that it is run."""

    def __init__(self, server: Server, method: str, notes: Path) -> None:
        self.failure: Exception | None = None
        self.statuses: dict[Path, int] = {}
        self._server = server
        self._method = method
        self._notes = notes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with Client(self._server.address) as client:
                for number in itertools.count():
                    if self._stopping.is_set():
                        return
                    path = self._notes.with_name(f"{self._notes.name}-{number}")
                    answer = client.request(self._method, f"/wait?notes={path}")
                    self.statuses[path] = answer.status
        except Exception as failure:
            self.failure = failure

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def load(server: Server, method: str, folder: Path) -> Iterator[list[Load]]:
    """Clients that ask all the time; in the end all of them have been answered."""
    loads = [Load(server, method, folder / f"{number}") for number in range(CLIENTS)]
    try:
        yield loads
    finally:
        for each in loads:
            each.stop()
    assert [each.failure for each in loads] == [None] * CLIENTS


def answered(loads: list[Load]) -> int:
    return sum(len(each.statuses) for each in loads)


def kill_one(server: Server, loads: list[Load], number: int) -> None:
    """Kill a reactor in the midst of its work, and wait until its replacement serves."""
    (victim, *_) = before = server.reactor_pids()
    so_far = answered(loads)
    assert eventually(lambda: answered(loads) >= so_far + 2 * CLIENTS)
    os.kill(victim, number)

    def is_replaced() -> bool:
        pids = server.reactor_pids()
        return len(pids) == len(before) and victim not in pids

    assert eventually(is_replaced)
    so_far = answered(loads)
    assert eventually(lambda: answered(loads) >= so_far + 2 * CLIENTS, deadline=20)


@pytest.mark.parametrize(
    ("config", "reactors"),
    [
        *((config, 2) for config in CONFIGS),
        *((config, 1) for config in ALONE),
        *(
            pytest.param(config, 1, marks=pytest.mark.slow)
            for config in CONFIGS
            if config not in ALONE
        ),
    ],
    ids=str,
)
def test_every_get_is_answered(config: Config, reactors: int, start: Start, tmp_path: Path) -> None:
    server = start(config.app, *config.options, "--reactors", str(reactors))
    assert eventually(lambda: len(server.reactor_pids()) == reactors)
    with load(server, "GET", tmp_path) as loads:
        kill_one(server, loads, signal.SIGKILL)
    statuses = Counter(status for each in loads for status in each.statuses.values())
    assert set(statuses) == {200}


@pytest.mark.parametrize(("reactors", "number"), [(1, signal.SIGKILL), (2, signal.SIGSEGV)])
@pytest.mark.parametrize("config", CONFIGS[:1], ids=str)
def test_no_post_is_run_twice(
    config: Config, reactors: int, number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    server = start(
        config.app, *config.options, "--reactors", str(reactors), "--replay", "idempotent"
    )
    assert eventually(lambda: len(server.reactor_pids()) == reactors)
    with load(server, "POST", tmp_path) as loads:
        kill_one(server, loads, number)
    for each in loads:
        for path, status in each.statuses.items():
            runs = len(path.read_text().splitlines()) if path.exists() else 0
            assert (status, runs) in {(200, 1), (502, 0), (502, 1)}


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]], ids=str)
def test_a_request_that_kills_its_reactor_is_tried_once_more(
    config: Config, start: Start, tmp_path: Path
) -> None:
    server = start(config.app, *config.options)
    with Client(server.address) as client:
        assert client.request("GET", "/leave?why=whim").status == 502
        # The second death is the last: it is not tried a third time.
        assert client.get("/hello").text == "hello"
    assert server.log().count("exited with status 3") == 2
    assert "GET /leave was in flight in two reactors that died" in server.log()
