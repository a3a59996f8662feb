"""Files that frameworks send by http.response.pathsend, over each way to the client."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import h11
import pytest

from tests.integration.apps.direct import content
from tests.integration.client import Client, request
from tests.integration.conftest import RUNTIMES, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import need_module

WAYS = {
    "direct": ["--answers", "direct"],
    "relay": ["--answers", "relay"],
    "plain": ["--lanes", "plain"],
}
MIB = 1 << 20


QUICK = {("trio", "direct"), ("asyncio", "relay"), ("uvloop", "plain"), ("trio", "plain")}
"""What `make test` runs. The slow tests run the other combinations too."""


@pytest.fixture(
    params=[
        pytest.param(
            (runtime, way),
            id=f"{runtime} {way}",
            marks=() if (runtime, way) in QUICK else pytest.mark.slow,
        )
        for runtime in RUNTIMES
        for way in WAYS
    ]
)
def server(request: pytest.FixtureRequest, shared: Start) -> Server:
    need_module("starlette")
    runtime, way = request.param
    app = "tests.integration.apps.starlette_files:app"
    return shared(app, "--runtime", runtime, *WAYS[way])


def test_starlette_sends_files(server: Server, tmp_path: Path) -> None:
    with Client(server.address) as client:
        for size in (0, 1, 200_000, 5 * MIB, 65_536):
            path = tmp_path / str(size)
            path.write_bytes(content(size, size))
            answer = client.get(f"/file?path={path}")
            assert answer.status == 200
            assert answer.field("content-length") == b"%d" % size
            assert answer.field("etag")
            assert answer.body == content(size, size)
            head = client.request("HEAD", f"/file?path={path}")
            assert (head.status, head.body) == (200, b"")
            assert head.field("content-length") == b"%d" % size
        # Starlette reads ranges itself.
        client.send(request("GET", f"/file?path={tmp_path / '200000'}", [("Range", "bytes=5-99")]))
        answer = client.response()
        assert answer.status == 206
        assert answer.body == content(200_000, 200_000)[5:100]
        assert client.request("GET", f"/file?path={tmp_path / 'missing'}").status == 500
    with Client(server.address) as client:
        client.send(f"GET /file?path={tmp_path / '200000'} HTTP/1.0\r\n\r\n".encode())
        assert client.rest().partition(b"\r\n\r\n")[2] == content(200_000, 200_000)


def cut_body(client: Client) -> bytes:
    """Read the rest of an answer that is visibly cut."""
    got = bytearray()
    try:
        for piece in client.pieces():
            got += piece
    except (h11.RemoteProtocolError, ConnectionResetError):
        return bytes(got)
    raise AssertionError(f"{len(got)} bytes, and no sign that more are missing")


def test_a_file_that_shrinks_gives_a_cut_answer(server: Server, tmp_path: Path) -> None:
    size = 24 * MIB
    path = tmp_path / "file"
    path.write_bytes(content(1, size))
    with Client(server.address, receive_buffer=4096) as client:
        client.send(request("GET", f"/file?path={path}"))
        assert client.begin().status == 200
        os.truncate(path, 16 * MIB)
        got = cut_body(client)
        assert MIB < len(got) <= 16 * MIB
        assert got[:MIB] == content(1, MIB)
    # The path names a file that is complete again.
    path.write_bytes(content(2, size))
    with Client(server.address) as client:
        assert client.get(f"/file?path={path}").body == content(2, size)


@pytest.mark.parametrize("way", ["direct", "plain"])
def test_a_file_survives_a_reload(start: Start, tmp_path: Path, way: str) -> None:
    """Its app has returned. The old reactor goes on until the client has the file."""
    server = start("tests.integration.apps.direct:asgi", "--runtime", "trio", *WAYS[way])
    size = 24 * MIB
    path = tmp_path / "file"
    path.write_bytes(content(3, size))
    with Client(server.address, receive_buffer=4096) as client:
        client.send(request("GET", f"/file?path={path}"))
        assert client.begin().status == 200
        before = set(server.reactor_pids())
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: set(server.reactor_pids()) - before)
        assert b"".join(client.pieces()) == content(3, size)
