"""More than the reactors can do: one bounded queue, first come first served, `503` beyond it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import LANES, Config, Gate, Notes, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

CONFIGS = [Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in LANES]


@pytest.fixture(params=CONFIGS, ids=str)
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


def one_at_a_time(config: Config) -> list[str]:
    """The options of a server with one reactor that runs one request at a time."""
    return [*config.options, *(["--concurrency=1"] if config.interface == "asgi" else [])]


@pytest.fixture
def full(config: Config, shared: Start, connect: Connect, gate: Gate, notes: Notes) -> Server:
    """A server with room for one request, which is taken until the gate opens, and a queue of 3."""
    server = shared(config.app, *one_at_a_time(config), "--queue-size=3")
    connect(server).send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    return server


def wait_in_line(server: Server, connect: Connect, notes: Notes, count: int) -> list[Client]:
    """So many clients that wait, one behind the other."""
    clients = []
    for number in range(count):
        client = connect(server)
        client.send(request("GET", f"/wait?notes={notes}&say={number}"))
        clients.append(client)
        be_seen(server, connect)
    return clients


def be_seen(server: Server, connect: Connect) -> None:
    """Whatever was sent before has been seen by the front end when a later request is answered,
    which it is by the front end itself."""
    assert connect(server).request("GET", "/", [("Expect", "the impossible")]).status == 417


def test_the_newest_are_refused_and_those_who_wait_keep_their_place(
    full: Server, connect: Connect, gate: Gate, notes: Notes
) -> None:
    waiting = wait_in_line(full, connect, notes, 3)
    for _ in range(3):
        answer = connect(full).request("GET", "/hello")
        assert (answer.status, answer.field("retry-after")) == (503, b"1")
    gate.open()
    assert [client.response().text for client in waiting] == ["0", "1", "2"]
    assert connect(full).get("/hello").text == "hello"


def test_a_refused_connection_can_ask_again(full: Server, connect: Connect, gate: Gate) -> None:
    waiting = [connect(full) for _ in range(3)]
    for client in waiting:
        client.send(request("GET", "/hello"))
    client = connect(full)

    def is_refused() -> bool:
        return client.request("HEAD", "/hello").status == 503

    assert eventually(is_refused)
    gate.open()
    assert all(each.response().status == 200 for each in waiting)
    assert eventually(lambda: client.request("GET", "/hello").status == 200)


def test_it_is_decided_before_the_body_is_read(
    full: Server, connect: Connect, notes: Notes
) -> None:
    wait_in_line(full, connect, notes, 3)
    polite = connect(full)
    polite.send(
        request("POST", "/echo", [("Content-Length", "1000000"), ("Expect", "100-continue")])
    )
    answer = polite.response("POST")
    assert (answer.status, answer.interim) == (503, [])
    rash = connect(full)
    rash.send(request("POST", "/echo", [("Transfer-Encoding", "chunked")]))
    assert rash.response("POST").status == 503
    assert rash.at_end()


def test_clients_that_left_are_not_served(
    full: Server, connect: Connect, gate: Gate, notes: Notes
) -> None:
    first, left, last = wait_in_line(full, connect, notes, 3)
    left.reset()
    be_seen(full, connect)
    gate.open()
    assert first.response().text == "0"
    assert last.response().text == "2"
    assert len(notes.lines()) == 3, "the app never saw the request of the one that left"


def test_waiting_has_an_end(
    config: Config, start: Start, connect: Connect, gate: Gate, notes: Notes
) -> None:
    server = start(config.app, *one_at_a_time(config), "--queue-timeout=1")
    busy = connect(server)
    busy.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    answer = connect(server).request("GET", "/hello")
    assert (answer.status, answer.field("retry-after")) == (503, b"1")
    gate.open()
    assert busy.response().text == "waited"
