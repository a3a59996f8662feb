"""Servers that tests fork from a process with the server's imports are like those that do not."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client
from tests.integration.server import Server, clean_environment, command
from tests.warm import WarmProcess, start_warm

APP = """
import atexit, gc, json, logging, os, signal, sys, threading

DESCRIPTORS = {
    number: os.readlink(f"/proc/self/fd/{number}").partition(":")[0]
    for number in map(int, os.listdir("/proc/self/fd"))
    if os.path.exists(f"/proc/self/fd/{number}")
}
ROOT = logging.getLogger()
FACTS = {
    "argv": [word for word in sys.argv if not word.startswith("--control-fd")],
    "main": sys.modules["__main__"].__spec__.name,
    "path": sys.path,
    "environ": dict(os.environ),
    "directory": os.getcwd(),
    "first descriptors": [DESCRIPTORS.get(number) for number in (0, 1, 2)],
    "sockets": list(DESCRIPTORS.values()).count("socket"),
    "signals": [str(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()],
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    "threads": threading.active_count(),
    "collects": gc.isenabled(),
    "log": [ROOT.level, len(ROOT.handlers), logging.getLogger("reactor_run.error").handlers],
    "group": os.getpgrp() == os.getpid(),
    "tests": [name for name in sys.modules if name.startswith("tests")],
}

def app(environ, start_response):
    atexit.register(print, "the app has ended", flush=True)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(FACTS).encode()]
"""


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all other tests start servers cold."""
    monkeypatch.delenv("COLD_STARTS", raising=False)


def facts(folder: Path, *, cold: bool) -> tuple[type, dict[str, Any]]:
    """What an app finds in a reactor, whose end it then tells; and the kind of the server."""
    with Server("facts:app", "--interface=wsgi", app_dir=folder, cold=cold) as server:
        with Client(server.address) as client:
            found = json.loads(client.get("/").body)
        kind = type(server.process)
        server.begin_stop()
        assert server.wait() == 0
        assert "the app has ended" in server.log()
    return kind, found


def test_an_app_finds_what_it_finds_in_a_new_process(tmp_path: Path) -> None:
    (tmp_path / "facts.py").write_text(APP)
    kind, warm = facts(tmp_path, cold=False)
    assert kind is WarmProcess
    kind, cold = facts(tmp_path, cold=True)
    assert kind is subprocess.Popen
    assert warm == cold


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "TZ", "LC_ALL", "REACTOR_RUN_PURE"])
def test_what_python_reads_at_its_start_needs_a_new_process(variable: str) -> None:
    with Server("tests.integration.apps.wsgi:app", env={variable: "1"}) as server:
        assert isinstance(server.process, subprocess.Popen)


@pytest.mark.parametrize("words", [["nowhere:app"], ["--reactors=none", "a:b"]])
def test_its_exit_status_is_that_of_a_new_process(tmp_path: Path, words: list[str]) -> None:
    words = command(*words, "--app-dir", str(tmp_path), "--bind=127.0.0.1:0")
    with (tmp_path / "log").open("wb") as log:
        process = start_warm(words, clean_environment(), log.fileno())
        assert process is not None
        status = process.wait(30)
    cold = subprocess.run(words, env=clean_environment(), check=False, capture_output=True)
    assert status == cold.returncode != 0
    assert b"reactor-run: error: " in (tmp_path / "log").read_bytes()


def test_a_signal_that_ends_it_is_its_exit_status() -> None:
    with Server("tests.integration.apps.wsgi:app") as server:
        server.kill()
        assert isinstance(server.process, WarmProcess)
        assert server.process.returncode == -signal.SIGKILL
