"""Fixtures: servers by configuration, notes and gates of the apps, and the logs of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from _pytest.mark import ParameterSet

from tests.integration.client import Client
from tests.integration.server import Server, are_at_rest
from tests.integration.waiting import eventually

RUNTIMES = ["trio", "asyncio", "uvloop"]
LANES = ["express", "plain"]
LANE_PROXIES = ["v2", "v1", "off"]


@dataclass(frozen=True)
class Config:
    """How a server runs an app: the flags that a test is repeated over."""

    interface: str = "asgi"
    lanes: str = "express"
    runtime: str = "trio"
    threads: int = 1
    lane_proxy: str = "v2"

    @property
    def app(self) -> str:
        """The test app of this interface."""
        return f"tests.integration.apps.{self.interface}:app"

    @property
    def options(self) -> list[str]:
        words = ["--interface", self.interface, "--runtime", self.runtime]
        words += ["--lanes", self.lanes, "--lane-proxy", self.lane_proxy]
        if self.interface == "wsgi":
            words += ["--threads", str(self.threads)]
        return words

    def __str__(self) -> str:
        parts = [self.interface, self.lanes]
        parts += [self.runtime] if self.runtime != "trio" else []
        parts += [f"{self.threads} threads"] if self.threads > 1 else []
        parts += [f"proxy {self.lane_proxy}"] if self.lane_proxy != "v2" else []
        return " ".join(parts)


HEAVY_CONFIGS = [
    pytest.param(Config(interface, lanes), id=f"{interface} {lanes}", marks=marks)
    for interface, lanes, marks in (
        ("asgi", "express", []),
        ("wsgi", "plain", []),
        ("asgi", "plain", [pytest.mark.slow]),
        ("wsgi", "express", [pytest.mark.slow]),
    )
]
"""For tests that put a service under load. Two pairs show each interface and each kind of lane."""

ALIKE = {("express", "asyncio"), ("plain", "uvloop")}
"""asyncio and uvloop run the same loop of a reactor. So each is quick on one kind of lane."""


def quick(*configs: Config) -> list[ParameterSet]:
    """These configurations. The slow tests run those that are alike too."""
    slow = [(each.lanes, each.runtime) in ALIKE for each in configs]
    return [
        pytest.param(config, id=str(config), marks=pytest.mark.slow if is_slow else ())
        for config, is_slow in zip(configs, slow, strict=True)
    ]


REPEATED = {
    ("asgi", "express", "v1"),
    ("asgi", "express", "off"),
    ("wsgi", "express", "v2"),
    ("wsgi", "express", "v1"),
}
"""The express lane has PROXY headers of its own, whatever --lane-proxy says. One word shows it."""


def relay_configs(*interfaces: str) -> list[ParameterSet]:
    """Each way to tell a reactor of a client. The slow tests run those that are alike too."""
    ways = product(interfaces, LANES, LANE_PROXIES)
    configs = [(way, Config(way[0], way[1], lane_proxy=way[2])) for way in ways]
    return [
        pytest.param(config, id=str(config), marks=pytest.mark.slow if way in REPEATED else ())
        for way, config in configs
    ]


Start = Callable[..., Server]
USED = pytest.StashKey[list[tuple[Server, int]]]()
suspects: set[Server] = set()
"""Shared servers in which a test has failed; the next test gets a new one."""


@pytest.fixture(scope="module")
def shared_servers() -> Iterator[dict[tuple[object, ...], Server]]:
    """The servers that the tests of one module share.

    After the last of them nothing in it may still be busy, and it must end well.
    """
    servers: dict[tuple[object, ...], Server] = {}
    yield servers
    with ExitStack() as closing:
        for server in servers.values():
            closing.callback(server.close)
        left = [each for each in servers.values() if each.process.poll() is None]
        idle = [pid for each in left if each not in suspects for pid in each.pids()]
        for server in left:
            closing.callback(server.begin_stop)
        assert eventually(partial(are_at_rest, idle)), "a process is busy, with nothing to do"


@pytest.fixture
def shared(
    request: pytest.FixtureRequest, shared_servers: dict[tuple[object, ...], Server]
) -> Start:
    """`shared(app, *options, bind=...)`: a server for this configuration, started once a module."""
    used = request.node.stash.setdefault(USED, [])

    def get(app: str, *options: str, bind: tuple[str, ...] = ("127.0.0.1:0",)) -> Server:
        key = (app, options, bind)
        server = shared_servers.get(key)
        if server is not None and (server in suspects or server.process.poll() is not None):
            # What one test found wrong, or killed, shall not fail the others.
            server.kill()
            server.close()
            server = None
        if server is None:
            server = shared_servers[key] = Server(app, *options, bind=bind)
        used.append((server, len(server.log())))
        return server

    return get


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """`start(app, *options, ...)`: a server for this test alone."""
    used = request.node.stash.setdefault(USED, [])
    with ExitStack() as closing:

        def run(*args: object, **options: object) -> Server:
            server = Server(*args, **options)  # type: ignore[arg-type]
            closing.callback(server.close)
            used.append((server, 0))
            return server

        yield run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """A failed test shows what its servers wrote meanwhile."""
    report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    if report.failed:
        for server, before in item.stash.get(USED, []):
            title = f"log of {' '.join(server.command[2:])}"
            report.sections.append((title, server.log()[before:][-8000:]))
            suspects.add(server)
    return report  # type: ignore[return-value]


class Gate:
    """Something an app waits for until the test opens it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        """The path, as it is written into a query."""
        return quote(str(self._path))

    def open(self) -> None:
        self._path.touch()


class Notes:
    """What an app has written down, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        """The path, as it is written into a query."""
        return quote(str(self._path))

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def first(self) -> str:
        """The first line, once there is one."""
        return eventually(self.lines)[0]

    def wait_for(self, line: str) -> None:
        """Wait until the app has written exactly this line."""
        assert eventually(lambda: line in self.lines()), self.lines()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is opened at the latest when the test ends, so that no app is left waiting."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def second_gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "second-gate")
    yield gate
    gate.open()


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """`connect(server_or_address, ...)`: a client that is closed when the test ends."""
    clients: list[Client] = []

    def to(target: Server | str, **options: object) -> Client:
        address = target.address if isinstance(target, Server) else target
        client = Client(address, **options)  # type: ignore[arg-type]
        clients.append(client)
        return client

    yield to
    for client in clients:
        client.close()
