"""HTTP/2 with real clients, over TLS and with prior knowledge."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.certificates import Authority
from tests.integration.conftest import Config, Start
from tests.integration.server import Server

CONFIGS = [
    Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in ("express", "plain")
]
LARGE = 3_000_000

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def options(authority: Authority) -> list[str]:
    """The flags of the shared servers with TLS."""
    return authority.options("localhost", "127.0.0.1")


@pytest.fixture(params=["tls", "plain"])
def serve(shared: Start, options: list[str], request: pytest.FixtureRequest) -> Serve:
    """`serve(config)`: a shared server, with and without TLS."""

    def get(config: Config = CONFIGS[0]) -> Server:
        return shared(config.app, *config.options, *(options if request.param == "tls" else ()))

    return get


@pytest.fixture
def client(authority: Authority) -> Any:
    """`client(server)`: httpx, which speaks only HTTP/2."""
    clients = []

    def make(server: Server) -> httpx.Client:
        made = httpx.Client(
            base_url=server.address,
            http1=False,
            http2=True,
            verify=authority.client(),
            trust_env=False,
            timeout=30,
        )
        clients.append(made)
        return made

    yield make
    for made in clients:
        made.close()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_bodies_both_ways(serve: Serve, client: Any, config: Config) -> None:
    http = client(serve(config))
    for size in (0, 1, 16384, 16385, 70_000, LARGE):
        body = b"".join(pattern(size))
        answer = http.post("/hash", content=body)
        assert answer.http_version == "HTTP/2"
        assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": size}
        # Without Content-Length: reactors get chunks.
        answer = http.post("/hash", content=iter([body[:1000], body[1000:]]))
        assert answer.json()["size"] == size
        for length in "10":
            answer = http.get(f"/download?size={size}&length={length}")
            assert hashlib.sha256(answer.content).hexdigest() == hash_of(pattern(size))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_app_sees_the_version(serve: Serve, client: Any, config: Config) -> None:
    if config.interface == "wsgi":
        told = client(serve(config)).get("/environ").json()
        assert told["SERVER_PROTOCOL"] == "HTTP/2.0"
    else:
        told = client(serve(config)).get("/scope").json()
        assert told["http_version"] == "2"


@pytest.mark.needs("h2load")
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_many_streams_at_once(serve: Serve, config: Config) -> None:
    url = f"{serve(config).address}/download?size=20000"
    told = subprocess.run(
        ["h2load", "-n2000", "-c8", "-m20", url], capture_output=True, text=True, timeout=50
    ).stdout
    assert re.search(r"2000 succeeded, 0 failed, 0 errored", told), told
