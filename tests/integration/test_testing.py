"""`reactor_run.testing.serve` and the pytest fixture: real servers, from the caller's side."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reactor_run.testing import DidNotStart, serve
from tests.integration.apps import asgi
from tests.integration.client import Client
from tests.integration.server import ROOT, clean_environment, is_alive
from tests.integration.waiting import eventually

FACTS = """
import json, os, sys

def app(environ, start_response):
    start_response("200 OK", [])
    facts = {
        "pids": [os.getpid(), os.getppid()],
        "optimize": sys.flags.optimize,
        "dev": sys.flags.dev_mode,
        "warn": sys.warnoptions,
        "variable": os.environ.get("TEST_VARIABLE"),
        "ours": [name for name in os.environ if name.startswith(("REACTOR_RUN_", "NOTIFY_"))],
    }
    return [json.dumps(facts).encode()]
"""


def get(url: str, path: str = "/") -> bytes:
    with Client(url) as client:
        return client.get(path).body


def refuses(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    try:
        socket.create_connection((parts.hostname, parts.port or 0), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_server_for_the_time_of_a_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "facts_app.py").write_text(FACTS)
    # As pytest's `pythonpath` does.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REACTOR_RUN_REACTORS", "many")
    with serve("facts_app:app", threads=2, env={"TEST_VARIABLE": "set"}) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        facts = json.loads(get(url))
        assert facts["variable"] == "set"
        assert facts["ours"] == []
        assert all(map(is_alive, facts["pids"]))
    assert refuses(url)
    assert not any(map(is_alive, facts["pids"]))
    assert "is ready: wsgi" in capfd.readouterr().err


def test_an_app_object() -> None:
    with serve(asgi.app, runtime="asyncio") as url:
        assert get(url, "/hello")


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_an_address(bind: str) -> None:
    with serve("examples.hello:app", bind=bind, app_dir=str(ROOT)) as url:
        assert url.startswith(f"http://{bind.removesuffix('0')}")
        assert get(url)


def test_several_addresses(tmp_path: Path) -> None:
    bind = ["127.0.0.1:0", f"unix:{tmp_path}/s"]
    with serve("examples.hello:app", bind=bind, app_dir=str(ROOT)) as url:
        assert get(url)
        assert get(bind[1])


def test_a_unix_socket(tmp_path: Path) -> None:
    bind = f"unix:{tmp_path}/s"
    with serve("examples.hello:app", bind=bind, app_dir=str(ROOT)) as url:
        assert url == bind
        assert get(url)


def test_a_failed_start_gives_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("app = 1 / 0\n")
    with (
        pytest.raises(
            DidNotStart, match=r"^importing broken failed: ZeroDivisionError: division by zero$"
        ),
        serve("broken:app", app_dir=str(tmp_path)),
    ):
        raise AssertionError("it started")
    assert 'broken.py", line 1' in capfd.readouterr().err


def test_a_server_that_is_killed_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "killing.py").write_text("import os\nos.kill(os.getppid(), 9)\n")
    with (
        pytest.raises(DidNotStart, match=r"^exit status -9$"),
        serve("killing:app", app_dir=str(tmp_path)),
    ):
        raise AssertionError("it started")


def test_a_start_that_takes_too_long(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    with (
        pytest.raises(DidNotStart, match=r"not ready after 0\.3 s"),
        serve("slow:app", app_dir=str(tmp_path), start_timeout=0.3),
    ):
        raise AssertionError("it started")


def test_a_server_that_ends_before_the_context_does(tmp_path: Path) -> None:
    (tmp_path / "facts_app.py").write_text(FACTS)
    server = serve("facts_app:app", app_dir=str(tmp_path))
    front_end = json.loads(get(server.__enter__()))["pids"][1]
    os.kill(front_end, signal.SIGKILL)
    assert eventually(lambda: not is_alive(front_end))
    with pytest.raises(RuntimeError, match="the server has ended, with status -9"):
        server.__exit__(None, None, None)


KILLED = """
import json, os, signal, urllib.request
from reactor_run.testing import serve

if __name__ == "__main__":
    with serve("facts_app:app") as url:
        print(urllib.request.urlopen(url).read().decode(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_with_a_test_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "facts_app.py").write_text(FACTS)
    (tmp_path / "killed.py").write_text(KILLED)
    options = ["-X", "dev", "-O", "-W", "error::UserWarning"]
    done = subprocess.run(
        [sys.executable, *options, "killed.py"],
        cwd=tmp_path,
        capture_output=True,
        env=clean_environment(),
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    facts = json.loads(done.stdout)
    assert eventually(lambda: not any(map(is_alive, facts["pids"])))
    # The options of Python reach front end and reactor.
    assert (facts["optimize"], facts["dev"]) == (1, True)
    assert "error::UserWarning" in facts["warn"]


TESTS = """
import urllib.request

def app(environ, start_response):
    environ["wsgi.errors"].write("asked\\n")
    start_response("200 OK", [])
    return [b"served"]

def test_passes(reactor_run_serve):
    url = reactor_run_serve(app)
    assert urllib.request.urlopen(url).read() == b"served"

def test_fails(reactor_run_serve):
    url = reactor_run_serve("test_shop:app", threads=2)
    assert urllib.request.urlopen(url).read() == b"not served"
"""


def test_the_fixture_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "listening on http://127.0.0.1:" in done.stdout
    assert "asked" in done.stdout
