"""The lock-step client against a small server: whole batches, and answers that are not whole."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import pytest

from bench.errors import RunFailed
from bench.load import lockstep
from bench.load.client import request
from tests.bench.tiny import Tiny, tiny


@pytest.fixture
def server() -> Iterator[Tiny]:
    with tiny() as found:
        yield found


def run(address: tuple[str, int], *pool: bytes, answers: int = 1) -> int:
    with lockstep.connected(address, 3) as client:
        return client.run(cycle(pool), answers, 4)


def test_each_connection_sends_one_request_a_batch(server: Tiny) -> None:
    assert run(server.address, request("/"), request("/chunked")) == 12
    assert server.requests == 12
    assert server.connections == 3


def test_pipelined_requests_all_count(server: Tiny) -> None:
    assert run(server.address, request("/") * 16, answers=16) == 4 * 3 * 16


@pytest.mark.parametrize(
    "path", ["/wrong", "/garbled", "/closed", "/cut", "/reset", "/until-close"]
)
def test_an_answer_that_is_not_whole_and_good_fails_the_run(server: Tiny, path: str) -> None:
    with pytest.raises(RunFailed):
        run(server.address, request(path))


def test_a_server_that_is_not_there_fails_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(RunFailed, match="cannot connect"):
        run(address, request("/"))


def test_it_runs_on_the_core_that_is_named_and_comes_back() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with lockstep.on_core(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


@contextmanager
def pieces(*parts: bytes, size: int) -> Iterator[tuple[str, int]]:
    """A server for one connection: after `size` bytes of request it sends these parts, each of
    them alone."""

    def serve() -> None:
        with listener.accept()[0] as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            left = size
            while left > 0 and (data := sock.recv(65536)):
                left -= len(data)
            for part in parts:
                sock.sendall(part)
            over.wait(30)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            over.set()
            thread.join(10)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("data", [HEAD + b"hello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
def test_an_answer_may_come_byte_by_byte(data: bytes) -> None:
    get = request("/")
    parts = [data[at : at + 1] for at in range(len(data))]
    with (
        pieces(*parts, size=len(get)) as address,
        lockstep.connected(address, 1) as client,
    ):
        assert client.run(iter([get]), 1, 1) == 1


def test_a_large_request_is_sent_as_the_server_takes_it() -> None:
    post = request("/", body=bytes(4 << 20))
    with (
        pieces(HEAD, b"hello", size=len(post)) as address,
        lockstep.connected(address, 1) as client,
    ):
        assert client.run(iter([post]), 1, 1) == 1


def test_an_answer_before_the_end_of_its_request_fails_the_run() -> None:
    post = request("/", body=bytes(16 << 20))
    with (
        pieces(HEAD + b"hello", size=1) as address,
        lockstep.connected(address, 1) as client,
        pytest.raises(RunFailed, match="before the request was whole"),
    ):
        client.run(iter([post]), 1, 1)
