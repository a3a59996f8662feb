"""Apps and processes that stand still are found out, tell where they are, and are replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import LANES, RUNTIMES, Start
from tests.integration.server import Server, is_alive
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

APP = """
import os, pathlib, time
import anyio

NOTES = pathlib.Path({notes!r})

def note(text):
    with NOTES.open("a") as file:
        file.write(text + "\\n")

def stand_still():
    note(f"stands still in {{os.getpid()}}")
    time.sleep(1000)

async def asgi(scope, receive, send):
    if scope["path"] == "/block":
        stand_still()
    if scope["path"] == "/sleep":
        note("sleeps")
        try:
            await anyio.sleep(1000)
        except anyio.get_cancelled_exc_class():
            note("cancelled")
            raise
    text = str(os.getpid()).encode()
    fields = [(b"content-length", b"%d" % len(text))]
    await send({{"type": "http.response.start", "status": 200, "headers": fields}})
    await send({{"type": "http.response.body", "body": text}})

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/block":
        stand_still()
    text = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def serve(start: Start, tmp_path: Path, notes: Path) -> Callable[..., Server]:
    (tmp_path / "standing_app.py").write_text(APP.format(notes=str(notes)))

    def run(interface: str, *options: str) -> Server:
        return start(f"standing_app:{interface}", "--lifespan", "off", *options, app_dir=tmp_path)

    return run


def noted(notes: Path, text: str) -> bool:
    return notes.exists() and text in notes.read_text()


@pytest.mark.parametrize(
    "runtime", [RUNTIMES[0], pytest.param(RUNTIMES[1], marks=pytest.mark.slow)]
)
def test_an_app_that_blocks_its_loop_is_ended(
    serve: Callable[..., Server], connect: Connect, notes: Path, runtime: str
) -> None:
    server = serve("asgi", "--runtime", runtime, "--timeout", "1")
    (pid,) = server.reactor_pids()
    client, other = connect(server), connect(server)
    client.send(request("GET", "/block"))
    assert eventually(lambda: noted(notes, str(pid)))
    # It comes while the app blocks: before or after the ping that is not answered.
    other.send(request("GET", "/"))
    assert eventually(lambda: not is_alive(pid), deadline=20)
    assert "no answer to a ping for 1 s" in server.log()
    assert 'standing_app.py", line' in server.log()
    assert "in stand_still" in server.log()
    # It is tried once more, blocks another reactor as well, and not a third.
    assert client.response().status == 502
    assert "GET /block was in flight in two reactors that died" in server.log()
    # The other never began before one that blocks.
    assert other.response().status == 200
    assert eventually(lambda: connect(server).get("/").status == 200, deadline=20)


def test_a_stopped_process_is_ended(serve: Callable[..., Server], connect: Connect) -> None:
    """SIGSTOP: it cannot tell where it is, and SIGKILL ends it all the same."""
    server = serve("asgi", "--timeout", "1")
    (pid,) = server.reactor_pids()
    assert connect(server).get("/").json() == pid
    os.kill(pid, signal.SIGSTOP)
    client = connect(server)
    client.send(request("GET", "/"))
    response = client.response()
    assert eventually(lambda: not is_alive(pid), deadline=20)
    assert response.status == 200
    assert response.json() != pid
    assert connect(server).get("/").json() != pid


@pytest.mark.parametrize(
    ("runtime", "lanes", "option"),
    [
        *((runtime, "express", "--request-timeout") for runtime in RUNTIMES),
        ("trio", "plain", "--request-timeout"),
        *(
            pytest.param(runtime, "plain", "--request-timeout", marks=pytest.mark.slow)
            for runtime in RUNTIMES[1:]
        ),
        ("trio", "express", "--first-byte-timeout"),
    ],
)
def test_an_app_that_takes_too_long_is_cancelled(
    serve: Callable[..., Server],
    connect: Connect,
    notes: Path,
    runtime: str,
    lanes: str,
    option: str,
) -> None:
    server = serve("asgi", "--runtime", runtime, "--lanes", lanes, option, "0.5")
    client = connect(server)
    client.send(request("GET", "/sleep"))
    assert eventually(lambda: noted(notes, "sleeps"))
    assert client.response().status == 504
    assert eventually(lambda: noted(notes, "cancelled"))
    # Neither the connection nor the reactor has suffered.
    assert client.get("/").json() == server.reactor_pids()[0]
    assert "GET /sleep took too long in reactor 1" in server.log()


@pytest.mark.parametrize("lanes", LANES)
def test_an_inline_app_that_takes_too_long_costs_its_reactor(
    serve: Callable[..., Server], connect: Connect, notes: Path, lanes: str
) -> None:
    server = serve("wsgi", "--lanes", lanes, "--request-timeout", "0.5")
    (pid,) = server.reactor_pids()
    client, behind = connect(server), connect(server)
    client.send(request("GET", "/block"))
    assert eventually(lambda: noted(notes, str(pid)))
    behind.send(request("GET", "/"))
    assert client.response().status == 504
    assert behind.response().json() != pid
    assert not is_alive(pid)
    assert "in stand_still" in server.log()
    assert client.get("/").json() != pid


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_what_waits_behind_a_call_that_hangs_is_served_elsewhere(
    serve: Callable[..., Server], connect: Connect, notes: Path, interface: str, lanes: str
) -> None:
    """Whatever its method: it never began. It is neither given up nor blamed."""
    server = serve(interface, "--lanes", lanes, "--timeout", "1", "--request-timeout", "1")
    (pid,) = server.reactor_pids()
    client, *others = (connect(server) for _ in range(41))
    # A WSGI reactor fetches more than it runs once its calls are known to be short.
    for _ in range(200):
        assert client.get("/").json() == pid
    client.send(request("GET", "/block"))
    assert eventually(lambda: noted(notes, str(pid)))
    for other in others:
        other.send(request("POST", "/", body=b"x"))
    for other in others:
        response = other.response()
        assert (response.status, response.json() != pid) == (200, True)
    assert "POST /" not in server.log()


def test_a_thread_that_takes_too_long_is_left_behind(
    serve: Callable[..., Server], connect: Connect, notes: Path
) -> None:
    options = ("--threads", "2", "--request-timeout", "0.5", "--graceful-timeout", "1")
    server = serve("wsgi", *options)
    (pid,) = server.reactor_pids()
    client = connect(server)
    client.send(request("GET", "/block"))
    assert eventually(lambda: noted(notes, str(pid)))
    assert client.response().status == 504
    assert eventually(lambda: client.get("/").json() != pid, deadline=20)
    assert eventually(lambda: not is_alive(pid), deadline=20)
