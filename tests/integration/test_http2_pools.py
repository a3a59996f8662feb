"""HTTP/2 where a service has several apps: the streams of one connection go to all of them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.certificates import Authority
from tests.integration.conftest import Gate, Notes
from tests.integration.server import Server
from tests.integration.waiting import eventually

CONFIG = """
admin = "unix:{folder}/admin"
[app.web]
app = "tests.integration.apps.wsgi:app"
threads = 4
[app.api]
app = "tests.integration.apps.asgi:app"
bind = "127.0.0.2:0"
[[route]]
prefix = "/"
app = "web"
[[route]]
prefix = "/api"
app = "api"
cors = {{ origins = ["https://shop.example"] }}
[[route]]
prefix = "/files"
static = "{folder}"
"""
SIZE = 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pools")
    (folder / "a.bin").write_bytes(b"".join(pattern(SIZE)))
    (folder / "pools.toml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[Server]:
    options = authority.options("127.0.0.1", "127.0.0.2")
    with Server("", f"--config={folder}/pools.toml", *options) as server:
        yield server


@pytest.fixture
def clients(server: Server, authority: Authority) -> Iterator[list[httpx.Client]]:
    """One for the routes, one for the listener of `api`. Each keeps a connection."""
    made = [
        httpx.Client(
            base_url=address,
            http1=False,
            http2=True,
            verify=authority.client(),
            trust_env=False,
            timeout=30,
        )
        for address in server.addresses
    ]
    eventually(lambda: all(each.get("/api/hello").status_code == 200 for each in made))
    eventually(lambda: made[0].get("/hello").status_code == 200)
    yield made
    for client in made:
        client.close()


def test_streams_of_one_connection_go_to_each_app(
    clients: list[httpx.Client], folder: Path
) -> None:
    client, _ = clients
    body = b"".join(pattern(SIZE))

    def ask(number: int) -> str:
        kind = number % 5
        if kind == 0:
            return client.get("/pid").text
        if kind == 1:
            return client.get("/api/pid").text
        if kind == 2:
            assert client.get("/files/a.bin").content == body
        elif kind == 3:
            assert hash_of(pattern(SIZE)) in client.post("/hash", content=body).text
        else:
            assert hash_of(pattern(SIZE)) in client.post("/api/hash", content=body).text
        return ""

    with ThreadPoolExecutor(10) as threads:
        answers = set(threads.map(ask, range(50))) - {""}
    assert len(answers) == 2
    preflight = client.options(
        "/api/hello",
        headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"},
    )
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_dead_app_costs_no_stream_of_another(
    clients: list[httpx.Client], gate: Gate, notes: Notes
) -> None:
    client, _ = clients
    api = int(client.get("/api/pid").text)
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(client.get, f"/wait?gate={gate}&notes={notes}")
        notes.first()
        os.kill(api, signal.SIGKILL)
        assert eventually(lambda: client.get("/api/pid").text != str(api))
        gate.open()
        assert held.result().text == "waited"


def test_the_listener_of_an_app(clients: list[httpx.Client], folder: Path) -> None:
    shared, own = clients
    assert own.get("/api/pid").text == shared.get("/api/pid").text
    assert own.get("/api/pid").http_version == "HTTP/2"
    for target in "/hello", "/files/a.bin":
        assert own.get(target).status_code == 404
    admin = httpx.HTTPTransport(uds=f"{folder}/admin")
    with httpx.Client(transport=admin, base_url="http://localhost", trust_env=False) as http:
        text = http.get("/metrics").text
    assert re.search(r'requests_total\{app="api",method="GET",status="2xx"\} [1-9]', text)
    assert re.search(r'requests_total\{app="",method="GET",status="2xx"\} [1-9]', text)
