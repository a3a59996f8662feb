"""Processes that end, by accident or on a signal: who notices, and what clients see of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h11
import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import HEAVY_CONFIGS, LANES, Config, Gate, Notes, Start
from tests.integration.load import Load
from tests.integration.server import Server, is_alive
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

CONFIGS = [Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in LANES]
ASGI = CONFIGS[:2]
heavy = pytest.mark.parametrize("config", HEAVY_CONFIGS, indirect=True)


@pytest.fixture(params=CONFIGS, ids=str)
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def own(config: Config, start: Start) -> Server:
    """A server that the test ends."""
    return start(config.app, *config.options)


@pytest.fixture
def server(config: Config, shared: Start, connect: Connect) -> Server:
    """A server whose reactor the test ends. What an earlier test has ended is replaced."""
    server = shared(config.app, *config.options)
    assert connect(server).get("/pid").json() in server.reactor_pids()
    return server


@pytest.fixture
def pair(config: Config, shared: Start) -> Server:
    """A server with two reactors, both of which are ready."""
    server = shared(config.app, *config.options, "--reactors", "2")
    assert eventually(lambda: len(server.reactor_pids()) == 2)
    seen: set[int] = set()

    def both_serve() -> bool:
        clients = [Client(server.address) for _ in range(8)]
        for client in clients:
            client.send(request("GET", "/pid"))
        seen.update(client.response().json() for client in clients)
        for client in clients:
            client.close()
        return seen == set(server.reactor_pids())

    assert eventually(both_serve)
    return server


# A reactor dies


def test_of_two_reactors_one_is_killed_under_load(pair: Server) -> None:
    """No connection breaks, and no request is lost."""
    before = pair.reactor_pids()
    victim = before[0]
    load = [Load(pair.address) for _ in range(8)]
    try:
        assert eventually(lambda: all(each.answered(victim) for each in load))
        os.kill(victim, signal.SIGKILL)

        def is_replaced() -> bool:
            pids = pair.reactor_pids()
            return len(pids) == 2 and victim not in pids and is_alive(pids[1])

        assert eventually(is_replaced)
        (newcomer,) = set(pair.reactor_pids()) - set(before)
        assert eventually(lambda: any(each.answered(newcomer) for each in load), deadline=20)
    finally:
        for each in load:
            each.stop()
    assert [each.failure for each in load] == [None] * len(load)
    statuses = sum((each.statuses for each in load), Counter[int]())
    assert set(statuses) == {200}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_reactor_that_dies_before_it_answers_gives_502(
    pair: Server, connect: Connect, gate: Gate, notes: Notes, large: bool
) -> None:
    """The client's connection lives on, and its next request is served by a reactor that lives."""
    client = connect(pair)
    body = b"x" * 200_000 if large else None
    client.send(request("POST", f"/wait?gate={gate}&notes={notes}", body=body))
    os.kill(int(notes.first()), signal.SIGKILL)
    assert client.response().status == 502
    if not large:
        assert client.get("/hello").text == "hello"
    assert connect(pair).get("/hello").text == "hello"


def test_the_only_reactor_dies_and_waiting_requests_are_served_by_the_next(
    server: Server, connect: Connect, gate: Gate, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("POST", f"/wait?gate={gate}&notes={notes}"))
    victim = int(notes.first())
    os.kill(victim, signal.SIGKILL)
    assert client.response().status == 502
    assert client.get("/pid").json() != victim


def test_a_reactor_that_dies_in_its_answer_shows_the_truncation(
    server: Server, connect: Connect, gate: Gate
) -> None:
    client = connect(server)
    client.send(request("GET", f"/steps?gate={gate}&gate2={gate}"))
    client.begin()
    pieces = client.pieces()
    assert next(pieces) == b"data: 1\n\n"
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    with pytest.raises(h11.RemoteProtocolError, match="incomplete chunked read"):
        next(pieces)


def test_a_reactor_whose_app_exits_is_replaced_too(server: Server, connect: Connect) -> None:
    before = server.reactor_pids()
    assert connect(server).request("GET", "/leave").status == 502
    assert connect(server).get("/pid").json() not in before


def test_a_reactor_leaves_signals_to_the_front_end(server: Server, connect: Connect) -> None:
    """A terminal and a service manager signal every process; the front end stops the reactors."""
    (reactor,) = server.reactor_pids()
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(reactor, number)
        assert connect(server).get("/pid").json() == reactor


# The front end dies


@heavy
def test_no_reactor_outlives_a_front_end_that_was_killed(config: Config, start: Start) -> None:
    server = start(config.app, *config.options, "--reactors", "2")
    assert eventually(lambda: server.log().count(" is ready") == 2)
    reactors = server.reactor_pids()
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    assert eventually(lambda: not any(is_alive(pid) for pid in reactors))


BLOCKED = """
import asyncio, pathlib, time

async def asgi(scope, receive, send):
    pathlib.Path({path!r}).touch()
    time.sleep(1000)

def wsgi(environ, start_response):
    pathlib.Path({path!r}).touch()
    time.sleep(1000)
"""


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_reactor_blocked_by_its_app_does_not_outlive_the_front_end(
    interface: str, start: Start, connect: Connect, tmp_path: Path
) -> None:
    reached = tmp_path / "reached"
    (tmp_path / "blocked_app.py").write_text(BLOCKED.format(path=str(reached)))
    server = start(f"blocked_app:{interface}", "--lifespan", "off", app_dir=tmp_path)
    connect(server).send(request("GET", "/"))
    assert eventually(reached.exists)
    reactors = server.reactor_pids()
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    assert eventually(lambda: not any(is_alive(pid) for pid in reactors))


# Stopping


def refuses_connections(server: Server) -> bool:
    try:
        Client(server.address).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_requests_in_flight_are_answered_before_the_end(
    own: Server,
    connect: Connect,
    gate: Gate,
    notes: Notes,
    number: signal.Signals,
    whole_group: bool,
) -> None:
    """A terminal sends Ctrl-C to the whole group; the reactors leave it to the front end."""
    client, idle = connect(own), connect(own)
    idle.get("/hello")
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    reactors = own.reactor_pids()
    if whole_group:
        os.killpg(own.pid, number)
    else:
        own.signal(number)
    assert eventually(lambda: refuses_connections(own))
    assert idle.at_end()
    gate.open()
    answer = client.response()
    assert (answer.status, answer.text) == (200, "waited")
    assert client.at_end()
    assert own.wait() == 0
    assert not any(is_alive(pid) for pid in reactors)


@pytest.mark.parametrize("config", ASGI, ids=str, indirect=True)
def test_a_stream_in_flight_is_finished_before_the_end(
    own: Server, connect: Connect, gate: Gate, second_gate: Gate
) -> None:
    client = connect(own)
    client.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    client.begin()
    own.signal(signal.SIGTERM)
    assert eventually(lambda: refuses_connections(own))
    gate.open()
    second_gate.open()
    assert b"".join(client.pieces()).endswith(b"data: 3\n\n")
    assert own.wait() == 0


@heavy
def test_requests_that_never_end_are_cut_off_after_the_graceful_timeout(
    config: Config, start: Start, connect: Connect, gate: Gate, notes: Notes
) -> None:
    server = start(config.app, *config.options, "--graceful-timeout", "0.3")
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    reactor = int(notes.first())
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait()
    assert time.monotonic() - began > 0.25
    assert not is_alive(reactor)


def test_a_stopped_server_leaves_no_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = start(CONFIGS[0].app, bind=(f"unix:{path}",))
    assert path.is_socket()
    server.close()
    assert not path.exists()


def test_the_socket_of_a_killed_server_is_replaced(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start(CONFIGS[0].app, bind=(f"unix:{path}",)).kill()
    assert path.is_socket()
    server = start(CONFIGS[0].app, bind=(f"unix:{path}",))
    with Client(server.address) as client:
        client.get("/hello")


def test_a_listener_passed_by_a_parent_is_served(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        server = start(CONFIGS[0].app, bind=(f"fd:{fd}",), pass_fds=[fd])
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            client.get("/hello")
        assert server.address.endswith(str(listener.getsockname()[1]))
