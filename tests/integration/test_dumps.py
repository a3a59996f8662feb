"""A reactor that is asked what its threads do tells it, and goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import RUNTIMES, Start
from tests.integration.load import Load
from tests.integration.waiting import eventually

Connect = Callable[..., Client]
DUMPS = 300
"""With busy threads a dump in C (`faulthandler`) crashed the process after 80 to 1,300."""

APP = """
import os

CODE = "def deep(n):\\n    return n and deep(n - 1)\\n"

def wrapped(n):
    return (lambda *a, **b: wrapped(n - 1) if n else 0)(n, n=n)

def app(environ, start_response):
    for n in range(120):
        names = {}
        exec(CODE, names)
        names["deep"](n)
        wrapped(n)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_busy_threads_survive_being_asked(start: Start, tmp_path: Path) -> None:
    (tmp_path / "busy_app.py").write_text(APP)
    server = start("busy_app", "--threads", "4", app_dir=tmp_path)
    (pid,) = server.reactor_pids()
    clients = [Load(server.address) for _ in range(4)]

    def told(times: int) -> bool:
        return server.log().count("Thread MainThread (most recent call first)") > times

    try:
        assert eventually(lambda: all(client.answered(pid) for client in clients))
        for number in range(DUMPS):
            os.kill(pid, signal.SIGUSR1)
            assert eventually(partial(told, number))
    finally:
        for client in clients:
            client.stop()
    assert [client.failure for client in clients] == [None] * 4
    assert server.reactor_pids() == [pid]
    assert "Thread wsgi-1 (most recent call first)" in server.log()
    assert 'busy_app.py", line' in server.log()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_reactor_without_work_tells_it_too(start: Start, connect: Connect, runtime: str) -> None:
    server = start("tests.integration.apps.asgi:app", "--runtime", runtime)
    os.kill(server.reactor_pids()[0], signal.SIGUSR1)
    assert eventually(lambda: "Thread MainThread (most recent call first)" in server.log())
    assert connect(server).get("/hello").text == "hello"
