"""deploy/nginx as it is copied, with Debian's nginx: only names and addresses are changed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client

from reactor_run.frontend.cli import read_settings
from reactor_run.frontend.command.settings import Settings
from tests.integration.apps.shared import hash_of, pattern
from tests.integration.client import Client, chunked, request
from tests.integration.conftest import Config, Gate, Start
from tests.integration.load import Load
from tests.integration.proxies import STREAM_MODULE, address_of, listen, nginx
from tests.integration.server import ROOT, Server, is_alive
from tests.integration.waiting import eventually
from tests.integration.websocket import WebSocketClient, check_websockets
from tests.needs import path_of

Connect = Callable[..., Client]

HTTP = ROOT / "deploy" / "nginx" / "reactor-run.conf"
STREAM = ROOT / "deploy" / "nginx" / "stream.conf"
CONFIGS = [Config("asgi"), Config("wsgi", threads=8)]
LARGE = 200 << 20


def options(page: Path) -> list[str]:
    """The options of the command in the first lines of a configuration, without the address."""
    (command,) = re.findall(r"^#   reactor-run (.*) \\$", page.read_text(), re.M)
    words = shlex.split(command)
    assert words[:2] == ["--bind", "unix:/run/reactor-run-shop.sock"]
    return words[2:]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Short enough for the paths of unix sockets, and open to nginx's user."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def certificate(directory: Path) -> Path:
    pem, key = directory / "shop.example.pem", directory / "shop.example.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
    words = [
        path_of("openssl"),
        "req",
        "-x509",
        *kind,
        *names,
        "-keyout",
        str(key),
        "-out",
        str(pem),
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    return pem


class Site:
    """Where nginx listens: on plain HTTP, and with TLS."""

    def __init__(self, plain: list[str], tls: list[str]) -> None:
        self.plain = plain
        self.tls = tls

    @property
    def address(self) -> str:
        return self.plain[0]


@contextmanager
def site(directory: Path, path: str, *, stream: bool = False) -> Iterator[Site]:
    """nginx with a configuration of deploy/nginx in front of the unix socket at `path`."""
    text = (STREAM if stream else HTTP).read_text().replace("/run/reactor-run-shop.sock", path)
    text = text.replace("/etc/ssl/", f"{directory}/").replace("/events/", "/steps")
    sockets: list[socket.socket] = []
    where: dict[str, list[str]] = {"80": [], "443": []}

    def ours(match: re.Match[str]) -> str:
        sockets.append(listen("tcp6" if match[1] else "tcp4", directory))
        where[match[2]].append(address_of(sockets[-1]))
        return f"listen {where[match[2]][-1].removeprefix('http://')}"

    text = re.sub(r"listen (\[::\]:)?(80|443)", ours, text)
    if not stream:
        text = f"http {{ access_log off;\n{text}}}\n"
    with nginx(directory, text, sockets, stream=stream):
        yield Site(where["80"], where["443"])


@pytest.fixture
def behind(start: Start, directory: Path) -> Server:
    """An ASGI service with two reactors, as reactor-run.conf asks for it."""
    path = f"{directory}/web.sock"
    admin = f"--admin=unix:{directory}/admin.sock"
    return start(CONFIGS[0].app, *options(HTTP), "--reactors=2", admin, bind=[f"unix:{path}"])


@pytest.fixture
def front(behind: Server, directory: Path, certificate: Path) -> Iterator[Site]:
    """nginx in front of `behind`."""
    with site(directory, behind.address.removeprefix("unix:")) as front:
        yield front


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def served(
    request: pytest.FixtureRequest,
    shared_servers: dict[tuple[object, ...], Server],
    directory: Path,
    certificate: Path,
) -> Iterator[tuple[Config, Site]]:
    """nginx in front of one service for each interface."""
    config: Config = request.param
    bind = f"unix:{directory}/{config.interface}.sock"
    server = Server(config.app, *config.options, *options(HTTP), bind=[bind])
    shared_servers[("nginx", config)] = server
    with site(directory, server.address.removeprefix("unix:")) as front:
        yield config, front


# What the app is told ----------------------------------------------------------------------------


def told(client: Client, config: Config, fields: list[tuple[str, str]] | None = None) -> Any:
    """Client, scheme and Host, as the app sees them; POST, so that there is a body too."""
    path = "/scope" if config.interface == "asgi" else "/environ"
    answer = client.request("POST", path, fields or [], body=b"x").json()
    if config.interface == "wsgi":
        return answer["REMOTE_ADDR"], answer["wsgi.url_scheme"], answer["HTTP_HOST"]
    return answer["client"][0], answer["scheme"], dict(answer["headers"])["host"]


@pytest.mark.needs("nginx", "openssl")
def test_apps_are_told_of_the_client(
    served: tuple[Config, Site], connect: Connect, certificate: Path
) -> None:
    config, front = served
    forged = [
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=192.0.2.66;proto=https"),
        ("X_Forwarded_For", "192.0.2.66"),
    ]
    for address in front.plain:
        client = connect(address)
        host = client.local[0]
        assert told(client, config) == (host, "http", "test")
        assert told(client, config, forged) == (host, "http", "test")
    context = ssl.create_default_context(cafile=str(certificate))
    for address in front.tls:
        client = connect(address)
        host = client.local[0]
        client._sock = context.wrap_socket(client._sock, server_hostname="shop.example")
        assert told(client, config) == (host, "https", "test")


@pytest.mark.needs("nginx", "openssl")
def test_websockets(start: Start, directory: Path, certificate: Path) -> None:
    server = start(
        "tests.integration.apps.websockets:app",
        *options(HTTP),
        "--ws-ping-interval=0.2",
        bind=[f"unix:{directory}/websockets.sock"],
    )
    with site(directory, server.address.removeprefix("unix:")) as front:
        with WebSocketClient(front.address, "/scope") as ws:
            scope = json.loads(ws.message())
            assert scope["client"][0] == "127.0.0.1"
            assert scope["scheme"] == "ws"
            ws.finish()
        check_websockets(front.address)
        context = ssl.create_default_context(cafile=str(certificate))
        url = front.tls[0].replace("http", "wss", 1) + "/scope"
        tls: dict[str, Any] = {"ssl": context, "server_hostname": "shop.example", "proxy": None}

        # Not the client with threads: a socket of Python's ssl is for one at a time.
        async def secure() -> None:
            async with websockets.asyncio.client.connect(url, **tls) as ws:
                assert json.loads(await ws.recv())["scheme"] == "wss"

        asyncio.run(secure())


@pytest.mark.needs("nginx", "openssl", STREAM_MODULE)
def test_stream_tells_by_the_proxy_protocol(
    start: Start, directory: Path, connect: Connect
) -> None:
    bind = f"unix:{directory}/stream.sock"
    server = start(CONFIGS[0].app, *options(STREAM), bind=[bind])
    with site(directory, server.address.removeprefix("unix:"), stream=True) as front:
        for address in front.plain:
            client = connect(address)
            for _ in range(2):
                assert told(client, CONFIGS[0]) == (client.local[0], "http", "test")


# Bodies ------------------------------------------------------------------------------------------


@pytest.mark.needs("nginx", "openssl")
@pytest.mark.parametrize(("framing", "size"), [("length", LARGE), ("chunked", LARGE // 20)])
def test_upload(served: tuple[Config, Site], connect: Connect, framing: str, size: int) -> None:
    client = connect(served[1].address, timeout=60)
    if framing == "chunked":
        head = request("POST", "/hash", [("Transfer-Encoding", "chunked")])
        pieces: Iterator[bytes] = chunked(pattern(size))
    else:
        head = request("POST", "/hash", [("Content-Length", str(size))])
        pieces = pattern(size)
    client.send(head)
    with client.sending(pieces):
        answer = client.response("POST")
    assert answer.json() == {"sha256": hash_of(pattern(size)), "size": size}


@pytest.mark.needs("nginx", "openssl")
def test_download(served: tuple[Config, Site], connect: Connect) -> None:
    client = connect(served[1].address, timeout=60)
    client.send(request("GET", f"/download?size={LARGE}"))
    assert client.begin().field("content-length") == str(LARGE).encode()
    assert hash_of(client.pieces()) == hash_of(pattern(LARGE))


@pytest.mark.needs("nginx", "openssl")
def test_an_answer_before_the_end_of_an_upload_arrives(
    start: Start, directory: Path, certificate: Path, connect: Connect
) -> None:
    bind = [f"unix:{directory}/small.sock"]
    server = start(CONFIGS[0].app, *options(HTTP), "--max-body-size=1M", bind=bind)
    with site(directory, server.address.removeprefix("unix:")) as front:
        client = connect(front.address)
        client.send(request("POST", "/hash", [("Content-Length", str(5 << 20))]))
        with client.sending(pattern(5 << 20), may_be_cut=True):
            answer = client.response("POST")
    assert (answer.status, answer.field("content-type")) == (413, b"text/plain; charset=utf-8")


@pytest.mark.needs("nginx", "openssl")
@pytest.mark.parametrize("where", ["/steps?", "/x-accel-buffering?"])
def test_events_arrive_one_by_one(
    served: tuple[Config, Site], connect: Connect, gate: Gate, second_gate: Gate, where: str
) -> None:
    """In the location for them, or anywhere if the app says so itself."""
    client = connect(served[1].address)
    client.send(request("GET", f"{where}gate={gate}&gate2={second_gate}"))
    client.begin()
    pieces = client.pieces()
    assert next(pieces) == b"data: 1\n\n"
    gate.open()
    assert next(pieces) == b"data: 2\n\n"
    second_gate.open()
    assert next(pieces) == b"data: 3\n\n"
    assert not list(pieces)


@pytest.mark.needs("nginx", "openssl")
def test_errors_of_the_app_are_left_alone(served: tuple[Config, Site], connect: Connect) -> None:
    client = connect(served[1].address)
    missing = client.request("GET", "/no-such-route")
    assert (missing.status, missing.text) == (404, "no such route")
    failed = client.request("GET", "/raise-before")
    assert (failed.status, failed.field("content-type")) == (500, b"text/plain; charset=utf-8")


# Connections to the service ----------------------------------------------------------------------


def report(directory: Path) -> Any:
    with Client(f"unix:{directory}/admin.sock") as admin:
        return admin.get("/status").json()


@pytest.mark.needs("nginx", "openssl")
def test_connections_are_used_again(
    front: Site, behind: Server, connect: Connect, directory: Path
) -> None:
    for _ in range(20):
        client = connect(front.address)
        client.get("/hello")
        assert client.request("POST", "/echo", body=b"x" * 100_000).status == 200
    counters = report(directory)["counters"]
    assert (counters["connections"], counters["requests"]) == (1, 40)


@pytest.mark.needs("nginx", "openssl")
def test_nothing_is_sent_twice_that_may_have_been_served(
    directory: Path, certificate: Path, connect: Connect
) -> None:
    """On a connection that ends instead of an answer: GET goes once more, POST does not."""
    path = f"{directory}/fake.sock"
    with socket.socket(socket.AF_UNIX) as service, site(directory, path) as front:
        service.bind(path)
        os.chmod(path, 0o666)
        service.listen()
        service.settimeout(20)
        client = connect(front.address)

        def serve(sock: socket.socket) -> None:
            assert sock.recv(65536).startswith(b"GET ")
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert client.response().status == 200

        client.send(request("GET", "/kept"))
        first, _ = service.accept()
        serve(first)
        client.send(request("GET", "/again"))
        assert first.recv(65536).startswith(b"GET /again ")
        first.close()
        second, _ = service.accept()
        serve(second)
        client.send(request("POST", "/order", body=b"once"))
        assert second.recv(65536).startswith(b"POST /order ")
        second.close()
        assert client.response("POST").status == 502
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()


# While the service changes -----------------------------------------------------------------------


@contextmanager
def load(front: Site) -> Iterator[list[Load]]:
    """Clients of every sort; each must have got nothing but good answers in the end."""
    clients = [
        Load(front.address, method, reconnects=True, keeps=keeps)
        for method in ("GET", "POST")
        for keeps in (True, False)
        for _ in range(2)
    ]
    try:
        assert eventually(lambda: all(client.failure or client.pids() for client in clients))
        yield clients
    finally:
        for client in clients:
            client.stop()
    assert [client.failure for client in clients] == [None] * len(clients)
    assert set(sum((client.statuses for client in clients), Counter[int]())) == {200}


def all_served_by_others(clients: list[Load], pids: set[int]) -> bool:
    """Each client has got an answer by a reactor that is none of these."""
    return all(client.failure or client.pids() - pids for client in clients)


@pytest.mark.needs("nginx", "openssl")
def test_nobody_notices_a_reload(front: Site, behind: Server) -> None:
    with load(front) as clients:
        for _ in range(2):
            old = set(behind.reactor_pids())
            behind.signal(signal.SIGHUP)
            assert eventually(partial(all_served_by_others, clients, old), deadline=30)


@pytest.mark.needs("nginx", "openssl")
def test_nobody_notices_an_upgrade(front: Site, behind: Server) -> None:
    with load(front) as clients:
        old = set(behind.reactor_pids())
        behind.signal(signal.SIGUSR2)
        try:
            assert behind.wait(deadline=40) == 0
            assert eventually(lambda: all_served_by_others(clients, old), deadline=30)
        finally:
            pid = int(re.findall(r"the new front end is process (\d+)", behind.log())[-1])
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: not is_alive(pid), deadline=30)


@pytest.mark.needs("nginx", "openssl")
def test_nobody_notices_a_restart_if_the_socket_stays(
    start: Start, directory: Path, certificate: Path
) -> None:
    """As with systemd's socket activation: the backlog belongs to the socket."""
    path = f"{directory}/activated.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(4096)

        def run() -> Server:
            script = 'exec 3<&"$0"-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
            wrapper = ["bash", "-c", script, str(listener.fileno())]
            words = options(HTTP)
            fds = [listener.fileno()]
            return start(CONFIGS[0].app, *words, bind=(), wrapper=wrapper, pass_fds=fds)

        first = run()
        with site(directory, path) as front, load(front) as clients:
            old = set(first.reactor_pids())
            assert first.stop() == 0
            run()
            assert eventually(lambda: all_served_by_others(clients, old), deadline=30)


@pytest.mark.needs("nginx", "openssl")
def test_without_that_a_restart_is_noticed_only_while_nobody_listens(
    start: Start, directory: Path, certificate: Path, connect: Connect
) -> None:
    bind = [f"unix:{directory}/restarted.sock"]
    server = start(CONFIGS[0].app, *options(HTTP), bind=bind)
    with site(directory, server.address.removeprefix("unix:")) as front:
        client = connect(front.address)
        client.get("/hello")
        assert server.stop() == 0
        for _ in range(3):
            answer = client.request("GET", "/hello")
            assert (answer.status, answer.field("content-type")) == (502, b"text/html")
        start(CONFIGS[0].app, *options(HTTP), bind=bind)
        assert client.request("POST", "/echo", body=b"at once").text == "at once"


# Numbers that have to fit ------------------------------------------------------------------------


def seconds(name: str, text: str) -> float:
    number, unit = re.findall(rf"^ *{name} (\d+)([smh]);$", text, re.M)[0]
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]


@pytest.mark.parametrize("page", [HTTP, STREAM], ids=lambda page: page.name)
def test_the_numbers_fit_those_of_reactor_run(page: Path) -> None:
    text = page.read_text()
    settings: Settings = read_settings([*options(page), "shop.main:app"], {})
    if page == STREAM:
        assert seconds("proxy_timeout", text) > settings.keep_alive
        return
    idle = seconds("keepalive_timeout", text)
    assert idle < settings.close_grace
    assert idle < settings.keep_alive
    assert seconds("proxy_read_timeout", text) > settings.queue_timeout
    assert f"client_max_body_size {settings.max_body_size >> 30}g;" in text
