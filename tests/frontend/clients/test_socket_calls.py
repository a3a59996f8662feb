"""The two calls of a client's socket that each request needs, in C and in Python (native.py)."""

from __future__ import annotations

import errno
import socket
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from reactor_run import native
from reactor_run._sockets import SocketCalls

RECEIVE_MAX = 65536


@pytest.fixture(params=[SocketCalls, native.SocketCalls], ids=["C", "in use"])
def make(request: pytest.FixtureRequest) -> type[SocketCalls]:
    kind: type[SocketCalls] = request.param
    return kind


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A blocking socket, and its peer. No call may wait all the same."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def fill(calls: SocketCalls) -> None:
    """Send until the kernel takes nothing."""
    with suppress(BlockingIOError):
        while True:
            calls.send(bytes(RECEIVE_MAX))


def test_bytes_come_and_go(make: type[SocketCalls], pair: Pair) -> None:
    calls, peer = make(pair[0]), pair[1]
    assert calls.send(b"one") == 3
    assert calls.send(memoryview(b"_two")[1:]) == 3
    assert calls.send(b"") == 0
    assert peer.recv(100) == b"onetwo"
    peer.sendall(b"abcdef")
    assert calls.recv(4) == b"abcd"
    assert calls.recv(1 << 30) == b"ef"


def test_it_receives_64_kib_at_most(make: type[SocketCalls], pair: Pair) -> None:
    """The caller asks for no more, and C has no more room."""
    calls, peer = make(pair[0]), pair[1]
    peer.sendall(b"x" * RECEIVE_MAX + b"y")
    assert calls.recv(RECEIVE_MAX) == b"x" * RECEIVE_MAX
    assert calls.recv(RECEIVE_MAX) == b"y"


def test_it_never_waits(make: type[SocketCalls], pair: Pair) -> None:
    calls = make(pair[0])
    with pytest.raises(BlockingIOError):
        calls.recv(1)
    fill(calls)
    with pytest.raises(BlockingIOError):
        calls.send(b"x")


def test_fin_is_no_bytes(make: type[SocketCalls], pair: Pair) -> None:
    pair[1].close()
    assert make(pair[0]).recv(10) == b""


def test_a_client_that_is_gone(make: type[SocketCalls], pair: Pair) -> None:
    """SIGPIPE ends nothing."""
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        make(pair[0]).send(b"x")


def test_a_client_that_resets(make: type[SocketCalls]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            make(server).recv(1)


def test_a_closed_socket_has_no_descriptor(make: type[SocketCalls], pair: Pair) -> None:
    """Its number may belong to another client by now."""
    calls, number = make(pair[0]), pair[0].fileno()
    pair[0].close()
    other, peer = socket.socketpair()
    with other, peer:
        assert number in (other.fileno(), peer.fileno())
        for call in (lambda: calls.recv(1), lambda: calls.send(b"x")):
            with pytest.raises(OSError, match="descriptor") as caught:
                call()
            assert caught.value.errno == errno.EBADF
        for each in (other, peer):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.recv(1)


def test_wrong_arguments(make: type[SocketCalls], pair: Pair) -> None:
    calls = make(pair[0])
    with pytest.raises(ValueError, match="negative"):
        calls.recv(-1)
    for wrong in (lambda: calls.recv("1"), lambda: calls.send("text"), lambda: calls.send(None)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(BlockingIOError):
        calls.recv(1)


def test_what_is_no_socket() -> None:
    with pytest.raises(AttributeError):
        SocketCalls(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SocketCalls()  # type: ignore[call-arg]


def test_nothing_is_left_behind(pair: Pair) -> None:
    sock, peer = pair

    def use() -> None:
        for _ in range(200):
            calls = SocketCalls(sock)
            calls.send(b"abc" * 300)
            peer.sendall(peer.recv(900))
            calls.recv(RECEIVE_MAX)
            with suppress(BlockingIOError):
                calls.recv(1)
            with suppress(TypeError):
                calls.send("text")  # type: ignore[arg-type]

    use()
    references = sys.getrefcount(sock)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    use()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096
    assert sys.getrefcount(sock) == references
