"""Clients that get a file: slow ones, those that leave, and the end of the service."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from reactor_run.frontend.routes.notation import parse_static
from reactor_run.frontend.static.content import LOAD, read_all
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, get
from tests.integration.client import Client
from tests.integration.waiting import eventually

SIZE = 12 << 20


@pytest.fixture
def front(start: Start, tmp_path: Path) -> Front:
    (tmp_path / "large.bin").write_bytes(bytes(SIZE))
    (tmp_path / "small.bin").write_bytes(bytes(100))
    return start(static=(parse_static(f"/s={tmp_path}"),), response_timeout=20.0)


def begin(front: Front) -> Client:
    """A client that has read the head of a large file, and no more."""
    client = front.connect(receive_buffer=4096)
    client.send(get("/s/large.bin"))
    assert client.begin().field("content-length") == b"%d" % SIZE
    return client


def read_on(client: Client) -> None:
    """Read to the end, without h11, which would take long."""
    while client._sock.recv(1 << 20):
        pass


def test_a_client_that_stops_reading_is_aborted(front: Front) -> None:
    client = begin(front)
    front.settle()
    front.pass_time(15)
    assert len(front.clients) == 1

    def is_aborted() -> bool:
        # The kernel may have taken bytes late, which earns the client more time.
        front.pass_time(10)
        return not front.clients

    assert eventually(is_aborted)
    with pytest.raises(ConnectionResetError):
        read_on(client)
    assert any("took too little of its answer" in line for line in front.log)


def test_the_rest_of_the_service_goes_on(front: Front) -> None:
    client = begin(front)
    other = front.connect()
    other.send(get("/app"))
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number)
    assert other.response().body == b"ok"
    assert sum(map(len, client.pieces())) == SIZE
    client.send(get("/s/small.bin"))
    assert client.response().body == bytes(100)


def test_fin_of_a_client_does_not_end_its_answer(front: Front) -> None:
    client = begin(front)
    client.finish_sending()
    front.settle()
    assert sum(map(len, client.pieces())) == SIZE
    assert client.at_end()


def test_fin_of_a_client_does_not_end_the_search_for_its_file(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread opens the file. The client has sent FIN after its request meanwhile."""
    found = threading.Event()

    def read_late(*arguments: Any) -> bytes:
        found.wait()
        return read_all(*arguments)

    monkeypatch.setattr("reactor_run.frontend.clients.file_answers.read_all", read_late)
    front.pass_time(2)
    client = front.connect()
    client.send(get("/s/small.bin"))
    client.finish_sending()
    front.settle()
    found.set()
    assert client.response().body == bytes(100)
    assert client.at_end()


def test_a_client_that_leaves_leaves_nothing(front: Front) -> None:
    client = begin(front)
    client.reset()
    assert eventually(lambda: not front.clients)


def test_a_pipelined_request_waits_for_the_file(front: Front) -> None:
    client = begin(front)
    client.send(get("/app") + get("/s/small.bin"))
    front.settle()
    assert front.reactors[0].silent
    assert sum(map(len, client.pieces())) == SIZE
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number)
    assert client.response().body == b"ok"
    assert client.response().body == bytes(100)


def test_a_file_is_sent_whole_when_the_service_stops(front: Front) -> None:
    client = begin(front)
    front.signal(signal.SIGTERM)
    front.settle()
    assert sum(map(len, client.pieces())) == SIZE
    assert client.at_end()


def test_the_disk_does_not_count_as_the_client(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a thread loads the file, the client has nothing to read."""
    monkeypatch.setattr("reactor_run.frontend.clients.file_writer.ready", lambda *_: 0)
    client = front.connect()
    client.send(get("/s/large.bin"))
    client.begin()
    assert sum(map(len, client.pieces())) == SIZE > LOAD


def test_a_directory_that_is_old_is_opened_by_a_thread(front: Front, tmp_path: Path) -> None:
    client = front.connect()
    for _ in range(3):
        front.pass_time(2)
        client.send(get("/s/small.bin") * 3)
        assert [client.response().body for _ in range(3)] == [bytes(100)] * 3
    (tmp_path / "small.bin").unlink()
    front.pass_time(2)
    client.send(get("/s/small.bin"))
    assert client.response().status == 404
