"""Large bodies in both directions: every byte right, bounded memory, and slow clients cost nobody.

A test that looks at memory has a server of its own, so that no process has grown before it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.client import Client, chunked, request
from tests.integration.conftest import HEAVY_CONFIGS, LANES, Config, Gate, Notes, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

MIB = 1 << 20
GROWTH = 48 * MIB
IN_FLIGHT = 8 * MIB
"""More than all buffers between app and client hold, where the receiving one is small: TCP's alone
may have 4 MiB to send from."""

CONFIGS = [Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in LANES]
SIZES = [
    pytest.param(64 * MIB, id="64 MiB"),
    pytest.param(1024 * MIB, id="1 GiB", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
]


@pytest.fixture(params=CONFIGS, ids=str)
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def server(config: Config, start: Start) -> Server:
    return start(config.app, *config.options)


heavy = pytest.mark.parametrize("config", HEAVY_CONFIGS, indirect=True)
only_asgi = pytest.mark.parametrize("config", CONFIGS[:2], ids=str, indirect=True)
only_wsgi = pytest.mark.parametrize("config", CONFIGS[2:], ids=str, indirect=True)


@contextmanager
def growing_at_most(server: Server, growth: int) -> Iterator[None]:
    """No process of the server may grow by more than `growth` bytes at any time in the block."""
    with Client(server.address) as client:
        # What every process needs once, such as modules and pools, is in place after this.
        client.request("POST", "/echo", body=b"x" * 300_000)
    server.forget_peaks()
    before = server.memory()
    yield
    after = server.memory()
    assert set(after) == set(before), "a process was replaced"
    grown = {pid: (after[pid].peak - before[pid].now) / MIB for pid in after}
    assert max(grown.values()) <= growth / MIB, grown


def received(client: Client) -> str:
    """The hash of the response's body, which is not kept in memory."""
    return hash_of(client.pieces())


# All bytes


@heavy
@pytest.mark.parametrize("size", SIZES)
def test_upload(server: Server, connect: Connect, size: int) -> None:
    client = connect(server, timeout=120)
    whole = hash_of(pattern(size))
    for in_chunks in False, True:
        framing = ("Transfer-Encoding", "chunked") if in_chunks else ("Content-Length", str(size))
        with growing_at_most(server, GROWTH):
            client.send(request("POST", "/hash", [framing]))
            for piece in chunked(pattern(size)) if in_chunks else pattern(size):
                client.send(piece)
            assert client.response().json() == {"sha256": whole, "size": size}


@heavy
@pytest.mark.parametrize("size", SIZES)
def test_download(server: Server, connect: Connect, size: int) -> None:
    client = connect(server, timeout=120)
    whole = hash_of(pattern(size))
    for length in 1, 0:
        with growing_at_most(server, GROWTH):
            client.send(request("GET", f"/download?size={size}&length={length}"))
            assert client.begin().status == 200
            assert received(client) == whole


@pytest.mark.parametrize("framing", ["Content-Length: 6", "Transfer-Encoding: chunked"])
def test_bodies_are_told_apart_behind_heads_that_are_the_same(
    config: Config, shared: Start, connect: Connect, framing: str
) -> None:
    server = shared(config.app, *config.options)
    client = connect(server)
    head = f"POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode()
    for number in range(5):
        body = b"body-%d" % number
        framed = body if "Length" in framing else b"6\r\n%b\r\n0\r\n\r\n" % body
        for split in len(head) + len(framed), len(head), len(head) + 1, len(head) - 1:
            data = head + framed
            client.send(data[:split])
            client.send(data[split:])
            assert client.response().body == body


@heavy
@pytest.mark.parametrize("size", SIZES)
def test_echo(server: Server, connect: Connect, size: int) -> None:
    client = connect(server, timeout=120)
    with growing_at_most(server, GROWTH):
        client.send(request("POST", "/echo", [("Content-Length", str(size))]))
        with client.sending(pattern(size)):
            assert client.begin().status == 200
            assert received(client) == hash_of(pattern(size))


# Slow clients


def have_stopped(progress: Callable[[], int]) -> int:
    """What `progress` has come to, once it no longer changes."""

    def at_rest() -> int:
        before = progress()
        time.sleep(0.2)
        return before if progress() == before else 0

    return eventually(at_rest)


def neighbours_are_served(server: Server) -> None:
    for _ in range(5):
        with Client(server.address, timeout=5) as client:
            client.get("/hello")


@only_asgi
def test_send_waits_for_a_client_that_reads_slowly(
    server: Server, connect: Connect, notes: Notes
) -> None:
    client = connect(server, receive_buffer=65536)

    def sent() -> int:
        lines = [line for line in notes.lines() if line.startswith("sent ")]
        return int(lines[-1].split()[1]) if lines else 0

    with growing_at_most(server, 16 * MIB):
        client.send(request("GET", f"/download?size={64 * MIB}&notes={notes}"))
        assert client.begin().status == 200
        pieces, read, digest = client.pieces(), 0, hashlib.sha256()
        for upto in (0, 1 * MIB, 12 * MIB):
            while read < upto:
                piece = next(pieces)
                digest.update(piece)
                read += len(piece)
            assert have_stopped(sent) < read + IN_FLIGHT
            neighbours_are_served(server)
    for piece in pieces:
        digest.update(piece)
    assert digest.hexdigest() == hash_of(pattern(64 * MIB))


@only_wsgi
def test_a_wsgi_reactor_is_free_at_once_of_clients_that_read_slowly(
    server: Server, connect: Connect, notes: Notes
) -> None:
    """It has one thread, so it can serve the neighbours only when it is done with these answers."""
    size = 32 * MIB
    with growing_at_most(server, GROWTH):
        clients = [connect(server, receive_buffer=65536) for _ in range(3)]
        for client in clients:
            client.send(request("GET", f"/download?size={size}&notes={notes}"))
        assert eventually(lambda: notes.lines() == ["finished"] * len(clients))
        neighbours_are_served(server)
    for client in clients:
        client.begin()
        assert received(client) == hash_of(pattern(size))


@only_wsgi
def test_a_wsgi_answer_past_the_spool_waits_for_the_client(
    config: Config, start: Start, connect: Connect, notes: Notes
) -> None:
    server = start(config.app, *config.options, "--answer-spool-size", "1M")
    size = 32 * MIB
    client = connect(server, receive_buffer=65536)
    with growing_at_most(server, GROWTH):
        client.send(request("GET", f"/download?size={size}&notes={notes}"))
        client.begin()
        assert eventually(server.is_at_rest)
    assert notes.lines() == []
    assert received(client) == hash_of(pattern(size))
    notes.wait_for("finished")
    neighbours_are_served(server)


@only_wsgi
def test_a_wsgi_reactor_is_free_while_bodies_come_slowly(
    config: Config, shared: Start, connect: Connect
) -> None:
    """The front end takes the body in before it disturbs the reactor with the request."""
    server = shared(config.app, *config.options)
    clients = [connect(server) for _ in range(3)]
    body = b"".join(pattern(2 * MIB))
    for client in clients:
        client.send(request("POST", "/hash", [("Content-Length", str(len(body)))]))
        client.send(body[:-1])
    neighbours_are_served(server)
    for client in clients:
        client.send(body[-1:])
        assert client.response().json()["sha256"] == hash_of(pattern(2 * MIB))


@only_asgi
def test_a_client_waits_for_an_app_that_reads_slowly(
    config: Config, start: Start, connect: Connect, gate: Gate, notes: Notes, tmp_path: Path
) -> None:
    # Over TCP the kernel may give this end, and the front end's, tens of MiB.
    server = start(config.app, *config.options, bind=(f"unix:{tmp_path}/socket",))
    size, sent = 64 * MIB, 0

    def counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal sent
        for piece in pieces:
            yield piece
            sent += len(piece)

    client = connect(server)
    client.send(
        request("POST", f"/hash?gate={gate}&notes={notes}", [("Content-Length", str(size))])
    )
    with growing_at_most(server, GROWTH), client.sending(counted(pattern(size))):
        notes.first()
        assert have_stopped(lambda: sent) < IN_FLIGHT
        neighbours_are_served(server)
        gate.open()
        assert client.response().json() == {"sha256": hash_of(pattern(size)), "size": size}
