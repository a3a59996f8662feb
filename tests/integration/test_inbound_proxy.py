"""`--proxy-protocol` as HAProxy, nginx and curl speak it, for every way of relaying."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reactor_run.protocol.origin import origin_tlvs
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2
from tests.integration.apps.shared import pattern
from tests.integration.client import Client, request
from tests.integration.conftest import Config, Start, relay_configs
from tests.integration.proxies import STREAM_MODULE, address_of, backend_of, haproxy, listen, nginx
from tests.integration.server import Server
from tests.needs import path_of

Connect = Callable[..., Client]

V4 = ("203.0.113.7", 1111), ("192.0.2.1", 443)
V6 = ("2001:db8::7", 1111), ("2001:db8::1", 443)
UNIX: tuple[Endpoint, Endpoint] = (("/run/them.sock", None), ("/run/us.sock", None))
BODIES = {"small": b"".join(pattern(10)), "large": b"".join(pattern(200_000))}


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Short enough for the paths of unix sockets, and open to the users of proxies."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def told(client: Client, config: Config, body: bytes = b"") -> tuple[Any, Any, str]:
    """What the app is told: client, server and scheme."""
    if config.interface == "asgi":
        scope = client.request("POST", "/scope", body=body).json()
        ends = [tuple(end) if end else None for end in (scope["client"], scope["server"])]
        return ends[0], ends[1], scope["scheme"]
    environ = client.request("POST", "/environ", body=body).json()
    source = environ["REMOTE_ADDR"] and (environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]))
    server = environ["SERVER_NAME"].strip("[]"), int(environ["SERVER_PORT"])
    return source or None, server, environ["wsgi.url_scheme"]


# Headers by hand, for every way of relaying -------------------------------------------------------


@pytest.mark.parametrize("config", relay_configs("asgi", "wsgi"))
@pytest.mark.parametrize("size", BODIES)
@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_apps_are_told_what_the_header_says(
    shared: Start, connect: Connect, config: Config, size: str, ends: Any
) -> None:
    server = shared(config.app, *config.options, "--proxy-protocol")
    express = config.lanes == "express"
    for header, tls in [
        (encode_v1(*ends), False),
        (encode_v2(*ends, crc32c=True), False),
        (encode_v2(ends[0], ends[1], origin_tlvs(https=True)), True),
    ]:
        client = connect(server)
        client.send(header)
        for _ in range(2):
            source, destination, scheme = told(client, config, BODIES[size])
            if express or config.lane_proxy != "off":
                assert (source, destination) == ends
            else:
                assert source is None
            known = tls and (express or config.lane_proxy == "v2")
            assert scheme == ("https" if known else "http")


@pytest.mark.parametrize("config", [Config(), Config("wsgi")], ids=str)
def test_a_unix_socket_in_the_header_is_nobody(
    shared: Start, connect: Connect, config: Config
) -> None:
    client = connect(shared(config.app, *config.options, "--proxy-protocol"))
    client.send(encode_v2(*UNIX))
    source, destination, _ = told(client, config)
    assert source is None
    if config.interface == "asgi":
        assert destination == UNIX[1]


# The programs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(shared_servers: dict[tuple[object, ...], Server], directory: Path) -> Server:
    """One server for all programs."""
    binds = ("127.0.0.1:0", "[::1]:0", f"unix:{directory}/out")
    config = Config()
    options = (*config.options, "--proxy-protocol")
    server = shared_servers[("programs",)] = Server(config.app, *options, bind=binds)
    return server


FRONTS = ["tcp4", "tcp6"]
BACKS = ["tcp4", "tcp6", "unix"]
SENDS = ["send-proxy", "send-proxy-v2"]
Addresses = dict[tuple[str, ...], str]


@pytest.fixture(scope="module")
def through_haproxy(server: Server, directory: Path) -> Iterator[Addresses]:
    """The addresses of one HAProxy: by the client's family, the server's, and the version."""
    addresses: Addresses = {}
    sockets = []
    sections = ""
    for front in FRONTS:
        for back in BACKS:
            for send in SENDS:
                sock = listen(front, directory)
                sockets.append(sock)
                addresses[front, back, send] = address_of(sock)
                sections += f"listen l{sock.fileno()}\n  mode tcp\n  bind fd@{sock.fileno()}\n"
                sections += f"  server s {backend_of(server, back)} {send}\n"
    with haproxy(directory, sections, sockets):
        yield addresses


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("back", BACKS)
@pytest.mark.parametrize("send", SENDS)
def test_haproxy(
    through_haproxy: Addresses, connect: Connect, front: str, back: str, send: str
) -> None:
    for body in BODIES.values():
        client = connect(through_haproxy[front, back, send])
        for _ in range(2):
            assert told(client, Config(), body) == (client.local, client.remote, "http")


@pytest.fixture(scope="module")
def through_nginx(server: Server, directory: Path) -> Iterator[Addresses]:
    """The addresses of one nginx, by the client's family and the server's."""
    addresses: Addresses = {}
    sockets = []
    blocks = "stream {\n"
    for front in FRONTS:
        for back in BACKS:
            sock = listen(front, directory)
            sockets.append(sock)
            addresses[front, back] = address_of(sock)
            blocks += f"server {{ listen {addresses[front, back].removeprefix('http://')};"
            blocks += f"proxy_protocol on; proxy_pass {backend_of(server, back)}; }}\n"
    with nginx(directory, blocks + "}\n", sockets, stream=True):
        yield addresses


@pytest.mark.needs("nginx", STREAM_MODULE)
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("back", BACKS)
def test_nginx_stream(through_nginx: Addresses, connect: Connect, front: str, back: str) -> None:
    for body in BODIES.values():
        client = connect(through_nginx[front, back])
        assert told(client, Config(), body) == (client.local, client.remote, "http")


@pytest.mark.needs("haproxy", "openssl")
def test_haproxy_tells_of_tls(server: Server, directory: Path) -> None:
    pem = directory / "haproxy.pem"
    key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    out = ["-subj", "/CN=localhost", "-keyout", f"{pem}.key", "-out", str(pem)]
    subprocess.run([path_of("openssl"), *key, *out], check=True, capture_output=True, timeout=30)
    pem.write_text(pem.read_text() + Path(f"{pem}.key").read_text())
    with ExitStack() as stack:
        sock = listen("tcp4", directory)
        name = sock.getsockname()
        section = f"listen tls\n  mode tcp\n  bind fd@{sock.fileno()} ssl crt {pem}\n"
        section += f"  server s {backend_of(server, 'unix')} send-proxy-v2-ssl-cn\n"
        stack.enter_context(haproxy(directory, section, [sock]))
        context = ssl.create_default_context(cafile=str(pem))
        plain = stack.enter_context(socket.create_connection(name, timeout=20))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        client.sendall(request("GET", "/scope", [("Connection", "close")]))
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        scope = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert scope["scheme"] == "https"
        assert tuple(scope["client"]) == client.getsockname()


@pytest.mark.needs("haproxy")
def test_haproxys_health_checks_are_its_own(
    start: Start, directory: Path, notes: Any, connect: Connect
) -> None:
    """They come with LOCAL, or UNKNOWN: the app sees HAProxy as their client."""
    config = Config()
    server = start(config.app, *config.options, "--proxy-protocol")
    sock = listen("tcp4", directory)
    address = address_of(sock)
    section = f"listen checked\n  mode http\n  bind fd@{sock.fileno()}\n"
    section += f"  option httpchk GET /peer?notes={notes}\n"
    section += f"  server s {backend_of(server, 'tcp4')} send-proxy-v2 check inter 100ms\n"
    with haproxy(directory, section, [sock]):
        assert notes.first() == "127.0.0.1"
        client = connect(address)
        assert told(client, config) == (client.local, client.remote, "http")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("family", BACKS)
def test_curl(server: Server, family: str) -> None:
    address = server.addresses[BACKS.index(family)]
    command = [path_of("curl"), "-sS", "--max-time", "20", "--haproxy-protocol"]
    if family == "unix":
        command += ["--unix-socket", address.removeprefix("unix:"), "http://localhost/scope"]
    else:
        command += [f"{address}/scope"]
    scope = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
    if family == "unix":
        assert scope["client"] is None
    else:
        assert scope["client"][0] == {"tcp4": "127.0.0.1", "tcp6": "::1"}[family]
