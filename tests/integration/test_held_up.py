"""An app that computes in a reactor's loop holds up only what cannot be served elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import LANES, RUNTIMES, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

APP = """
import os, pathlib, time

FOLDER = pathlib.Path({folder!r})

async def asgi(scope, receive, send):
    name = scope["path"][1:]
    if name:
        (FOLDER / f"begun-{{name}}").touch()
        while not (FOLDER / f"open-{{name}}").exists():
            time.sleep(0.005)
    text = name.encode() or b"fast"
    fields = [(b"content-length", b"%d" % len(text))]
    await send({{"type": "http.response.start", "status": 200, "headers": fields}})
    await send({{"type": "http.response.body", "body": text}})
"""


class Held:
    """Two reactors, and requests that hold up whichever they come to until they are let go."""

    def __init__(self, server: Server, connect: Connect, folder: Path, admin: str) -> None:
        self.server = server
        self.connect = connect
        self._folder = folder
        self._admin = admin

    def hold_up(self, name: str, seconds: float = 0.01) -> Client:
        """Begin such a request. By default it then counts as one that holds up the loop."""
        client = self.connect(self.server)
        client.send(request("GET", f"/{name}"))
        assert eventually(lambda: self.has_begun(name))
        begun = time.monotonic()
        assert eventually(lambda: time.monotonic() > begun + seconds)
        return client

    def has_begun(self, name: str) -> bool:
        return (self._folder / f"begun-{name}").exists()

    def let_go(self, name: str) -> None:
        (self._folder / f"open-{name}").touch()

    def heuristics(self) -> dict[str, int]:
        """What the front end knows of slow routes, and has decided about their requests."""
        status = self.connect(self._admin).get("/status").json()
        found: dict[str, int] = status["heuristics"]["set_aside"]
        return found

    def ask(self, count: int, path: str = "/") -> list[Client]:
        clients = [self.connect(self.server) for _ in range(count)]
        for client in clients:
            client.send(request("GET", path))
        return clients


PAIRS = [("express", "trio"), ("plain", "asyncio")]
"""Each kind of lane and each kind of loop. The slow tests run the other two pairs too."""


@pytest.fixture(
    params=[
        pytest.param((lanes, runtime), marks=() if (lanes, runtime) in PAIRS else pytest.mark.slow)
        for lanes in LANES
        for runtime in RUNTIMES[:2]
    ],
    ids=str,
)
def held(
    request: pytest.FixtureRequest, start: Start, connect: Connect, tmp_path: Path
) -> Iterator[Held]:
    lanes, runtime = request.param
    (tmp_path / "holding_app.py").write_text(APP.format(folder=str(tmp_path)))
    options = ["--lifespan", "off", "--reactors", "2", "--lanes", lanes, "--runtime", runtime]
    admin = f"unix:{tmp_path}/admin.sock"
    server = start("holding_app:asgi", *options, "--admin", admin, app_dir=tmp_path)
    assert eventually(lambda: server.log().count("is ready") == 2)
    held = Held(server, connect, tmp_path, admin)
    yield held
    for name in "one", "two", "work-98", "work-99":
        held.let_go(name)


def test_others_are_served_beside_it(held: Held) -> None:
    slow = held.hold_up("one")
    for _ in range(5):
        for client in held.ask(10):
            assert client.response().body == b"fast"
    held.let_go("one")
    assert slow.response().body == b"one"


def test_what_it_has_and_has_not_begun_is_served_elsewhere(held: Held) -> None:
    """It was given all that at once, before anything showed that it would stall."""
    client, *others = (held.connect(held.server) for _ in range(41))
    asked = [held.connect(held.server) for _ in range(20)]
    held.server.signal(signal.SIGSTOP)
    client.send(request("GET", "/one"))
    for other in others:
        other.send(request("GET", "/"))
    for other in asked:
        other.send(request("POST", "/", body=b"x"))
    held.server.signal(signal.SIGCONT)
    assert eventually(lambda: held.has_begun("one"))
    for other in others:
        assert other.response().body == b"fast"
    # A stalled reactor cannot give back what must not run twice.
    held.let_go("one")
    assert client.response().body == b"one"
    for other in asked:
        assert other.response().body == b"fast"


def test_when_all_are_held_up_the_first_that_goes_on_serves_who_waits(held: Held) -> None:
    held.hold_up("one")
    second = held.hold_up("two")
    waiting = held.ask(10)
    held.let_go("two")
    assert second.response().body == b"two"
    assert [client.response().body for client in waiting] == [b"fast"] * 10


def test_one_that_is_known_to_be_slow_leaves_a_reactor_to_others(held: Held) -> None:
    # Three make a route slow for a reactor, and it is open which of the reactors gets each of them.
    numbers = iter(range(10))
    while not held.heuristics()["routes"]:
        name = f"work-{next(numbers)}"
        client = held.hold_up(name, 0.5)
        held.let_go(name)
        client.response()
    clients = [held.connect(held.server) for _ in range(12)]
    # A slow request stands aside only if there are others.
    begun = time.monotonic()
    asking = held.ask(10)
    while time.monotonic() < begun + 1.2:
        for client in asking:
            client.response()
            client.send(request("GET", "/"))
    # They arrive at once, so the second has not stood aside for long when the others come.
    held.server.signal(signal.SIGSTOP)
    first, second, *others = clients
    first.send(request("GET", "/work-98"))
    second.send(request("GET", "/work-99"))
    for client in others:
        client.send(request("GET", "/"))
    held.server.signal(signal.SIGCONT)
    for client in others:
        assert client.response().body == b"fast"
    assert held.heuristics()["set_aside"] >= 2
    held.let_go("work-98")
    held.let_go("work-99")
    assert first.response().body == b"work-98"
    assert second.response().body == b"work-99"
