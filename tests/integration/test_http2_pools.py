"""HTTP/2 where a service has several apps: the streams of one connection go to all of them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.certificates import Authority
from tests.integration.client import Client
from tests.integration.conftest import Gate, Notes
from tests.integration.server import Server

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


@asynccontextmanager
async def connected(
    server: Server, authority: Authority
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A client for the routes, and one for the listener of `api`. Each keeps a connection."""
    async with AsyncExitStack() as stack:
        routed, own = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=address,
                    http1=False,
                    http2=True,
                    verify=authority.client(),
                    trust_env=False,
                    timeout=30,
                )
            )
            for address in server.addresses
        ]
        for client, target in (routed, "/hello"), (routed, "/api/hello"), (own, "/api/hello"):
            await until_ready(client, target)
        yield routed, own


async def until_ready(client: httpx.AsyncClient, target: str) -> None:
    """Ask until an app answers: it may still start, or start again."""
    with trio.fail_after(30):
        while (await client.get(target)).status_code != 200:
            pass


@pytest.mark.trio
async def test_streams_of_one_connection_go_to_each_app(
    server: Server, authority: Authority
) -> None:
    body = b"".join(pattern(SIZE))
    pids: set[str] = set()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        kind = number % 5
        if kind < 2:
            pids.add((await client.get(("/pid", "/api/pid")[kind])).text)
        elif kind == 2:
            assert (await client.get("/files/a.bin")).content == body
        else:
            target = "/hash" if kind == 3 else "/api/hash"
            assert hash_of(pattern(SIZE)) in (await client.post(target, content=body)).text

    async with connected(server, authority) as (client, _):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, client, number)
        assert len(pids) == 2
        preflight = await client.options(
            "/api/hello",
            headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"},
        )
    assert preflight.http_version == "HTTP/2"
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"


@pytest.mark.trio
async def test_a_dead_app_costs_no_stream_of_another(
    server: Server, authority: Authority, gate: Gate, notes: Notes
) -> None:
    async with connected(server, authority) as (client, _):
        api = (await client.get("/api/pid")).text
        answers: list[str] = []

        async def hold() -> None:
            answers.append((await client.get(f"/wait?gate={gate}&notes={notes}")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await trio.to_thread.run_sync(notes.first)
            os.kill(int(api), signal.SIGKILL)
            with trio.fail_after(30):
                while (await client.get("/api/pid")).text == api:
                    pass
            gate.open()
        assert answers == ["waited"]


@pytest.mark.trio
async def test_the_listener_of_an_app(server: Server, authority: Authority, folder: Path) -> None:
    async with connected(server, authority) as (routed, own):
        answer = await own.get("/api/pid")
        assert (answer.text, answer.http_version) == ((await routed.get("/api/pid")).text, "HTTP/2")
        for target in "/hello", "/files/a.bin":
            assert (await own.get(target)).status_code == 404
    with Client(f"unix:{folder}/admin") as admin:
        text = admin.get("/metrics").text
    assert re.search(r'requests_total\{app="api",method="GET",status="2xx"\} [1-9]', text)
    assert re.search(r'requests_total\{app="",method="GET",status="4xx"\} [1-9]', text)
