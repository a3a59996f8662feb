"""As a service of systemd: what it is told, the sockets it passes, and what is left to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.certificates import Authority
from tests.integration.client import Client, request
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.server import (
    ROOT,
    START_DEADLINE,
    STOP_DEADLINE,
    clean_environment,
    command,
)
from tests.integration.waiting import eventually
from tests.needs import path_of

APP = "tests.integration.apps.asgi:app"
Connect = Callable[..., Client]


class Manager:
    """The notification socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))

    def next(self, deadline: float = 15.0) -> list[str]:
        """The lines of the next message; TimeoutError without one within so many seconds."""
        self._sock.settimeout(deadline)
        return self._sock.recv(4096).decode().splitlines()

    def wait_for(self, line: str) -> list[str]:
        """The next message that has this line, or one that begins so."""
        end = monotonic() + 15
        while True:
            lines = self.next(max(0.001, end - monotonic()))
            if any(each.startswith(line) for each in lines):
                return lines

    def forget(self) -> None:
        """Drop what has come."""
        self._sock.setblocking(False)
        try:
            while True:
                self._sock.recv(4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_a_start_and_a_stop_are_told(
    start: Start, connect: Connect, manager: Manager, gate: Gate, notes: Notes
) -> None:
    # With a watchdog in a hurry the figures are looked at more often.
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "3000000"}
    server = start(APP, "--reactors", "2", env=env)
    ready = manager.wait_for("READY=1")
    assert any(" of 2 reactors ready" in line for line in ready), ready
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    figures = "1 requests in flight, 0 waiting, 0 WebSockets, 1 connections"
    manager.wait_for(f"STATUS=2 of 2 reactors ready, {figures}")
    server.signal(signal.SIGTERM)
    stopping = manager.wait_for("STOPPING=1")
    # What the graceful timeout allows must not be cut short.
    assert int(stopping[1].removeprefix("EXTEND_TIMEOUT_USEC=")) > 30_000_000
    gate.open()
    assert client.response().status == 200
    assert server.wait() == 0


def test_why_it_did_not_start_is_told(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("app = 1 / 0\n")
    done = subprocess.run(
        command("--app-dir", str(tmp_path), "--bind", "127.0.0.1:0", "broken:app"),
        env=clean_environment({"NOTIFY_SOCKET": str(manager.path)}),
        capture_output=True,
        timeout=START_DEADLINE,
        check=False,
    )
    assert done.returncode == 2
    manager.wait_for("STATUS=importing broken failed: ZeroDivisionError")


def test_reactors_do_not_inherit_the_managers_variables(start: Start, manager: Manager) -> None:
    env = {
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "web",
        "KEPT": "yes",
    }
    # Cold, because the environment is read as the kernel knows it from the start.
    server = start(APP, env=env, cold=True)
    (reactor,) = server.reactor_pids()
    lines = Path(f"/proc/{reactor}/environ").read_text().split("\0")
    assert "KEPT=yes" in lines
    assert not {line.partition("=")[0] for line in lines} & set(env) - {"KEPT"}


def test_the_watchdog_is_fed_while_the_front_end_turns(start: Start, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "3000000"}
    server = start(APP, env=env)
    (reactor,) = server.reactor_pids()
    os.kill(reactor, signal.SIGSTOP)
    manager.forget()
    for _ in range(2):
        manager.wait_for("WATCHDOG=1")
    server.signal(signal.SIGSTOP)
    eventually(lambda: "\nState:\tT" in Path(f"/proc/{server.pid}/status").read_text())
    manager.forget()
    with pytest.raises(TimeoutError):
        manager.next(3.0)
    server.signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")
    os.kill(reactor, signal.SIGCONT)


@pytest.mark.needs("systemd-socket-activate")
def test_activated_by_the_first_connection(tmp_path: Path, connect: Connect) -> None:
    activate = path_of("systemd-socket-activate")
    path = tmp_path / "web.sock"
    passed = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ]
    words = [activate, f"--listen={path}", "--fdname=web", *passed]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*words, *command("--app-dir", str(ROOT), APP)], stderr=log, env=clean_environment()
        )
    try:
        client = eventually(lambda: connect(f"unix:{path}"))
        assert client.get("/hello").status == 200
        assert f"listening on unix:{path} (systemd:web)" in (tmp_path / "log").read_text()
        process.terminate()
        assert process.wait(STOP_DEADLINE) == 0
        # The socket is systemd's, and so is its file.
        assert path.is_socket()
    finally:
        process.kill()
        process.wait()


TWO_APPS = """
admin = "unix:{folder}/admin"
[app.web]
app = "tests.integration.apps.asgi:app"
[app.api]
app = "tests.integration.apps.wsgi:app"
bind = "fd:api"
[[route]]
prefix = "/"
app = "web"
"""


@pytest.mark.needs("systemd-socket-activate")
def test_a_socket_for_one_app(tmp_path: Path, connect: Connect) -> None:
    activate = path_of("systemd-socket-activate")
    config = tmp_path / "two.toml"
    config.write_text(TWO_APPS.format(folder=tmp_path))
    passed = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ]
    listens = [f"--listen={tmp_path}/{name}.sock" for name in ("web", "api")]
    words = [activate, *listens, "--fdname=web:api", *passed]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*words, *command("--app-dir", str(ROOT), f"--config={config}")],
            stderr=log,
            env=clean_environment(),
        )
    try:
        web = eventually(lambda: connect(f"unix:{tmp_path}/web.sock"))
        assert eventually(lambda: web.request("GET", "/hello").status == 200)
        api = connect(f"unix:{tmp_path}/api.sock")
        assert eventually(lambda: api.request("GET", "/hello").status == 200)
        assert web.get("/pid").json() != api.get("/pid").json()
        # WSGI: the body was collected before the app was called.
        assert api.request("POST", "/hash", body=b"x" * 300_000).status == 200
        assert api.get("/environ").json()["wsgi.url_scheme"] == "http"
        logged = (tmp_path / "log").read_text()
        assert f"listening on unix:{tmp_path}/web.sock (systemd:web)\n" in logged
        assert f"listening on unix:{tmp_path}/api.sock (systemd:api) for api\n" in logged
    finally:
        process.terminate()
        process.wait(STOP_DEADLINE)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_stop_leaves_the_backlog_to_the_next_start(
    start: Start, connect: Connect, gate: Gate, notes: Notes, tmp_path: Path, family: str
) -> None:
    """Whoever connects while the service restarts waits, and is answered: nobody is refused."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as listener:
        listener.bind(str(path) if family == "unix" else ("127.0.0.1", 0))
        listener.listen()

        def activated() -> list[str]:
            # What systemd does: the socket as descriptor 3, and the process that it is for.
            script = 'exec 3<&"$0"-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
            return ["bash", "-c", script, str(listener.fileno())]

        first = start(APP, bind=(), wrapper=activated(), pass_fds=[listener.fileno()])
        client = connect(first)
        client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
        notes.first()
        first.signal(signal.SIGTERM)
        eventually(lambda: "shutting down" in first.log())
        late = connect(first)
        late.send(request("GET", "/hello?say=late"))
        gate.open()
        assert client.response().status == 200
        assert first.wait() == 0
        assert family == "tcp" or path.is_socket()
        later = connect(first)
        later.send(request("GET", "/hello?say=later"))
        start(APP, bind=(), wrapper=activated(), pass_fds=[listener.fileno()])
        assert [late.response().text, later.response().text] == ["late", "later"]


@pytest.mark.parametrize("name", ["https", "plain", "redirect-http"])
def test_the_name_of_a_socket_says_whether_it_speaks_tls(
    start: Start, connect: Connect, tmp_path: Path, name: str
) -> None:
    authority = Authority(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = f"LISTEN_FDNAMES={name}"
        script = f'exec 3<&"$0"-; LISTEN_PID=$$ LISTEN_FDS=1 {names} exec "$@"'
        server = start(
            APP,
            *authority.options("localhost"),
            bind=(),
            wrapper=["bash", "-c", script, str(listener.fileno())],
            pass_fds=[listener.fileno()],
        )
        if name == "https":
            assert server.address.startswith("https://")
            assert connect(server, tls=authority.client()).get("/hello").status == 200
        else:
            assert server.address.startswith("http://")
            answer = connect(server).request("GET", "/hello")
            assert answer.status == (200 if name == "plain" else 308)
