"""SIGUSR2: a new front end takes the listeners over, and no client is refused or cut off."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.load import Load
from tests.integration.server import Server, is_alive
from tests.integration.waiting import eventually

APP = """
import os

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

PATIENT = """
import os, time

while not os.path.exists({go!r}):
    time.sleep(0.01)
"""

Upgraded = Callable[[Server], int]


@pytest.fixture
def upgraded() -> Iterator[Upgraded]:
    """`upgraded(server)`: ask for an upgrade; the process of the new front end.

    What is left of them when the test is over is ended: they are not the test's own children.
    """
    with ExitStack() as closing:

        def upgrade(server: Server) -> int:
            pattern = r"the new front end is process (\d+)"
            before = len(re.findall(pattern, server.log()))
            server.signal(signal.SIGUSR2)
            assert eventually(lambda: len(re.findall(pattern, server.log())) > before)
            pid = int(re.findall(pattern, server.log())[-1])
            closing.callback(end, pid)
            return pid

        yield upgrade


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    assert eventually(lambda: not is_alive(pid), deadline=20)


@pytest.fixture
def server(start: Start, tmp_path: Path) -> Server:
    (tmp_path / "upgraded_app.py").write_text(APP)
    return start(
        "upgraded_app:app",
        "--lifespan=off",
        "--reactors=2",
        f"--admin=unix:{tmp_path}/admin",
        "--health=127.0.0.1:0",
        bind=("127.0.0.1:0", f"unix:{tmp_path}/socket"),
        app_dir=tmp_path,
        env={"REACTOR_RUN_CLOSE_GRACE": "1"},
    )


def answer(address: str) -> str:
    with Client(address) as client:
        return client.get("/").text


def test_no_client_notices_an_upgrade(server: Server, upgraded: Upgraded, tmp_path: Path) -> None:
    old = server.reactor_pids()
    clients = [Load(address, reconnects=True) for address in server.addresses for _ in range(4)]
    try:
        new = upgraded(server)
        assert server.wait(deadline=30) == 0
        assert not any(map(is_alive, old))
        assert is_alive(new)
        answered = [client.statuses[200] for client in clients]
        assert eventually(
            lambda: all(
                client.failure or client.statuses[200] > before + 3
                for client, before in zip(clients, answered, strict=True)
            )
        )
    finally:
        for client in clients:
            client.stop()
    assert [client.failure for client in clients] == [None] * len(clients)
    assert set(sum((client.statuses for client in clients), Counter[int]())) == {200}
    assert all(client.closed for client in clients), "each has moved to the new front end"

    with Client(f"unix:{tmp_path}/admin") as admin:
        assert admin.get("/status").json()["pid"] == new
    os.kill(new, signal.SIGTERM)
    assert eventually(lambda: not is_alive(new))
    assert not (tmp_path / "socket").exists()
    assert not (tmp_path / "admin").exists()


def test_the_service_is_ready_throughout_an_upgrade(
    server: Server, upgraded: Upgraded, tmp_path: Path, gate: Gate, notes: Notes
) -> None:
    """What listens already, and is not ready itself, must not speak for the service."""
    (health,) = re.findall(r"health on (\S+)", server.log())
    waiting = f"""
import pathlib, time
open({str(notes._path)!r}, "a").write("starting\\n")
while not pathlib.Path({str(gate._path)!r}).exists():
    time.sleep(0.01)
"""
    (tmp_path / "upgraded_app.py").write_text(waiting + APP)
    upgraded(server)
    assert eventually(lambda: len(notes.lines()) == 2)

    def ready() -> bool:
        for address in (health, f"unix:{tmp_path}/admin"):
            with Client(address) as client:
                client.get("/readyz")
        return True

    assert all(ready() for _ in range(20))
    gate.open()
    while server.process.poll() is None:
        assert ready()
    assert ready()


def test_who_asked_the_old_front_end_is_told_of_the_service(
    server: Server, upgraded: Upgraded, tmp_path: Path, gate: Gate
) -> None:
    """A probe that the old one accepted, and that asks when the new one serves already."""
    waiting = f"""
import anyio, os

async def app(scope, receive, send):
    while scope["path"] == "/wait" and not os.path.exists({str(gate._path)!r}):
        await anyio.sleep(0.01)
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": b"waited"}})
"""
    (tmp_path / "upgraded_app.py").write_text(waiting)
    server.signal(signal.SIGHUP)
    assert eventually(lambda: "generation 2 serves" in server.log())
    (health,) = re.findall(r"health on (\S+)", server.log())
    with Client(server.addresses[0]) as client, Client(health) as probe:
        probe.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\n")
        client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        answer(server.addresses[0])
        upgraded(server)
        assert eventually(lambda: "shutting down this one" in server.log())
        probe.send(b"\r\n")
        assert probe.response().status == 200
        gate.open()
        assert client.response().text == "waited"
    assert server.wait(deadline=30) == 0


def test_a_new_front_end_that_fails_leaves_the_old_one_serving(
    server: Server, upgraded: Upgraded, tmp_path: Path
) -> None:
    (tmp_path / "upgraded_app.py").write_text("this is no Python")
    new = upgraded(server)
    assert eventually(lambda: "UPGRADE FAILED" in server.log())
    assert not is_alive(new)
    for address in server.addresses:
        assert int(answer(address)) in server.reactor_pids()
    (tmp_path / "upgraded_app.py").write_text(APP)
    upgraded(server)
    assert server.wait(deadline=30) == 0
    assert all(answer(address).isdigit() for address in server.addresses)


def test_an_upgraded_front_end_can_be_upgraded_and_stopped(
    server: Server, upgraded: Upgraded, tmp_path: Path
) -> None:
    first = upgraded(server)
    assert server.wait(deadline=30) == 0
    os.kill(first, signal.SIGUSR2)
    assert eventually(lambda: server.log().count("the new front end accepts") == 2)
    second = int(re.findall(r"the new front end is process (\d+)", server.log())[-1])
    assert eventually(lambda: not is_alive(first))
    assert answer(server.address).isdigit()
    end(second)
    assert not (tmp_path / "socket").exists()


def test_a_front_end_that_does_not_serve_yet_is_not_upgraded(
    start: Start, upgraded: Upgraded, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    (tmp_path / "patient.py").write_text(PATIENT.format(go=str(go)) + APP)
    server = start("patient:app", "--lifespan=off", app_dir=tmp_path)
    go.unlink()
    try:
        new = upgraded(server)
        # From then on it handles signals.
        assert eventually(lambda: server.log().count("listening on") == 2)
        os.kill(new, signal.SIGUSR2)
        assert eventually(lambda: "does not accept connections yet" in server.log())
    finally:
        go.touch()
    assert server.wait(deadline=30) == 0
    assert is_alive(new)
    assert server.log().count("the new front end is process") == 1
    assert answer(server.address)


def test_a_stop_during_an_upgrade_ends_both(
    server: Server, upgraded: Upgraded, tmp_path: Path
) -> None:
    (tmp_path / "upgraded_app.py").write_text("import time; time.sleep(1000)")
    new = upgraded(server)
    server.signal(signal.SIGUSR2)
    assert eventually(lambda: "another upgrade is in progress" in server.log())
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not is_alive(new)
    assert not (tmp_path / "socket").exists()
