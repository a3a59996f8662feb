"""The admin socket and its commands on a real server."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.server import START_DEADLINE, clean_environment, command, is_alive
from tests.integration.waiting import eventually
from tests.needs import path_of

APP = "tests.integration.apps.asgi:app"
Connect = Callable[..., Client]


def reactor_run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command's outcome."""
    return subprocess.run(
        command(*words),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=START_DEADLINE,
        check=False,
    )


def test_it_answers_while_every_reactor_hangs(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    server = start(APP, "--reactors", "2", "--admin", f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"admin socket on unix:{path}\n" in server.log()
    eventually(lambda: connect(f"unix:{path}").get("/status").text.count('"state": "ready"') == 2)
    reactors = server.reactor_pids()
    for pid in reactors:
        os.kill(pid, signal.SIGSTOP)
    assert connect(f"unix:{path}").get("/healthz").text == "alive\n"
    done = reactor_run("status", "--admin", f"unix:{path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reactor-run ")
    for pid in reactors:
        assert re.search(
            rf"^reactor \d +{pid} +1 +ready +0 +1000 +0 +\d+ s +\d+\.\d MiB$", done.stdout, re.M
        )
        os.kill(pid, signal.SIGCONT)


def test_reload_waits_for_the_new_generation(start: Start, tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/admin.sock"
    app = tmp_path / "reloaded.py"
    app.write_text("async def app(scope, receive, send):\n    raise NotImplementedError\n")
    server = start("reloaded:app", "--admin", admin, app_dir=tmp_path)
    before = server.reactor_pids()
    done = reactor_run("reload", "--admin", admin)
    assert (done.returncode, done.stdout, done.stderr) == (0, "generation 2 serves\n", "")
    eventually(lambda: len(server.reactor_pids()) == 1)
    after = server.reactor_pids()
    assert after != before
    app.write_text("app = 1 / 0\n")
    done = reactor_run("reload", "--admin", admin)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("reactor-run: importing reloaded failed: .* \\(500\\)\n", done.stderr)
    assert server.reactor_pids() == after
    assert "the last reload failed: importing" in reactor_run("status", "--admin", admin).stdout


def test_stop_waits_for_the_end(
    start: Start, connect: Connect, tmp_path: Path, gate: Gate, notes: Notes
) -> None:
    admin = f"unix:{tmp_path}/admin.sock"
    web = tmp_path / "web.sock"
    server = start(APP, "--admin", admin, bind=[f"unix:{web}"])
    (reactor,) = server.reactor_pids()
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    notes.first()
    stopping = subprocess.Popen(
        command("stop", "--admin", admin), env=clean_environment(), stdout=subprocess.PIPE
    )
    eventually(lambda: "stop command received over the admin socket" in server.log())
    assert stopping.poll() is None
    gate.open()
    assert client.response().status == 200
    output, _ = stopping.communicate(timeout=15)
    assert (stopping.returncode, output) == (0, b"stopped\n")
    assert not is_alive(reactor)
    assert not web.exists()
    assert server.wait() == 0
    assert not (tmp_path / "admin.sock").exists()
    assert reactor_run("stop", "--admin", admin).returncode == 2


@pytest.mark.needs("curl")
def test_curl_reads_it_over_tcp(start: Start) -> None:
    curl = path_of("curl")
    server = start(APP, "--admin", "localhost:0")
    url = re.findall(r"admin socket on (http://127\S+)", server.log())[0]

    def status(*words: str) -> str:
        code = [curl, "--silent", "--output", os.devnull, "--write-out", "%{http_code}", *words]
        return subprocess.run(code, capture_output=True, text=True, check=True, timeout=30).stdout

    assert status(f"{url}/readyz") == "200"
    assert status("--head", f"{url}/status") == "200"
    assert status("--request", "POST", f"{url}/stop") == "403"
    assert status("--header", "Origin: http://evil.example", f"{url}/status") == "403"
