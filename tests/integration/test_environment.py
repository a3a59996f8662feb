"""What the process that starts reactor-run leaves to it: descriptors, signals, a directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.server import clean_environment, command, is_alive
from tests.integration.waiting import eventually

APP = """
import json, os, signal, sys

def app(environ, start_response):
    print("a line of the app", file=environ["wsgi.errors"], flush=True)
    print("another", file=sys.stderr, flush=True)
    print("a third", flush=True)
    links = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
    body = json.dumps({"pid": os.getpid(), "links": links}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., object]:
    (tmp_path / "told_app.py").write_text(APP)

    @contextmanager
    def run(shell: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Start it by a line of a shell, in which "$@" is reactor-run."""
        address = f"unix:{tmp_path}/socket"
        words = command("told_app", "--app-dir", str(tmp_path), "--bind", address, *options)
        with open(tmp_path / "log", "ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", shell, "bash", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                process_group=0,
            )
        try:
            eventually(lambda: ask(address), deadline=30)
            yield process, address
        finally:
            process.kill()
            process.wait()

    return run


def ask(address: str) -> dict[str, object]:
    with Client(address) as client:
        told: dict[str, object] = client.get("/").json()
        return told


# Standard input, output and error


@pytest.mark.parametrize(
    ("closing", "closed"),
    [("0<&-", [0]), ("1>&-", [1]), ("2>&-", [2]), ("0<&- 1>&- 2>&-", [0, 1, 2])],
)
def test_it_serves_without_standard_streams(
    serve: Callable[..., object], closing: str, closed: list[int]
) -> None:
    with serve(f'exec "$@" {closing}') as (process, address):  # type: ignore[attr-defined]
        links = ask(address)["links"]
        here = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        for number in closed:
            assert links[number] == here[number] == "/dev/null"  # type: ignore[index]
        process.send_signal(signal.SIGHUP)
        before = ask(address)["pid"]
        assert eventually(lambda: ask(address)["pid"] != before)
        process.terminate()
        assert process.wait(30) == 0


# Signals


def test_a_signal_that_is_blocked_at_the_start_is_heard(serve: Callable[..., object]) -> None:
    block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); "
    run = f"exec python3 -c '{block} os.execv(sys.argv[1], sys.argv[1:])' \"$@\""
    with serve(run) as (process, _):  # type: ignore[attr-defined]
        process.terminate()
        assert process.wait(30) == 0


def test_sighup_stays_ignored_if_it_was(serve: Callable[..., object], tmp_path: Path) -> None:
    """`nohup`: a logout does not end it. It reloads through the admin socket."""
    admin = f"unix:{tmp_path}/admin"
    with serve('exec nohup "$@"', "--admin", admin) as (process, address):  # type: ignore[attr-defined]
        before = ask(address)["pid"]
        process.send_signal(signal.SIGHUP)
        done = subprocess.run(command("reload", "--admin", admin), timeout=60, capture_output=True)
        assert done.returncode == 0, done
        assert ask(address)["pid"] != before
        status = subprocess.run(
            command("status", "--json", "--admin", admin), timeout=60, capture_output=True
        )
        # The signal began no reload of its own.
        assert json.loads(status.stdout)["generation"] == 2
        assert is_alive(process.pid)
        process.terminate()
        assert process.wait(30) == 0
    assert "SIGHUP is ignored" in (tmp_path / "log").read_text()


def test_sigint_is_heard_although_a_shell_ignores_it(serve: Callable[..., object]) -> None:
    """A shell without job control starts its background processes so."""
    with serve("trap '' INT; exec \"$@\"") as (process, _):  # type: ignore[attr-defined]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
