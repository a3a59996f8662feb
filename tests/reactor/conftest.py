"""Fixtures: reactor processes by configuration, and keys for the notes of apps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from tests.reactor.driver import Driver, get

RUNTIMES = ["trio", "asyncio", "uvloop"]
Start = Callable[..., Driver]
_keys = itertools.count(1)


@pytest.fixture(scope="session")
def shared_drivers() -> Iterator[dict[tuple[object, ...], Driver]]:
    """The processes that tests share. Each must still stop on request after the last test."""
    drivers: dict[tuple[object, ...], Driver] = {}
    yield drivers
    statuses = {}
    for configuration, driver in drivers.items():
        with driver:
            if driver.process.poll() is None:
                statuses[configuration] = driver.stop()
    assert not any(statuses.values()), statuses


@pytest.fixture
def shared(shared_drivers: dict[tuple[object, ...], Driver]) -> Start:
    """`shared(app, *options, lane_proxy=...)` returns the one process of this configuration."""

    def find(app: str, *options: str, lane_proxy: str = "v2") -> Driver:
        key = (app, options, lane_proxy)
        driver = shared_drivers.get(key)
        if driver is None or driver.process.poll() is not None:
            driver = shared_drivers[key] = Driver(app, *options, lane_proxy=lane_proxy)
        return driver

    return find


@pytest.fixture(params=RUNTIMES)
def asgi(request: pytest.FixtureRequest, shared: Start) -> Driver:
    """An ASGI reactor, once on each runtime."""
    return shared("driven_asgi:app", "--runtime", request.param)


@pytest.fixture
def on_trio(shared: Start) -> Driver:
    """The ASGI reactor on Trio, for tests in which the runtime makes no difference."""
    return shared("driven_asgi:app", "--runtime", "trio")


@pytest.fixture(params=["asyncio", "uvloop"])
def on_asyncio(request: pytest.FixtureRequest, shared: Start) -> Driver:
    """The ASGI reactors on asyncio and on uvloop."""
    return shared("driven_asgi:app", "--runtime", request.param)


@pytest.fixture
def inline(shared: Start) -> Driver:
    """A WSGI reactor that runs its app inline."""
    return shared("driven_wsgi:app", "--threads", "1")


@pytest.fixture
def threaded(shared: Start) -> Driver:
    """A WSGI reactor with two threads."""
    return shared("driven_wsgi:app", "--threads", "2")


@pytest.fixture(params=["inline", "threaded"])
def wsgi(request: pytest.FixtureRequest) -> Driver:
    """A WSGI reactor, once inline and once with threads."""
    driver: Driver = request.getfixturevalue(request.param)
    return driver


@pytest.fixture(params=["asgi", "inline", "threaded"])
def either(request: pytest.FixtureRequest, shared: Start) -> Driver:
    """A reactor, once of each interface."""
    if request.param == "asgi":
        return shared("driven_asgi:app", "--runtime", "trio")
    driver: Driver = request.getfixturevalue(request.param)
    return driver


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(app, ...)` starts a process for this test alone. The test may end it in any way."""
    drivers: list[Driver] = []

    def run(*arguments: object, **options: object) -> Driver:
        driver = Driver(*arguments, **options)  # type: ignore[arg-type]
        drivers.append(driver)
        return driver

    yield run
    for driver in drivers:
        driver.close()


class Key:
    """Names the gate and the notes of one test in the app."""

    def __init__(self) -> None:
        self._name = f"k{next(_keys)}"

    def __str__(self) -> str:
        return self._name

    def notes(self, driver: Driver) -> list[str]:
        """The app's notes so far."""
        notes: list[str] = json.loads(driver.get(f"/notes?key={self}").body)
        return notes

    def wait_for(self, driver: Driver, note: str) -> list[str]:
        """Wait until a certain note is there, and return all notes."""

        def noted() -> list[str]:
            notes = self.notes(driver)
            return notes if note in notes else []

        return driver.wait(noted)

    def open(self, driver: Driver) -> None:
        """Open the gate, so that the exchanges that wait at it go on."""
        driver.answer(driver.request(get(f"/open?key={self}"))[0])


@pytest.fixture
def key() -> Key:
    return Key()
