"""Reload, replacement, scaling and stop of a real service, under load: nobody notices."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import HEAVY_CONFIGS, Config, Gate, Notes, Start
from tests.integration.load import Load
from tests.integration.server import Server, is_alive
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

ASGI = "tests.integration.apps.asgi:app"


@pytest.fixture(params=HEAVY_CONFIGS)
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@contextmanager
def load(server: Server) -> Iterator[list[Load]]:
    """Eight clients; in the end each must have got nothing but good answers."""
    clients = [Load(server.address) for _ in range(8)]
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()
    assert [client.failure for client in clients] == [None] * len(clients)
    assert set(sum((client.statuses for client in clients), Counter[int]())) == {200}


def reload(server: Server) -> None:
    """Reload, and wait until the old reactors have left."""
    before = server.reactor_pids()
    reloads = server.log().count("serves; generation")
    server.signal(signal.SIGHUP)
    assert eventually(lambda: server.log().count("serves; generation") > reloads)
    assert eventually(lambda: replaced(server, before))


def all_served_by(clients: list[Load], pids: list[int]) -> bool:
    """Each client has got an answer by one of these reactors."""
    return all(any(map(client.answered, pids)) for client in clients)


def replaced(server: Server, before: list[int]) -> bool:
    """As many reactors as before run, and each of them is new."""
    now = server.reactor_pids()
    return len(now) == len(before) and not set(now) & set(before)


def test_reloads_under_load_are_noticed_by_nobody(config: Config, start: Start) -> None:
    server = start(config.app, *config.options, "--reactors", "2")
    with load(server) as clients:
        for _ in range(2):
            reload(server)
            pids = server.reactor_pids()
            assert eventually(partial(all_served_by, clients, pids))


def test_what_streams_is_finished_by_the_generation_that_began_it(
    start: Start, connect: Connect, gate: Gate, second_gate: Gate
) -> None:
    server = start(ASGI)
    streaming = connect(server)
    streaming.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    streaming.begin()
    (old,) = server.reactor_pids()
    server.signal(signal.SIGHUP)
    client = connect(server)
    assert eventually(lambda: client.get("/pid").json() != old)
    gate.open()
    second_gate.open()
    assert b"".join(streaming.pieces()).endswith(b"data: 3\n\n")
    assert eventually(lambda: not is_alive(old))
    assert streaming.get("/pid").json() != old


APP = """
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": b"{version}"}})
"""


def test_a_broken_version_leaves_the_one_before_serving(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    module = tmp_path / "versioned.py"
    module.write_text(APP.format(version="one"))
    server = start("versioned:app", "--lifespan", "off", app_dir=tmp_path)
    client = connect(server)
    assert client.get("/").text == "one"
    module.write_text("this is no Python")
    server.signal(signal.SIGHUP)
    assert eventually(lambda: "RELOAD FAILED" in server.log())
    assert "SyntaxError" in server.log()
    assert client.get("/").text == "one"
    module.write_text(APP.format(version="the second one"))
    server.signal(signal.SIGHUP)
    assert eventually(lambda: client.get("/").text == "the second one")


def test_reactors_are_replaced_after_so_many_requests(config: Config, start: Start) -> None:
    server = start(config.app, *config.options, "--reactors=2", "--max-requests=20")
    with load(server):
        before = server.reactor_pids()
        assert eventually(lambda: not set(before) & set(server.reactor_pids()), deadline=30)


def test_reactors_are_added_and_removed(start: Start) -> None:
    server = start(ASGI)
    with load(server) as clients:
        (first,) = server.reactor_pids()
        server.signal(signal.SIGTTIN)
        assert eventually(lambda: len(server.reactor_pids()) == 2)
        (added,) = set(server.reactor_pids()) - {first}
        assert eventually(lambda: any(client.answered(added) for client in clients))
        server.signal(signal.SIGTTOU)
        assert eventually(lambda: len(server.reactor_pids()) == 1)


def test_a_front_end_tells_what_it_does(start: Start, connect: Connect) -> None:
    server = start(ASGI)
    server.signal(signal.SIGUSR1)
    assert eventually(lambda: "most recent call first" in server.log())
    assert connect(server).get("/hello").text == "hello"


# Stopping -----------------------------------------------------------------------------------------


def test_stopping_gives_each_connection_a_last_answer(config: Config, start: Start) -> None:
    """Clients that ask without pause read `Connection: close` and then the end, never a reset."""
    server = start(config.app, *config.options, env={"REACTOR_RUN_CLOSE_GRACE": "2"})
    with load(server) as clients:
        assert eventually(lambda: all(client.statuses[200] > 3 for client in clients))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert all(client.closed for client in clients)


def test_a_stop_serves_those_who_wait_in_the_backlog(start: Start, connect: Connect) -> None:
    server = start(ASGI, env={"REACTOR_RUN_CLOSE_GRACE": "2"})
    server.signal(signal.SIGSTOP)
    clients = [connect(server) for _ in range(100)]
    for client in clients:
        client.send(request("GET", "/hello"))
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGCONT)
    assert all(client.response().text == "hello" for client in clients)
    assert server.wait() == 0


def test_an_idle_connection_is_closed_when_its_grace_is_over(
    start: Start, connect: Connect
) -> None:
    server = start(ASGI, env={"REACTOR_RUN_CLOSE_GRACE": "1"})
    client = connect(server)
    client.get("/hello")
    server.signal(signal.SIGTERM)
    assert client.at_end()
    assert server.wait() == 0


def test_a_delayed_stop_serves_new_connections_meanwhile(start: Start, connect: Connect) -> None:
    server = start(ASGI, "--shutdown-delay", "2")
    client = connect(server)
    server.signal(signal.SIGTERM)
    line = "SIGTERM received, shutting down in 2 s (0 requests in flight, at most 32 s)"
    assert eventually(lambda: line in server.log())
    assert client.get("/hello").field("connection") is None
    assert connect(server).get("/hello").field("connection") is None
    assert server.wait() == 0


def test_a_stop_during_a_reload_leaves_no_process(
    start: Start, connect: Connect, notes: Notes, gate: Gate
) -> None:
    server = start(ASGI)
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    server.signal(signal.SIGHUP)
    assert eventually(lambda: len(server.reactor_pids()) == 2)
    pids = server.reactor_pids()
    server.signal(signal.SIGTERM)
    gate.open()
    assert client.response().text == "waited"
    assert server.wait() == 0
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_stop_at_once(
    start: Start, connect: Connect, notes: Notes, gate: Gate, number: signal.Signals
) -> None:
    """By SIGQUIT, or by a second SIGINT."""
    server = start(ASGI)
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    pid = int(notes.first())
    if number == signal.SIGINT:
        server.signal(number)
        assert eventually(lambda: "SIGINT received, shutting down" in server.log())
    server.signal(number)
    assert server.wait() == 0
    assert not is_alive(pid)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(client.remote)
