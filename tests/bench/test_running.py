"""A server is checked before it is measured, and nothing of it is left afterwards."""

import os

import pytest

from bench import proc
from bench import running as module
from bench.deployment import Deployment
from bench.errors import DidNotStart
from bench.load import killer
from bench.pinning import Cores
from bench.running import running
from bench.servers import Program, Server
from tests.integration.waiting import eventually

CORE = min(os.sched_getaffinity(0))
CORES = Cores((CORE, CORE), CORE)
NOTHING = Deployment((("wsgi", "hello"),))


def stubborn(line: str = "python tests/bench/stubborn.py {app} {port}") -> Server:
    return Server("stubborn", "stubborn", "wsgi", (), (Program(line, "main", "child"),))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "_STOP", 0.5)


def test_every_process_is_pinned_and_none_outlives_the_measurement():
    with running(stubborn(), NOTHING, CORES) as server:
        assert server.faults() == []
        assert sorted(role for role, _ in server.usage()) == ["child", "main"]
        assert server.memory()["main"].resident > server.memory()["main"].share > 0
        (child,) = server.workers()
        assert child != server.pid
        assert len(proc.session(server.pid)) == 2
        assert server.started_in > 0
    assert proc.session(server.pid) == []


def test_the_killer_takes_a_worker_and_leaves_the_first_process(capsys):
    with running(stubborn(), NOTHING, CORES) as server:
        assert len(server.workers()) == 1
        killer.main(server.pid, 0.01, 1)
        assert capsys.readouterr().out == "1\n"
        eventually(lambda: not server.workers())
        killer.main(server.pid, 0.01, 1)
        assert capsys.readouterr().out == "0\n"
        assert server.faults() == []


def test_another_status_is_no_start():
    with (
        pytest.raises(DidNotStart, match="status 404"),
        running(stubborn(), Deployment((("wsgi", "hello"),), path="/missing"), CORES),
    ):
        pass


def test_the_last_words_of_a_server_that_ends_are_shown():
    with (
        pytest.raises(DidNotStart, match="No such file"),
        running(stubborn("python /nonexistent {port}"), NOTHING, CORES),
    ):
        pass


def test_a_server_that_is_not_installed_is_no_start():
    with (
        pytest.raises(DidNotStart, match="no-such-server is not installed: pip install"),
        running(stubborn("no-such-server {port}"), NOTHING, CORES),
    ):
        pass


def test_a_proxy_in_front_is_started_last_and_its_files_are_written():
    behind = "python tests/bench/stubborn.py {app} 0"
    front = Program(
        "python tests/bench/stubborn.py {app} {port} {folder}/front.conf",
        "proxy",
        "helper",
        {"front.conf": "listen {port}; location { }"},
    )
    server = Server("two", "two", "wsgi", (), (Program(behind, "app", "app worker"), front))
    with running(server, NOTHING, CORES) as found:
        # Workers start in their own time.
        eventually(
            lambda: (
                [role for role, _ in found.processes()] == ["app", "app worker", "proxy", "helper"]
            )
        )
        assert found.pid == found.leaders[0][0]
        assert "FOLDER/front.conf" in found.command
    assert proc.session(found.leaders[0][0]) == proc.session(found.leaders[1][0]) == []
