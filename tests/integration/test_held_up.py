"""An app that computes in a reactor's loop holds up only what cannot be served elsewhere."""

from __future__ import annotations

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

    def __init__(self, server: Server, connect: Connect, folder: Path) -> None:
        self.server = server
        self.connect = connect
        self._folder = folder

    def hold_up(self, name: str) -> Client:
        client = self.connect(self.server)
        client.send(request("GET", f"/{name}"))
        assert eventually((self._folder / f"begun-{name}").exists)
        begun = time.monotonic()
        # Long enough for the loop to count as held up.
        assert eventually(lambda: time.monotonic() > begun + 0.01)
        return client

    def let_go(self, name: str) -> None:
        (self._folder / f"open-{name}").touch()

    def ask(self, count: int) -> list[Client]:
        clients = [self.connect(self.server) for _ in range(count)]
        for client in clients:
            client.send(request("GET", "/"))
        return clients


@pytest.fixture(params=[(lanes, runtime) for lanes in LANES for runtime in RUNTIMES[:2]], ids=str)
def held(
    request: pytest.FixtureRequest, start: Start, connect: Connect, tmp_path: Path
) -> Iterator[Held]:
    lanes, runtime = request.param
    (tmp_path / "holding_app.py").write_text(APP.format(folder=str(tmp_path)))
    options = ["--lifespan", "off", "--reactors", "2", "--lanes", lanes, "--runtime", runtime]
    server = start("holding_app:asgi", *options, app_dir=tmp_path)
    assert eventually(lambda: server.log().count("is ready") == 2)
    held = Held(server, connect, tmp_path)
    yield held
    for name in "one", "two":
        held.let_go(name)


def test_others_are_served_beside_it(held: Held) -> None:
    slow = held.hold_up("one")
    for _ in range(5):
        for client in held.ask(10):
            assert client.response().body == b"fast"
    held.let_go("one")
    assert slow.response().body == b"one"


def test_when_all_are_held_up_the_first_that_goes_on_serves_who_waits(held: Held) -> None:
    held.hold_up("one")
    second = held.hold_up("two")
    waiting = held.ask(10)
    held.let_go("two")
    assert second.response().body == b"two"
    assert [client.response().body for client in waiting] == [b"fast"] * 10
