"""`reactor-run check`: the real command, on apps that start and apps that do not."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.server import clean_environment, command, is_alive
from tests.integration.waiting import eventually
from tests.needs import need_module

LIFESPAN = """
import sys

async def app(scope, receive, send):
    assert scope["type"] == "lifespan", "no request comes"
    await receive()
    print("starts", file=sys.stderr, flush=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("stops", file=sys.stderr, flush=True)
    {end}
"""
COMPLETE = 'await send({"type": "lifespan.shutdown.complete"})'


def check(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("check", "--app-dir", str(folder), *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(env),
        check=False,
    )


def test_an_app_that_starts_and_stops(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LIFESPAN.replace("{end}", COMPLETE))
    # More reactors and a busy address play no part.
    done = check(tmp_path, "own:app", "--reactors", "4", NOTIFY_SOCKET="/no/such/socket")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"own:app would serve: asgi on trio, because [^;]*; started in \d\.\d\d s, "
        r"stopped in \d\.\d\d s\n",
        done.stdout,
    )
    assert done.stderr.splitlines() == ["starts", "stops"]


def test_an_app_that_needs_its_env_file(tmp_path: Path) -> None:
    need_module("dotenv")
    (tmp_path / "own.py").write_text("import os\nos.environ['SHOP']\ndef app(e, s): return []\n")
    (tmp_path / ".env").write_text("SHOP=1\nUVICORN_PORT=1\n")
    done = check(tmp_path, "own:app", f"--env-file={tmp_path}/.env")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch("reactor-run: warning: UVICORN_PORT has no effect .*\n", done.stderr)
    assert "KeyError: 'SHOP'" in check(tmp_path, "own:app").stderr


def test_a_wsgi_app_by_a_factory(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def make():\n    return lambda environ, start_response: []\n")
    done = check(tmp_path, "own:make", "--factory")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("own:make would serve: wsgi; started in ")


def test_a_failure_at_the_stop_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        LIFESPAN.replace("{end}", "raise LookupError('no more database')")
    )
    done = check(tmp_path, "own:app")
    assert done.returncode == 0
    assert "the app's shutdown failed: LookupError: no more database" in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("app = 1 / 0\n", "importing own failed: ZeroDivisionError"),
        ("async def app(scope, receive, send):\n    await receive(), 1 / 0\n", "start-up failed"),
        ("import os\nos._exit(7)\n", "exited with status 7"),
    ],
)
def test_an_app_that_does_not_start(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "own.py").write_text(source)
    done = check(tmp_path, "own:app")
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("reactor-run: own:app would not serve: ")
    assert reason in last
    assert ("ZeroDivisionError" in done.stderr.replace(last, "")) == ("1 / 0" in source)


def test_an_app_that_is_not_ready_in_time(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import threading\nthreading.Event().wait()\n")
    done = check(tmp_path, "own:app", "--start-timeout", "0.3")
    assert done.returncode == 1
    assert "was not ready after 0.3 s; see --start-timeout" in done.stderr


@pytest.mark.parametrize("words", [[], ["own:app", "--threads", "no"], ["own.py"]])
def test_a_wrong_command_line(tmp_path: Path, words: list[str]) -> None:
    done = check(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("reactor-run: error: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_it_with_its_reactor(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, pathlib, threading\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(f'{{os.getpid()}}.')\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen(command("check", "--app-dir", str(tmp_path), "own:app")) as process:
        pid = int(eventually(lambda: re.findall(r"(\d+)\.", (tmp_path / "pid").read_text()))[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
    assert eventually(lambda: not is_alive(pid))
