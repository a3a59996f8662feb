"""As process 1, as in a container: signals end it, and it reaps what nobody else does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Gate, Notes
from tests.integration.server import STOP_DEADLINE, Server, clean_environment, command
from tests.integration.waiting import eventually
from tests.needs import path_of

Connect = Callable[..., Client]
Namespace = list[str]

APP = """
import os, subprocess

def app(environ, start_response):
    # Its parent, a shell, is gone at once.
    gate = environ["QUERY_STRING"]
    script = f"while [ ! -e '{gate}' ]; do sleep 0.01; done &"
    subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)
    start_response("200 OK", [])
    return [str(os.getppid()).encode()]
"""


@pytest.fixture(scope="module")
def namespace() -> Namespace:
    """The words that make a command process 1 of its own namespace."""
    words = [path_of("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs the right to make a PID namespace: {tried.stderr.strip()}")
    return words


def children(pid: int) -> list[int]:
    """The children of a process, dead ones that were not reaped among them."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Container(Server):
    """A server that is the only child of `unshare`, and process 1 to itself."""

    @property
    def pid(self) -> int:
        (pid,) = children(self.process.pid)
        return pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


@pytest.mark.needs("unshare")
def test_process_1_reaps_orphans_and_knows_how_reactors_died(
    namespace: Namespace, connect: Connect, tmp_path: Path, gate: Gate
) -> None:
    (tmp_path / "orphans.py").write_text(APP)
    with Container(
        "orphans:app", "--interface", "wsgi", app_dir=tmp_path, wrapper=namespace
    ) as server:
        (reactor,) = children(server.pid)
        for _ in range(3):
            answer = connect(server).get(f"/?{gate}")
            assert answer.text == "1", "the front end is not process 1"
        eventually(lambda: len(children(server.pid)) == 4)
        gate.open()
        eventually(lambda: children(server.pid) == [reactor])
        os.kill(reactor, signal.SIGKILL)
        eventually(lambda: "was killed by signal 9 after" in server.log())


@pytest.fixture
def slow_import(tmp_path: Path, notes: Notes) -> dict[str, str]:
    """An environment in which the command imports a module that takes its time, and notes it.

    It does so in a finalizer, where an exception would be lost.
    """
    (tmp_path / "logging.py").write_text(
        "import time\n"
        "class Slow:\n"
        "    def __del__(self):\n"
        f"        open({str(notes._path)!r}, 'w').write('importing\\n')\n"
        "        time.sleep(60)\n"
        "Slow()\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return clean_environment({"PYTHONPATH": path})


@pytest.mark.needs("unshare")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_process_1_is_ended_by_signals_before_it_has_begun(
    namespace: Namespace, slow_import: dict[str, str], notes: Notes, number: signal.Signals
) -> None:
    process = subprocess.Popen([*namespace, *command("nowhere:app")], env=slow_import)
    try:
        notes.wait_for("importing")
        (inside,) = children(process.pid)
        os.kill(inside, number)
        assert process.wait(STOP_DEADLINE) == 128 + number
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_any_other_process_is_ended_without_a_traceback(
    slow_import: dict[str, str], notes: Notes, number: signal.Signals
) -> None:
    process = subprocess.Popen(command("nowhere:app"), env=slow_import, stderr=subprocess.PIPE)
    try:
        notes.wait_for("importing")
        process.send_signal(number)
        _, errors = process.communicate(timeout=STOP_DEADLINE)
        assert (process.returncode, errors) == (-number, b"")
    finally:
        process.kill()
        process.wait()
