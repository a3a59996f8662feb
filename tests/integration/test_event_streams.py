"""Event streams when the service stops: Ctrl-C ends them at once, all else lets them go on."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import RUNTIMES, Gate, Notes, Start
from tests.integration.server import ROOT, clean_environment, command
from tests.integration.waiting import eventually
from tests.needs import need_module

APP = "tests.integration.apps.streaming:app"
WSGI = "tests.integration.apps.wsgi:app"
STREAMS = [
    "until-told",
    "until-send-fails",
    "until-a-task-fails",
    "until-starlette-fails",
    "until-cancelled",
]
Connect = Callable[..., Client]


class Developer:
    """A service in the foreground of a terminal of its own, and who sits there."""

    def __init__(self, *options: str, app: str = APP) -> None:
        words = command(app, "--app-dir", str(ROOT), "-b", "127.0.0.1:0", *options)
        self.pid, self.terminal = os.forkpty()
        if not self.pid:
            ours = {"REACTOR_RUN_CLOSE_GRACE": "1", "TERM": "xterm", "NO_COLOR": ""}
            os.execve(words[0], words, {**clean_environment(), **ours})
        self.seen = ""
        self.wait_for("ready, accepting")
        match = re.search(r"listening on (http://[0-9.:]+)", self.seen)
        assert match is not None
        self.address = match[1]

    def wait_for(self, text: str) -> None:
        """Read what it writes, up to this text."""
        while text not in self.seen:
            self.seen += os.read(self.terminal, 65536).decode()

    def press_ctrl_c(self) -> None:
        os.write(self.terminal, b"\x03")

    def end(self) -> float:
        """Return how many seconds it takes to end, with status 0."""
        began = time.monotonic()
        try:
            while data := os.read(self.terminal, 65536):
                self.seen += data.decode()
        except OSError:
            # All its processes have closed the terminal.
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        assert status == 0, self.seen
        return time.monotonic() - began

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def develop() -> Iterator[Callable[..., Developer]]:
    """`develop(*options, app=APP)`: a service in a terminal."""
    begun: list[Developer] = []

    def run(*options: str, app: str = APP) -> Developer:
        begun.append(Developer(*options, app=app))
        return begun[-1]

    yield run
    for developer in begun:
        developer.close()


def begin(client: Client, path: str) -> None:
    """Ask for a stream, and wait for its first bytes."""
    client.send(request("GET", path))
    assert client.begin().status == 200
    assert next(client.pieces())


@pytest.mark.parametrize(
    ("runtime", "options"),
    [
        *((runtime, []) for runtime in RUNTIMES),
        ("trio", ["--answers=relay"]),
        ("asyncio", ["--lanes=plain"]),
    ],
)
def test_ctrl_c_ends_event_streams_at_once(
    develop: Callable[..., Developer],
    connect: Connect,
    notes: Notes,
    runtime: str,
    options: list[str],
) -> None:
    need_module("starlette")
    developer = develop(f"--runtime={runtime}", *options)
    clients = []
    for stream in STREAMS:
        clients.append(connect(developer.address))
        begin(clients[-1], f"/{stream}?notes={notes}")
    idle = connect(developer.address)
    assert idle.get("/hello").status == 200
    developer.wait_for('"GET /hello HTTP/1.1" \x1b[32m200\x1b[0m 5 ')
    developer.press_ctrl_c()
    # uvicorn with sse-starlette takes 0.3 s. Machines of tests are slow.
    assert developer.end() < 3
    assert sorted(notes.lines()) == sorted(f"{stream} ends" for stream in STREAMS)
    assert "error" not in developer.seen, developer.seen
    assert not re.search("waiting for .*/until", developer.seen)
    for client in clients:
        assert b"0\r\n\r\n" not in client.rest()


@pytest.mark.parametrize("options", [[], ["--answers=relay"], ["--lanes=plain"]])
def test_a_client_that_leaves_is_no_error_of_the_app(
    shared: Start, connect: Connect, notes: Notes, options: list[str]
) -> None:
    need_module("starlette")
    server = shared(APP, "--runtime=trio", *options)
    for stream in STREAMS[:-1]:
        client = connect(server)
        begin(client, f"/{stream}?notes={notes}")
        client.close()
        notes.wait_for(f"{stream} ends")
    assert eventually(server.is_at_rest)
    assert "error" not in server.log()


def test_ctrl_c_waits_for_all_other_requests(
    develop: Callable[..., Developer], connect: Connect, gate: Gate, notes: Notes
) -> None:
    developer = develop()
    other, stream, late = (connect(developer.address) for _ in range(3))
    begin(other, f"/file-like?gate={gate}")
    begin(stream, f"/until-told?notes={notes}")
    late.send(request("GET", f"/late?gate={gate}&notes={notes}"))
    notes.wait_for("late was asked")
    developer.press_ctrl_c()
    developer.wait_for("press Ctrl-C again")
    notes.wait_for("until-told ends")
    assert re.search(
        r"waiting for GET /file-like for [\d.]+ s, GET /late for [\d.]+ s; press", developer.seen
    )
    gate.open()
    # The late stream begins after Ctrl-C, and is ended too.
    assert developer.end() < 5
    assert b"".join([*other.pieces()]).endswith(b"last")


def test_ctrl_c_waits_for_the_event_streams_of_wsgi_apps_and_names_them(
    develop: Callable[..., Developer], connect: Connect, gate: Gate
) -> None:
    developer = develop("--threads=2", app=WSGI)
    stream = connect(developer.address)
    begin(stream, f"/steps?gate={gate}&gate2=")
    developer.press_ctrl_c()
    developer.wait_for("press Ctrl-C again")
    assert "waiting for GET /steps for" in developer.seen
    gate.open()
    assert developer.end() < 5
    assert b"".join(stream.pieces()) == b"data: 2\n\ndata: 3\n\n"


@pytest.mark.parametrize(
    ("way", "lanes"),
    [
        ("SIGTERM", "express"),
        ("SIGTERM", "plain"),
        ("reload", "express"),
        pytest.param("reload", "plain", marks=pytest.mark.slow),
        ("recycling", "express"),
        pytest.param("recycling", "plain", marks=pytest.mark.slow),
        pytest.param("SIGINT without a terminal", "express", marks=pytest.mark.slow),
        ("SIGINT without a terminal", "plain"),
    ],
)
def test_finite_event_streams_are_not_cut(
    start: Start, connect: Connect, gate: Gate, notes: Notes, way: str, lanes: str
) -> None:
    options = ["--max-requests=1"] if way == "recycling" else []
    server = start(APP, f"--lanes={lanes}", *options)
    client = connect(server)
    begin(client, f"/finite?gate={gate}&notes={notes}")
    if way == "recycling":
        awaited = "reactor 2 ("
    elif way == "reload":
        server.signal(signal.SIGHUP)
        awaited = "generation 1 retires"
    else:
        server.signal(signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
        awaited = "shutting down"
    assert eventually(lambda: awaited in server.log())
    assert eventually(server.is_at_rest)
    gate.open()
    assert b"".join(client.pieces()) == b"data: 2\n\n"
    if awaited == "shutting down":
        assert server.wait() == 0


@pytest.mark.parametrize("way", ["stop", "reload"])
def test_a_grace_for_event_streams(
    start: Start, connect: Connect, gate: Gate, notes: Notes, way: str
) -> None:
    server = start(APP, "--event-stream-grace=0.2")
    stream, other = connect(server), connect(server)
    begin(stream, f"/until-told?notes={notes}")
    begin(other, f"/file-like?gate={gate}")
    server.signal(signal.SIGTERM if way == "stop" else signal.SIGHUP)
    notes.wait_for("until-told ends")
    gate.open()
    assert b"".join(other.pieces()) == b"last"
    if way == "stop":
        assert server.wait() == 0
    else:
        assert eventually(lambda: len(server.reactor_pids()) == 1)


def test_a_wrong_grace_is_said_in_one_line(start: Start) -> None:
    import subprocess

    ended = subprocess.run(
        command(APP, "--event-stream-grace=soon"), capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert "--event-stream-grace: expected a number of seconds" in ended.stderr
