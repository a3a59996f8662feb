"""What an app is told about both ends of the connection, for every listener and way of relaying."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.apps.shared import pattern
from tests.integration.client import Client, Response, request
from tests.integration.conftest import Config, Start, relay_configs
from tests.integration.server import Server

Connect = Callable[..., Client]

FAMILIES = ["tcp4", "tcp6", "unix"]


@pytest.fixture(scope="module")
def socket_path() -> Iterator[str]:
    """A path short enough for a unix socket, whatever the temporary directory of pytest."""
    directory = tempfile.mkdtemp()
    yield f"{directory}/socket"
    shutil.rmtree(directory)


@pytest.fixture(params=relay_configs("asgi", "wsgi"))
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def server(config: Config, shared: Start, socket_path: str) -> Server:
    """A server with a listener of every family."""
    path = f"{socket_path}-{config}".replace(" ", "-")
    bind = ("127.0.0.1:0", "[::1]:0", f"unix:{path}")
    return shared(config.app, *config.options, bind=bind)


@pytest.fixture(params=FAMILIES)
def client(request: pytest.FixtureRequest, server: Server, connect: Connect) -> Client:
    return connect(server.addresses[FAMILIES.index(request.param)])


@pytest.fixture(params=["small", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    """A small request is one message of the express lane, a large one goes in pieces."""
    return b"".join(pattern(10 if request.param == "small" else 200_000))


def are_known(client: Client, config: Config) -> bool:
    """Whether this way of relaying carries the addresses of this client at all."""
    if config.lanes == "express":
        return True
    return config.lane_proxy == "v2" or (config.lane_proxy == "v1" and not client.is_unix)


@pytest.mark.parametrize("config", relay_configs("asgi"))
def test_scope_has_the_addresses_of_client_and_listener(
    config: Config, client: Client, body: bytes
) -> None:
    scope = client.request("POST", "/scope", body=body).json()
    if not are_known(client, config):
        assert (scope["client"], scope["server"]) == (None, None)
    elif client.is_unix:
        assert (scope["client"], scope["server"]) == (None, [client.remote[0], None])
    else:
        assert scope["client"] == list(client.local)
        assert scope["server"] == list(client.remote)


@pytest.mark.parametrize("config", relay_configs("wsgi"))
def test_environ_has_the_addresses_of_client_and_listener(
    config: Config, client: Client, body: bytes
) -> None:
    environ = client.request("POST", "/environ", body=body).json()
    assert environ["SERVER_NAME"]  # PEP 3333: these two can never be empty.
    assert environ["SERVER_PORT"]
    if client.is_unix or not are_known(client, config):
        assert environ["REMOTE_ADDR"] == ""
    else:
        assert (environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])) == client.local
        # RFC 3875, section 4.1.14: an IPv6 address has brackets here, in REMOTE_ADDR it has none.
        assert environ["SERVER_NAME"].strip("[]") == client.remote[0]
        assert int(environ["SERVER_PORT"]) == client.remote[1]


def test_each_of_many_clients_gets_its_own_address(
    config: Config, server: Server, connect: Connect
) -> None:
    """Their requests share a batch, and their lanes are reused one after the other."""
    clients = [connect(server.addresses[number % 2]) for number in range(12)]
    for _ in range(3):
        for client in clients:
            client.send(request("GET", "/scope" if config.interface == "asgi" else "/environ"))
        for client in clients:
            answer = client.response()
            if are_known(client, config):
                assert remote_end(answer) == client.local


def remote_end(answer: Response) -> tuple[str, int]:
    told: dict[str, Any] = answer.json()
    if "client" in told:
        host, port = told["client"]
        return host, port
    return told["REMOTE_ADDR"], int(told["REMOTE_PORT"])


# What is not the client's to say

V1 = b"PROXY TCP4 203.0.113.7 203.0.113.8 1111 2222\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(range(12))


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_proxy_header_from_a_client_is_refused(
    server: Server, connect: Connect, header: bytes, family: str
) -> None:
    client = connect(server.addresses[FAMILIES.index(family)])
    client.send(header + request("GET", "/hello"))
    assert client.response().status == 400
    assert client.at_end()


def test_proxy_is_a_method_like_any_other(config: Config, server: Server, connect: Connect) -> None:
    asgi = config.interface == "asgi"
    route, name = ("/scope", "method") if asgi else ("/environ", "REQUEST_METHOD")
    client = connect(server)
    assert client.request("PROXY", route).json()[name] == "PROXY"
    assert client.request("PROXY", route, body=b"x" * 100_000).json()[name] == "PROXY"


# The rest of what an app is told


@pytest.mark.parametrize("config", [Config(), Config(lanes="plain")], ids=str)
def test_scope_of_a_request(server: Server, connect: Connect) -> None:
    fields = [("X-One", "1"), ("x-one", "2"), ("Cookie", "a=b")]
    scope = connect(server).request("GET", "/sc%6Fpe?q=100%&x=%C3%A9", fields).json()
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "GET", "http")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("/scope", "/sc%6Fpe", "")
    assert scope["query_string"] == "q=100%&x=%C3%A9"
    assert scope["headers"] == [["host", "test"], ["x-one", "1"], ["x-one", "2"], ["cookie", "a=b"]]


@pytest.mark.parametrize(
    "config", [Config("wsgi", lane_proxy="off"), Config("wsgi", "plain")], ids=str
)
def test_environ_of_a_request(server: Server, connect: Connect) -> None:
    fields = [("X-One", "1"), ("x-one", "2"), ("X_Forged", "3"), ("Content-Type", "text/x")]
    environ = connect(server).request("POST", "/envir%6Fn?q=100%", fields, b"abc").json()
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "QUERY_STRING": "q=100%",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "test",
        "wsgi.url_scheme": "http",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert environ["HTTP_X_ONE"].replace(" ", "") == "1,2"
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_X_FORGED"} & set(environ)


@pytest.mark.parametrize("config", [Config(), Config("wsgi")], ids=str)
def test_root_path_is_where_a_proxy_mounted_the_app(
    config: Config, start: Start, connect: Connect
) -> None:
    server = start(config.app, *config.options, "--root-path", "/shop")
    if config.interface == "asgi":
        scope = connect(server).get("/scope").json()
        assert (scope["root_path"], scope["path"]) == ("/shop", "/shop/scope")
    else:
        environ = connect(server).get("/environ").json()
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/environ")
