"""Clients that take what they can get: connections, descriptors, memory. Everybody else is served.

What a front end does at each bound is tested one by one in tests/frontend; here real processes
really run out of something.
"""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import h11
import pytest

from tests.integration.apps.shared import pattern
from tests.integration.client import Client, request
from tests.integration.conftest import HEAVY_CONFIGS, LANES, Config, Gate, Notes, Start
from tests.integration.leaks import Figures, complaints, cpu_seconds, figures, settled
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

MIB = 1 << 20
CONFIGS = [Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in LANES]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)
some_configs = pytest.mark.parametrize("config", HEAVY_CONFIGS)


def app_of(config: Config) -> str:
    """The app that knows of clients that leave."""
    return config.app.replace("asgi", "storm_asgi")


def is_served(server: Server) -> bool:
    with Client(server.address) as client:
        return client.get("/hello").text == "hello"


def fresh(server: Server) -> Figures:
    """What it holds at first, once it serves: its reactor may not have all it is given before."""
    assert is_served(server)
    return at_rest(server)


def at_rest(server: Server) -> Figures:
    """What it holds once all clients are gone."""
    assert eventually(server.is_at_rest)
    return figures(server)


def read_to_the_end(client: Client) -> None:
    while client._sock.recv(MIB):
        pass


# Open files


@contextmanager
def open_files(pid: int, room: int) -> Iterator[None]:
    """In the block, the process may open no more than `room` files besides those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    # The limit is one of numbers: those that are free below the last one taken count as well.
    free = [number for number in range(taken[-1] + room + 1) if number not in taken]
    limit = free[room] if room < len(free) else taken[-1] + room + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_connections_wait_while_there_is_no_descriptor_left(
    start: Start, connect: Connect, gate: Gate, notes: Notes
) -> None:
    config = Config()
    server = start(config.app, *config.options)
    at_start = fresh(server)
    with open_files(server.pid, room=5):
        clients = [connect(server) for _ in range(20)]
        for client in clients:
            client.send(request("GET", f"/wait?gate={gate}&notes={notes}&say=served"))
        assert eventually(lambda: "no connection can be accepted" in server.log())
        assert eventually(lambda: len(notes.lines()) == 5)
        # It rests, and looks again now and then.
        before, began = cpu_seconds(server.pid), time.monotonic()
        time.sleep(1.5)
        used = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
        assert used < 0.15, "a busy loop"
        assert len(notes.lines()) == 5
        gate.open()
        for client in clients:
            # Each that leaves lets another one in.
            assert client.response().text == "served"
            client.close()
        assert server.log().count("no connection can be accepted") == 1
    assert is_served(server)
    settled(server, at_start)


@every_config
def test_a_front_end_that_can_open_nothing_more_fails_single_requests(
    config: Config, start: Start, connect: Connect
) -> None:
    """No lane, no temporary file; and nothing of it stays."""
    server = start(app_of(config), *config.options)
    at_start = fresh(server)
    clients = [connect(server) for _ in range(8)]
    for client in clients:
        # They are accepted; and all lanes are closed again, or in the pool.
        client.get("/hello")
    body = b"".join(pattern(200_000))
    with open_files(server.pid, room=0):
        for client in clients[:4]:
            client.send(request("POST", "/echo", body=body))
        statuses = sorted(client.response("POST").status for client in clients[:4])
        if config.interface == "wsgi":
            # The body has no file.
            assert statuses == [507] * 4
        elif config.lanes == "express":
            # The requests need no descriptor.
            assert statuses == [200] * 4
        else:
            # The request has no lane, unless one is in the pool; few are, as they were asked for
            # one after another.
            assert set(statuses) == {200, 503} or set(statuses) == {503}
        for client in clients[4:]:
            client.send(request("GET", f"/download?size={16 * MIB}"))
        for client in clients[4:]:
            try:
                assert client.response().status in (200, 502, 503)
            except (h11.RemoteProtocolError, ConnectionError):
                # The answer had begun when there was no file for the rest of it.
                continue
    for client in clients:
        client.close()
    assert is_served(server)
    settled(server, at_start)
    with Client(server.address) as client:
        assert client.request("POST", "/echo", body=body).body == body


@every_config
def test_a_reactor_that_can_open_nothing_more_fails_single_requests(
    config: Config, start: Start, connect: Connect, gate: Gate
) -> None:
    """Lanes that cannot be opened, and those that cannot be received."""
    server = start(app_of(config), *config.options, "--threads", "1")
    at_start = fresh(server)
    body = b"".join(pattern(200_000))
    (pid,) = server.reactor_pids()
    is_served(server)
    with open_files(pid, room=1):
        clients = [connect(server) for _ in range(8)]
        for client in clients[:4]:
            client.send(request("POST", "/echo", body=body))
        for client in clients[4:]:
            client.send(request("GET", f"/download?size={2 * MIB}"))
        statuses = [client.response("POST").status for client in clients]
    assert set(statuses) <= {200, 502, 503}
    for client in clients:
        client.close()
    for _ in range(20):
        assert is_served(server)
        with Client(server.address) as client:
            assert client.request("POST", "/echo", body=body).body == body
    settled(server, at_start)


# Resets


@some_configs
def test_connections_that_are_reset_at_any_point(config: Config, start: Start) -> None:
    server = start(app_of(config), *config.options, "--queue-size", "4000")
    at_start = fresh(server)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    parts = urlsplit(server.address)
    beginnings = [
        b"",
        request("GET", "/hello")[:-5],
        request("POST", "/echo", [("Content-Length", "100000")]) + b"x" * 5000,
        request("POST", "/echo", [("Transfer-Encoding", "chunked")]) + b"10\r\nabc",
        request("GET", "/hello") * 3,
        request("GET", f"/download?size={300_000}"),
    ]
    with ExitStack() as closing:
        socks = []
        for _ in range(2000):
            sock = closing.enter_context(socket.create_connection((parts.hostname, parts.port)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(dice.choice(beginnings))
            socks.append(sock)
        dice.shuffle(socks)
        for sock in socks:
            if dice.random() < 0.1:
                sock.settimeout(0.01)
                try:
                    sock.recv(1000)
                except TimeoutError:
                    pass
            sock.close()
        assert is_served(server)
    settled(server, at_start)
    assert complaints(server.log()) == []


# Requests that all differ


@some_configs
def test_long_targets_that_all_differ_take_no_memory(config: Config, start: Start) -> None:
    """1,100 of 8,000 bytes, which took 15 MiB while each was remembered."""
    server = start(config.app, *config.options)
    paths = [f"/{number}%20" + "a" * 8000 for number in range(1200)]
    with Client(server.address) as client:
        for number, path in enumerate(paths):
            if number == 100:
                before = server.memory()
            client.send(request("GET", path))
            assert client.response().status == 404
    after = server.memory()
    grown = {pid: (after[pid].now - before[pid].now) / MIB for pid in after}
    print("grown by MiB:", grown)
    assert max(grown.values()) < 10


# Answers that nobody reads


@some_configs
def test_answers_that_nobody_reads(config: Config, start: Start, connect: Connect) -> None:
    """Ten times 64 MiB: held by none of the processes, and given up in time."""
    server = start(app_of(config), *config.options, "--response-timeout", "1")
    is_served(server)
    at_start = at_rest(server)
    server.forget_peaks()
    before = server.memory()
    clients = [connect(server, receive_buffer=65536) for _ in range(10)]
    for client in clients:
        client.send(request("GET", f"/download?size={64 * MIB}"))
    for client in clients:
        assert client.begin().status == 200
    while "took too little of its answer" not in server.log():
        assert is_served(server)
    now = eventually(lambda: settled(server, at_start))
    after = server.memory()
    grown = {pid: (after[pid].peak - before[pid].now) / MIB for pid in after}
    print("grown by MiB:", grown)
    assert max(grown.values()) < 48
    assert not now.files
    for client in clients:
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


# Connections that do next to nothing


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_connections_that_send_one_byte(start: Start) -> None:
    config = Config()
    options = ("--max-connections", "0", "--head-timeout", "8", "--log-level", "debug")
    server = start(config.app, *config.options, *options)
    is_served(server)
    at_start = at_rest(server)
    allowed = int(server.log().split("at most ")[1].split()[0])
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200
    count = min(10_000, allowed - 10, room)
    if count < 5000:
        pytest.skip(f"needs 10,000 open files; the hard limit lets {count} connections be")
    resource.setrlimit(resource.RLIMIT_NOFILE, (room + 200, room + 200))
    parts = urlsplit(server.address)
    socks: list[socket.socket] = []
    worst = 0.0

    def serve_one() -> None:
        nonlocal worst
        began = time.monotonic()
        assert is_served(server)
        worst = max(worst, time.monotonic() - began)

    try:
        for number in range(count):
            # From a few addresses: one of them has no more than 28,000 ports.
            source = (f"127.0.0.{number % 8 + 2}", 0)
            sock = socket.create_connection((parts.hostname, parts.port), source_address=source)
            socks.append(sock)
            sock.sendall(b"G")
            if number % 500 == 0:
                serve_one()
        assert eventually(
            lambda: figures(server).sockets[server.pid] >= at_start.sockets[server.pid] + count
        )
        held = figures(server)
        each = (held.memory[server.pid] - at_start.memory[server.pid]) / count
        print(f"{count} connections; {each:.0f} bytes of the front end's memory for each")
        assert each < 8192
        # While they wait, nothing turns.
        assert eventually(lambda: server.is_at_rest([server.pid]))
        for sock in socks:
            sock.settimeout(30)
        answered = 0
        for number, sock in enumerate(socks):
            answered += sock.recv(4096).startswith(b"HTTP/1.1 408 ")
            if number % 500 == 0:
                serve_one()
        assert answered == count
        print(f"somebody else was served within {worst:.2f} s")
        assert worst < 5
    finally:
        for sock in socks:
            sock.close()
    settled(server, at_start)
    assert complaints(server.log()) == []


def test_an_address_has_so_many_connections(start: Start, connect: Connect) -> None:
    config = Config()
    server = start(config.app, *config.options, "--max-connections-per-address", "3")
    greedy = [connect(server, source=("127.0.0.2", 0)) for _ in range(3)]
    for client in greedy:
        client.get("/hello")
    for _ in range(50):
        try:
            assert connect(server, source=("127.0.0.2", 0)).at_end()
        except ConnectionResetError:
            continue
    assert is_served(server)
    greedy.pop().reset()

    def has_room() -> bool:
        return connect(server, source=("127.0.0.2", 0)).request("GET", "/hello").status == 200

    assert eventually(has_room)
