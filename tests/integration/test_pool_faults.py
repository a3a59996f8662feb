"""Each of three apps is killed, hung, reloaded and overloaded under load: the others go on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.load import Load
from tests.integration.server import Server, clean_environment, command
from tests.integration.waiting import eventually
from tests.integration.websocket import WebSocketClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
timeout = 1
concurrency = 4
queue-size = 8
[app.web]
app = "tests.integration.apps.several:wsgi"
threads = 8
[app.api]
app = "tests.integration.apps.several:asgi"
runtime = "uvloop"
[app.live]
app = "tests.integration.apps.several:asgi"
runtime = "trio"
[[route]]
prefix = "/"
app = "web"
[[route]]
prefix = "/api"
app = "api"
[[route]]
prefix = "/live"
app = "live"
"""
PREFIXES = {"web": "", "api": "/api", "live": "/live"}
ANSWERS = 30
"""That each client of the other apps gets during a fault."""


class Service:
    """The three apps."""

    def __init__(self, server: Server, admin: Path) -> None:
        self.address = server.address
        self._admin = admin

    def pid(self, app: str) -> int:
        """The process that answers; 0: none does."""
        with Client(self.address) as client:
            answer = client.request("GET", f"{PREFIXES[app]}/pid")
        return int(answer.body) if answer.status == 200 else 0

    def kill(self, app: str) -> None:
        self._strike(app, signal.SIGKILL)

    def hang(self, app: str) -> None:
        self._strike(app, signal.SIGSTOP)

    def _strike(self, app: str, number: int) -> None:
        struck = self.pid(app)
        os.kill(struck, number)
        assert eventually(lambda: self.pid(app) not in (0, struck))

    def reload(self, app: str) -> None:
        before = self.pid(app)
        done = subprocess.run(
            command("reload", app, "--admin", f"unix:{self._admin}"),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert self.pid(app) not in (0, before)

    def overload(self, app: str) -> None:
        with ExitStack() as clients:
            target = f"{PREFIXES[app]}/hold"
            loads = [Load(self.address, target=target) for _ in range(30)]
            for load in loads:
                clients.callback(load.stop)
            assert eventually(lambda: sum(load.statuses[503] for load in loads) >= 100)
        assert eventually(lambda: self.pid(app) != 0)


@contextmanager
def unharmed(address: str, app: str) -> Iterator[None]:
    """Ask an app during the block, and a little longer: each request is answered as it should."""
    target = f"{PREFIXES[app]}/pid"
    loads = [Load(address, method, target=target) for method in ("GET", "POST")]
    try:
        yield
        assert eventually(lambda: all(load.statuses[200] >= ANSWERS for load in loads))
    finally:
        for load in loads:
            load.stop()
    for load in loads:
        assert load.failure is None
        assert set(load.statuses) == {200}
        assert len(load.pids()) == 1


@pytest.fixture
def service(start: Start, tmp_path: Path) -> Service:
    config = tmp_path / "three.toml"
    config.write_text(CONFIG)
    admin = tmp_path / "admin"
    service = Service(start("", f"--config={config}", f"--admin=unix:{admin}"), admin)
    assert eventually(lambda: all(service.pid(app) for app in PREFIXES))
    return service


FAULTS: dict[str, Callable[[Service, str], None]] = {
    "killed": Service.kill,
    "hung": Service.hang,
    "reloaded": Service.reload,
    "overloaded": Service.overload,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_of_the_others_fails(service: Service, fault: str) -> None:
    for victim in PREFIXES:
        others = [app for app in PREFIXES if app != victim]
        with ExitStack() as stack:
            socket = None
            if "live" in others:
                socket = WebSocketClient(service.address, "/live/socket")
                stack.callback(socket.client.close)
            for app in others:
                stack.enter_context(unharmed(service.address, app))
            FAULTS[fault](service, victim)
            if socket is not None:
                socket.text("still here")
                assert socket.message() == "still here"
