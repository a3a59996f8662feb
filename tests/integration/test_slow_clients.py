"""Slow clients in real time: those that are only slow are served, those that drip are given up.

By the byte and by the second this is tested in tests/frontend/clients/test_min_rate.py, with a
clock that is moved by hand.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import (
    HEAVY_CONFIGS,
    LANES,
    RUNTIMES,
    Config,
    Gate,
    Notes,
    Start,
    quick,
)
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

MIB = 1 << 20
every_config = pytest.mark.parametrize("config", HEAVY_CONFIGS)
only_asgi = pytest.mark.parametrize("config", [HEAVY_CONFIGS[0], HEAVY_CONFIGS[2]])


def is_served(server: Server) -> bool:
    with Client(server.address) as client:
        return client.get("/hello").text == "hello"


def drip_out(client: Client) -> None:
    """Read next to nothing, again and again."""
    for _ in range(3000):
        client._sock.recv(100)
        time.sleep(0.01)


def has_got(client: Client) -> bool:
    return bool(select.select([client._sock], [], [], 0)[0])


@every_config
def test_clients_that_drip_are_given_up(config: Config, start: Start, connect: Connect) -> None:
    """A byte now and then is not enough, for a head, a body, or an answer."""
    server = start(
        config.app,
        *config.options,
        *("--head-timeout", "1", "--body-timeout", "1", "--min-body-rate", "1000"),
        *("--response-timeout", "1", "--min-response-rate", "1M"),
    )
    head, body, reader = connect(server), connect(server), connect(server, receive_buffer=4096)
    head.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    body.send(request("POST", "/hash", [("Content-Length", "100000")]))
    reader.send(request("GET", f"/download?size={32 * MIB}"))
    began = time.monotonic()
    waiting = {head, body}
    while waiting:
        time.sleep(0.05)
        for client in list(waiting):
            if has_got(client):
                waiting.remove(client)
                assert client.response().status == 408
                assert time.monotonic() - began > 0.75
            else:
                client.send(b"x")
        assert is_served(server)
        assert time.monotonic() - began < 30
    with pytest.raises(ConnectionResetError):
        drip_out(reader)


@every_config
def test_a_client_that_reads_slowly_but_steadily(
    config: Config, start: Start, connect: Connect, notes: Notes
) -> None:
    """100 KB/s: slower than the kernel asks for more, so that only a look at it tells of progress.

    An ASGI app is held up, a WSGI app is not.
    """
    server = start(config.app, *config.options, "--response-timeout", "2")
    client = connect(server, receive_buffer=65536)
    client.send(request("GET", f"/download?size={32 * MIB}&notes={notes}"))
    assert client.begin().status == 200
    if config.interface == "wsgi":
        notes.wait_for("finished")
    began = last = time.monotonic()
    read = 0
    while last - began < 5:
        # On a busy machine a turn takes longer, and reads more.
        due = int(100_000 * (time.monotonic() - began)) - read
        try:
            read += len(client._sock.recv(max(due, 1)))
        except ConnectionResetError:
            if time.monotonic() - last > 1.6:
                pytest.skip("this machine was too busy for the client to be steady")
            raise
        last = time.monotonic()
        time.sleep(0.05)
        assert is_served(server)
    assert read < 2 * MIB
    assert "took too little" not in server.log()
    if config.interface == "asgi":
        sent = [int(line.split()[1]) for line in notes.lines() if line.startswith("sent")]
        assert max(sent) < read + 8 * MIB
        assert "finished" not in notes.lines()


@only_asgi
def test_a_stream_whose_app_takes_its_time(
    config: Config, start: Start, connect: Connect, gate: Gate, second_gate: Gate
) -> None:
    """Nothing waits for the client, so that no time runs against it."""
    server = start(
        config.app,
        *config.options,
        *("--response-timeout", "0.5", "--min-response-rate", "1G", "--body-timeout", "0.5"),
        *("--head-timeout", "0.5", "--keep-alive", "0.5"),
    )
    client = connect(server)
    client.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    client.begin()
    pieces = client.pieces()
    assert next(pieces) == b"data: 1\n\n"
    for number, each in enumerate((gate, second_gate)):
        time.sleep(1.2)
        each.open()
        assert next(pieces) == b"data: %d\n\n" % (number + 2)
    assert list(pieces) == []


@only_asgi
def test_a_client_that_waits_for_100_continue(
    config: Config, start: Start, connect: Connect, gate: Gate, notes: Notes
) -> None:
    """The app takes its time to ask for the body: that is not the client's fault."""
    server = start(config.app, *config.options, "--body-timeout", "0.5")
    client = connect(server)
    fields = [("Content-Length", "5"), ("Expect", "100-continue")]
    client.send(request("POST", f"/hash?gate={gate}&notes={notes}", fields))
    notes.wait_for("started")
    time.sleep(1.2)
    assert not has_got(client)
    gate.open()
    assert client.informational("POST") == 100
    client.send(b"hello")
    assert client.response("POST").json()["size"] == 5


def test_a_client_that_is_gone_for_good_holds_nothing(
    start: Start, connect: Connect, notes: Notes
) -> None:
    """It closes while its app waits; the app hears of it, and its place is free."""
    server = start("tests.integration.apps.asgi:app", "--concurrency", "1")
    client = connect(server)
    client.send(request("GET", f"/long-poll?notes={notes}"))
    notes.wait_for("started")
    client.reset()
    notes.wait_for("http.disconnect")
    assert eventually(lambda: is_served(server))


CROWDED = [Config("asgi", lanes, runtime=runtime) for lanes in LANES for runtime in RUNTIMES]


@pytest.fixture(params=quick(*CROWDED))
def crowded(request: pytest.FixtureRequest, shared: Start) -> Server:
    """A reactor that takes five exchanges at once, and a short queue.

    The front end counts those that wait for clients at most every 10 ms. So the queue has room for
    one that comes earlier.
    """
    config = request.param
    options = ["--concurrency", "5", "--queue-size", "1", "--body-timeout", "0"]
    options += ["--response-timeout", "0", "--admin", "localhost:0", "--reactors", "1"]
    server = shared(config.app, *config.options, *options)
    # The clients of the test before have left.
    assert eventually(lambda: in_flight(server) == 0)
    return server


def status_of(server: Server) -> dict[str, int]:
    """What `status` tells of its only reactor."""
    (address,) = re.findall(r"admin socket on (http://127\S+)", server.log())
    with Client(address) as client:
        client.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reactor: dict[str, int]
        (reactor,) = client.response().json()["reactors"]
    return reactor


def in_flight(server: Server) -> int:
    return status_of(server)["in_flight"]


def are_waiting(server: Server, count: int) -> bool:
    return status_of(server)["waiting_for_client"] == count


@pytest.mark.parametrize(
    ("fields", "begin", "streamed"),
    [
        pytest.param([("Content-Length", "60000")], b"x", False, id="small"),
        pytest.param([("Content-Length", "140000")], b"x", True, id="large"),
        pytest.param([("Transfer-Encoding", "chunked")], b"5\r\nfirst\r\n", True, id="chunked"),
    ],
)
def test_slow_uploads_take_no_capacity(
    crowded: Server, connect: Connect, fields: list[tuple[str, str]], begin: bytes, streamed: bool
) -> None:
    for count in range(1, 21):
        connect(crowded).send(request("POST", "/hash", fields) + begin)
        if streamed:
            assert eventually(partial(are_waiting, crowded, count))
    for _ in range(20):
        assert is_served(crowded)


def test_clients_that_do_not_read_take_no_capacity(crowded: Server, connect: Connect) -> None:
    for count in range(1, 21):
        client = connect(crowded, receive_buffer=4096)
        client.send(request("GET", f"/download?size={16 * MIB}"))
        assert eventually(partial(are_waiting, crowded, count))
    for _ in range(20):
        assert is_served(crowded)
