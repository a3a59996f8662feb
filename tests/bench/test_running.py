"""A server is checked before it is measured, and nothing of it is left afterwards."""

import os

import pytest

from bench import proc
from bench import running as module
from bench.errors import DidNotStart
from bench.running import running
from bench.servers import Server

CORE = min(os.sched_getaffinity(0))


def stubborn(line: str = "python tests/bench/stubborn.py {app} {port}") -> Server:
    return Server("stubborn", "wsgi", ("main", "child"), (), line)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "_STOP", 0.5)


def test_every_process_is_pinned_and_none_outlives_the_measurement():
    with running(stubborn(), "hello", b"hello", CORE) as server:
        assert server.faults() == []
        assert sorted(role for role, _ in server.usage()) == ["child", "main"]
        assert len(proc.session(server.pid)) == 2
    assert proc.session(server.pid) == []


def test_another_answer_is_no_start():
    with (
        pytest.raises(DidNotStart, match="status 200 and b'hello'"),
        running(stubborn(), "hello", b"Hello", CORE),
    ):
        pass


def test_the_last_words_of_a_server_that_ends_are_shown():
    with (
        pytest.raises(DidNotStart, match="No such file"),
        running(stubborn("python {app} {port}"), "/nonexistent", b"", CORE),
    ):
        pass


def test_a_server_that_is_not_installed_is_no_start():
    with (
        pytest.raises(DidNotStart, match="not installed"),
        running(stubborn("no-such-server {port}"), "hello", b"", CORE),
    ):
        pass
