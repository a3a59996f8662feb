"""Processes that an app starts: each is an ordinary process, and no accident leaves one behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import h11
import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import LANES, RUNTIMES, Config, Start, quick
from tests.integration.server import Server, is_alive
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

ASGI = [Config(lanes=lanes, runtime=runtime) for lanes in LANES for runtime in RUNTIMES]
WSGI = [Config("wsgi", lanes, threads=threads) for lanes in LANES for threads in (1, 4)]
MAIN_THREAD = [config for config in (*ASGI, *WSGI) if config.threads == 1]


def app_of(config: Config) -> tuple[str, ...]:
    options = config.options
    if config.interface == "asgi":
        options += ["--lifespan", "off"]
    return (f"tests.integration.apps.forking:{config.interface}", *options)


@pytest.fixture(params=quick(*ASGI, *WSGI))
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def server(config: Config, shared: Start, connect: Connect) -> Iterator[Server]:
    """One reactor, which serves alone after each test, as before."""
    server = shared(*app_of(config))
    (reactor,) = server.reactor_pids()
    yield server
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        client.send(request("GET", "/pid"))
    assert {client.response().json() for client in clients} == {reactor}
    assert server.reactor_pids() == [reactor]


@pytest.fixture
def own(config: Config, start: Start) -> Server:
    """A server for this test alone."""
    return start(*app_of(config))


# How a child ends


@pytest.mark.parametrize(("deed", "status"), [("exits", 3), ("raises", 1), ("returns", 0)])
def test_a_child_that_comes_back_from_the_app_ends(
    server: Server, connect: Connect, deed: str, status: int
) -> None:
    for _ in range(3):
        assert connect(server).get(f"/{deed}").json() == status


@pytest.mark.parametrize("config", quick(*ASGI))
@pytest.mark.parametrize(("deed", "status"), [("exits", 3), ("raises", 1), ("returns", 0)])
def test_a_child_of_an_app_that_has_suspended_ends(
    server: Server, connect: Connect, deed: str, status: int
) -> None:
    assert connect(server).get(f"/{deed}?later").json() == status


@pytest.mark.parametrize("config", quick(*ASGI))
@pytest.mark.parametrize("deed", ["awaits", "awaits-later", "returns-to-the-loop"])
def test_a_child_cannot_go_on_in_the_event_loop(
    server: Server, connect: Connect, deed: str
) -> None:
    assert connect(server).get(f"/{deed}").json() == 1
    assert "cannot go on in the reactor's event loop" in server.log()


def test_what_a_child_raises_is_told(server: Server, connect: Connect) -> None:
    connect(server).get("/raises")
    assert "RuntimeError: a failure of the child" in server.log()


# Signals


def test_a_child_has_the_signals_of_an_ordinary_process(server: Server, connect: Connect) -> None:
    assert connect(server).get("/signals").json() == [True, True]


def test_a_process_of_multiprocessing_can_be_terminated(server: Server, connect: Connect) -> None:
    for _ in range(10):
        assert connect(server).get("/terminates").json() == -signal.SIGTERM


def test_a_pool_of_multiprocessing_can_be_terminated(server: Server, connect: Connect) -> None:
    assert connect(server).get("/pools").json() == [[1, 2, 3], True]


@pytest.mark.parametrize("config", quick(*MAIN_THREAD))
def test_a_child_keeps_the_handlers_of_its_app(server: Server, connect: Connect) -> None:
    assert connect(server).get("/keeps-a-handler").json() == 7


# Descriptors


@pytest.mark.parametrize("kind", ["python", "c"])
def test_an_answer_that_is_cut_ends_although_a_child_lives(
    server: Server, connect: Connect, kind: str
) -> None:
    client = connect(server)
    client.send(request("GET", f"/cut?{kind}"))
    client.begin()
    pieces = client.pieces()
    child = int(next(pieces))
    try:
        with pytest.raises(h11.RemoteProtocolError):
            next(pieces)
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


# Who outlives whom


@pytest.mark.parametrize("config", [ASGI[0], ASGI[4], WSGI[0], WSGI[3]], ids=str)
def test_children_end_with_a_reactor_that_is_killed_and_with_the_service(
    own: Server, connect: Connect
) -> None:
    (reactor,) = own.reactor_pids()
    children = [connect(own).get(f"/{deed}").json() for deed in ("daemon", "spawns")]
    assert all(map(is_alive, children))
    os.kill(reactor, signal.SIGKILL)
    assert eventually(lambda: not any(map(is_alive, children)))
    # The replacement's children end when it stops in order.
    child = eventually(lambda: connect(own).get("/daemon").json())
    assert is_alive(child)
    assert own.stop() == 0
    assert eventually(lambda: not is_alive(child))


@pytest.mark.parametrize("config", [ASGI[0]], ids=str)
def test_a_child_outlives_a_reload_and_ends_with_the_service(own: Server, connect: Connect) -> None:
    left = connect(own).get("/spawns").json()
    try:
        (before,) = own.reactor_pids()
        own.signal(signal.SIGHUP)
        assert eventually(lambda: not is_alive(before))
        assert is_alive(left)
        child = connect(own).get("/spawns").json()
        assert own.stop() == 0
        assert eventually(lambda: not is_alive(child))
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("config", [ASGI[0]], ids=str)
def test_a_child_that_has_left_the_process_group_goes_on(own: Server, connect: Connect) -> None:
    child = connect(own).get("/detaches").json()
    try:
        (before,) = own.reactor_pids()
        os.kill(before, signal.SIGKILL)
        assert eventually(lambda: not is_alive(before))
        assert own.stop() == 0
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
