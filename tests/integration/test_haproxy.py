"""deploy/haproxy as it is copied, with Debian's HAProxy before instances on machines of their own.

Only names and addresses are changed, and the pace of the checks, so that nobody waits for them.
"""

from __future__ import annotations

import csv
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
from pathlib import Path
from typing import Any

import pytest

from reactor_run.frontend.cli import read_settings
from tests.integration.client import Client, request
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.load import Load
from tests.integration.machines import Machine, machines
from tests.integration.proxies import address_of, haproxy_with, listen
from tests.integration.server import ROOT, Server
from tests.integration.waiting import eventually
from tests.integration.websocket import WebSocketClient, check_websockets
from tests.needs import path_of

Connect = Callable[..., Client]

PAGE = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
SCRIPT = ROOT / "deploy" / "haproxy" / "rolling-restart"
APP = "tests.integration.apps.asgi:app"


def options() -> list[str]:
    """The options of the command in the first lines of the configuration."""
    (command,) = re.findall(r"^#   reactor-run (.*?) shop.main:app$", PAGE.read_text(), re.M | re.S)
    return shlex.split(command.replace("\\\n#", ""))


class Site:
    """HAProxy, and the service on two machines."""

    def __init__(self, start: Start, places: list[Machine], app: str = APP) -> None:
        self._start = start
        self._app = app
        self._places = dict(zip(("shop-1", "shop-2"), places, strict=True))
        self.instances: dict[str, Server] = {}
        for name in self._places:
            self.run(name)

    def run(self, name: str) -> None:
        """Start the service on one machine, as its administrator would."""
        place = self._places[name]
        here = {
            ":8000": f"{place.address}:8000",
            ":8001": f"{place.address}:8001",
            "192.0.2.1": place.gateway,
            "5": "1",
        }
        command = [here.get(word, word) for word in options()]
        self.instances[name] = self._start(
            self._app,
            *command,
            bind=(),
            wrapper=place.wrapper,
            env={"REACTOR_RUN_CLOSE_GRACE": "1", "REACTOR_RUN_WS_PING_INTERVAL": "0.2"},
        )

    def reactors(self) -> set[int]:
        """The processes of all reactors."""
        return {pid for server in self.instances.values() for pid in server.reactor_pids()}

    def restart(self, name: str) -> None:
        assert self.instances[name].stop() == 0
        self.run(name)

    @contextmanager
    def behind_haproxy(self, directory: Path) -> Iterator[None]:
        """Have HAProxy before it; `address`, `tls` and `stats` are where that listens."""
        text = PAGE.read_text()
        for number, place in enumerate(self._places.values(), start=11):
            text = text.replace(f"192.0.2.{number}:", f"{place.address}:")
        text = text.replace("inter 1s fastinter 500ms", "inter 200ms fastinter 100ms")
        # What belongs to the machine: its log, its user.
        text = re.sub(r"^    (log|chroot|user|group|option httplog)\b.*\n", "", text, flags=re.M)
        text = text.replace("/etc/haproxy/", f"{directory}/")
        sockets: list[socket.socket] = []

        def ours(_: re.Match[str]) -> str:
            sockets.append(listen("tcp4", directory))
            return f"bind fd@{sockets[-1].fileno()}"

        text = re.sub(r"(?<=^    )bind \S+", ours, text, flags=re.M)
        self.address, self.tls, self.stats = map(address_of, sockets)
        with haproxy_with(directory, text, sockets):
            assert eventually(lambda: self.states() == {"shop-1": "UP", "shop-2": "UP"})
            yield

    def states(self) -> dict[str, str]:
        """What HAProxy thinks of each instance."""
        with Client(self.stats) as client:
            rows = csv.DictReader(client.get("/;csv").text.removeprefix("# ").splitlines())
            return {row["svname"]: row["status"] for row in rows if row["svname"] in self._places}


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


@pytest.fixture
def certificate(directory: Path) -> Path:
    pem = directory / "shop.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
    out = ["-keyout", f"{pem}.key", "-out", str(pem)]
    words = [path_of("openssl"), "req", "-x509", *kind, *names, *out]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    pem.write_text(pem.read_text() + Path(f"{pem}.key").read_text())
    return pem


@pytest.fixture
def places() -> Iterator[list[Machine]]:
    with machines(2) as made:
        yield made


@pytest.fixture
def site(places: list[Machine], start: Start, directory: Path, certificate: Path) -> Iterator[Site]:
    site = Site(start, places)
    with site.behind_haproxy(directory):
        yield site
    for server in site.instances.values():
        # Nobody is left to whom the delay would be of use.
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0


@contextmanager
def load(site: Site) -> Iterator[list[Load]]:
    """Clients of every sort."""
    clients = [
        Load(site.address, method, reconnects=True, keeps=keeps)
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


@pytest.mark.needs("haproxy", "openssl")
def test_apps_are_told_of_the_client(site: Site, connect: Connect, certificate: Path) -> None:
    """Also on connections that HAProxy uses again: each is told as itself."""

    def told(client: Client) -> Any:
        scope = client.request("POST", "/scope", body=b"x").json()
        return tuple(scope["client"]), scope["scheme"]

    context = ssl.create_default_context(cafile=str(certificate))
    clients = [(connect(site.address), "http") for _ in range(4)]
    for _ in range(4):
        client = connect(site.tls)
        client._sock = context.wrap_socket(client._sock, server_hostname="shop.example")
        clients.append((client, "https"))
    for _ in range(4):
        for client, scheme in clients:
            assert told(client) == (client._sock.getsockname(), scheme)


@pytest.mark.needs("haproxy", "openssl")
def test_websockets(
    places: list[Machine], start: Start, directory: Path, certificate: Path
) -> None:
    site = Site(start, places, "tests.integration.apps.websockets:app")
    with site.behind_haproxy(directory):
        with WebSocketClient(site.address, "/scope") as ws:
            scope = json.loads(ws.message())
            assert tuple(scope["client"]) == ws.client.local
            assert scope["scheme"] == "ws"
            ws.finish()
        check_websockets(site.address)
    for server in site.instances.values():
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0


@pytest.mark.needs("haproxy", "openssl", "curl")
def test_a_rolling_restart_loses_nothing(site: Site, directory: Path) -> None:
    """By the script, which finds an `ssh` that asks the test to restart."""
    asked, answered = directory / "asked", directory / "answered"
    for fifo in asked, answered:
        os.mkfifo(fifo)
    ssh = directory / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" > {asked}\nread -r _ < {answered}\n')
    ssh.chmod(0o755)
    path = f"{directory}:{os.environ['PATH']}"
    with load(site) as clients:
        before = site.reactors()
        script = subprocess.Popen(
            [str(SCRIPT), "reactor-run@shop", *site.instances],
            env={**os.environ, "PATH": path, "STATS": site.stats},
        )
        try:
            for name in site.instances:
                assert asked.read_text() == f"{name} systemctl restart reactor-run@shop\n"
                site.restart(name)
                answered.write_text("done\n")
            assert script.wait(30) == 0
        finally:
            script.kill()
            script.wait()
        after = site.reactors()
        assert not before & after
        assert eventually(
            lambda: all(client.failure or client.pids() & after for client in clients)
        )
    assert [client.failure for client in clients] == [None] * len(clients)
    assert set(sum((client.statuses for client in clients), Counter[int]())) == {200}


@pytest.mark.needs("haproxy", "openssl")
def test_an_instance_that_is_killed_takes_no_more_along_than_it_had(
    site: Site, connect: Connect, tmp_path: Path, gate: Gate
) -> None:
    waiting = [(connect(site.address), Notes(tmp_path / f"notes{number}")) for number in range(8)]
    for client, notes in waiting:
        client.send(request("POST", f"/wait?gate={gate}&notes={notes}", body=b"order"))
    pids = [int(notes.first()) for _, notes in waiting]
    killed, other = site.instances.values()
    (doomed,), (surviving,) = killed.reactor_pids(), other.reactor_pids()
    assert set(pids) == {doomed, surviving}
    with load(site) as clients:
        killed.kill()
        before = [client.statuses[200] for client in clients]
        assert eventually(
            lambda: all(
                client.failure or client.statuses[200] > count + 20
                for client, count in zip(clients, before, strict=True)
            )
        )
        assert eventually(lambda: site.states()["shop-1"].startswith("DOWN"))
    gate.open()
    for (client, notes), pid in zip(waiting, pids, strict=True):
        assert client.response("POST").status == (502 if pid == doomed else 200)
        assert len(notes.lines()) == 1, "it was sent to the other one"
    for each in clients:
        lost = sum(count for status, count in each.statuses.items() if status != 200)
        assert lost + (each.failure is not None) <= 2, "one in flight, and one before HAProxy knew"
    site.run("shop-1")
    assert eventually(lambda: site.states()["shop-1"] == "UP")


@pytest.mark.needs("haproxy", "openssl")
def test_the_configuration_is_accepted_without_a_warning(
    directory: Path, certificate: Path
) -> None:
    config = directory / "haproxy.cfg"
    config.write_text(PAGE.read_text().replace("/etc/haproxy/", f"{directory}/"))
    words = [path_of("haproxy"), "-c", "-f", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_numbers_fit_those_of_reactor_run() -> None:
    settings = read_settings([*options(), "shop.main:app"], {})
    numbers = dict(re.findall(r"^    timeout (\S+) (\d+)s$", PAGE.read_text(), re.M))
    assert int(numbers["server"]) > settings.queue_timeout
    assert int(numbers["http-request"]) < settings.head_timeout
    assert int(numbers["client"]) < settings.keep_alive
    assert int(numbers["http-keep-alive"]) < settings.keep_alive
    # Two checks that fail, the second after fastinter.
    assert settings.shutdown_delay >= 2 * (1.0 + 0.5)
