"""`request_started` and `request_ended`: for each interface, runtime, link and way of an answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Config, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

HOOKS = """
import json, os, threading
from contextvars import ContextVar

which = ContextVar("which", default="")
count = 0

def write(*what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")

def request_started(request):
    global count
    count += 1
    which.set(f"{request.target} is number {count}")
    write("started", threading.current_thread().name, which.get(), *request)
    if "bad-start" in request.target:
        raise ValueError("the start")

def request_ended(request):
    write("ended", threading.current_thread().name, which.get(), *request)
    if "bad-end" in request.target:
        raise SystemExit("the end")
"""

ASGI = """
import os
import anyio, anyio.lowlevel
from hooks import which

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    async def start(*fields):
        await send({"type": "http.response.start", "status": 201, "headers": list(fields)})
    async def body(data, more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    path = scope["path"]
    if path == "/fails":
        raise ValueError("the app")
    elif path == "/cut":
        await start((b"content-length", b"100"))
        await body(b"x" * 10, more=True)
        await anyio.lowlevel.checkpoint()
        raise ValueError("the app")
    elif path == "/large":
        await start()
        for _ in range(10):
            await body(b"x" * 100_000, more=True)
            await anyio.lowlevel.checkpoint()
        await body(b"")
    elif path == "/waits":
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        if path == "/forks":
            if child := os.fork():
                os.waitpid(child, 0)
        if path == "/suspends":
            await anyio.lowlevel.checkpoint()
        await start()
        await body(which.get().encode())
"""

WSGI = """
import os
from hooks import which

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise ValueError("the app")
    if path == "/cut":
        start_response("201 Created", [("Content-Length", "100")])
        return iter([b"x" * 10])
    start_response("201 Created", [])
    if path == "/forks":
        if child := os.fork():
            os.waitpid(child, 0)
    if path == "/large":
        return iter([b"x" * 100_000] * 10)
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(os.environ["LARGE"], "rb"))
    return [which.get().encode()]
"""

KINDS = {
    "asgi-trio-express": Config(),
    "asgi-asyncio-express": Config(runtime="asyncio"),
    "asgi-uvloop-express": Config(runtime="uvloop"),
    "asgi-trio-plain": Config(lanes="plain"),
    "wsgi-inline-express": Config("wsgi"),
    "wsgi-threads-express": Config("wsgi", threads=2),
    "wsgi-threads-plain": Config("wsgi", threads=2, lanes="plain"),
}


class Noted:
    """A server, and what its hooks have written."""

    def __init__(self, server: Server, config: Config, file: Path) -> None:
        self.server = server
        self.config = config
        self._file = file

    def notes(self) -> list[list[Any]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [json.loads(line) for line in lines]

    def of(self, target: str) -> list[list[Any]]:
        """What was written of the last request with this target, once it has ended."""

        def both() -> list[list[Any]]:
            notes = [note for note in self.notes() if note[4] == target]
            return notes if notes and notes[-1][0] == "ended" else []

        return eventually(both)[-2:]

    def get(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        with Client(self.server.address) as client:
            response = client.request(method, target)
            return response.status, response.body


only_asgi = pytest.mark.parametrize("noted", [k for k in KINDS if k[0] == "a"], indirect=True)
only_wsgi = pytest.mark.parametrize("noted", [k for k in KINDS if k[0] == "w"], indirect=True)


@pytest.fixture(scope="module", params=KINDS)
def noted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = KINDS[request.param]
    path = tmp_path_factory.mktemp("hooked")
    (path / "hooks.py").write_text(HOOKS)
    (path / "web.py").write_text(ASGI if config.interface == "asgi" else WSGI)
    (path / "large").write_bytes(b"x" * 300_000)
    env = {"NOTES": str(path / "notes"), "LARGE": str(path / "large")}
    options = [*config.options, "--hooks=hooks", "--request-id"]
    with Server("web:app", *options, app_dir=path, env=env) as server:
        yield Noted(server, config, path / "notes")


def test_hooks_enclose_a_request(noted: Noted) -> None:
    status, body = noted.get("/small?q=1")
    started, ended = noted.of("/small?q=1")
    # The app and the second hook see what the first one has set.
    assert (status, body.decode()) == (201, started[2])
    assert ended[2] == started[2]
    kind, thread, _, method, target, request_id = started
    assert (kind, method, target) == ("started", "GET", "/small?q=1")
    assert len(request_id) == 32
    in_pool = noted.config.threads > 1
    assert thread.startswith("wsgi-") if in_pool else thread == "MainThread"
    duration = ended.pop(8)
    assert ended == ["ended", thread, ended[2], "GET", target, request_id, 201, len(body), True]
    assert 0 < duration < 5


def test_an_answer_in_pieces_is_counted_whole(noted: Noted) -> None:
    assert noted.get("/large") == (201, b"x" * 1_000_000)
    ended = noted.of("/large")[1]
    assert ended[6:8] == [201, 1_000_000]
    assert ended[9] is True


def test_the_response_to_head_has_no_bytes(noted: Noted) -> None:
    assert noted.get("/small?head", "HEAD") == (201, b"")
    assert noted.of("/small?head")[1][6:8] == [201, 0]


def test_an_app_that_fails_has_status_500(noted: Noted) -> None:
    status, body = noted.get("/fails")
    assert status == 500
    ended = noted.of("/fails")[1]
    assert ended[6:8] == [500, len(body)]
    assert ended[9] is True


def test_an_answer_that_is_cut_is_incomplete(noted: Noted) -> None:
    with Client(noted.server.address) as client, pytest.raises(Exception):  # noqa: B017, PT011
        client.get("/cut")
    ended = noted.of("/cut")[1]
    assert ended[6:8] == [201, 10]
    assert ended[9] is False


def test_hooks_that_fail_lose_no_request(noted: Noted) -> None:
    assert noted.get("/bad-start")[0] == 201
    assert noted.get("/bad-end")[0] == 201
    assert eventually(lambda: "SystemExit: the end\n" in noted.server.log())
    log = noted.server.log()
    assert "GET /bad-start [" in log
    assert "the hook request_started failed\n" in log
    assert "ValueError: the start\n" in log
    assert "the hook request_ended failed\n" in log


def test_requests_at_once_keep_their_own_variables(noted: Noted) -> None:
    got: dict[str, str] = {}

    def ask(target: str) -> None:
        got[target] = noted.get(target)[1].decode()

    targets = [f"/suspends?{number}" for number in range(8)]
    threads = [threading.Thread(target=ask, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for target in targets:
        started, ended = noted.of(target)
        assert got[target] == started[2] == ended[2]
        assert started[5] == ended[5]


def test_a_child_of_the_app_calls_no_hook(noted: Noted) -> None:
    """The child comes back from the app, and ends there."""
    assert noted.get("/forks")[0] == 201
    noted.of("/forks")
    assert [note[0] for note in noted.notes() if note[4] == "/forks"] == ["started", "ended"]


@only_asgi
def test_a_client_that_leaves_leaves_no_status(noted: Noted) -> None:
    with Client(noted.server.address) as client:
        client.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
        assert eventually(lambda: [note for note in noted.notes() if note[4] == "/waits"])
    ended = noted.of("/waits")[1]
    assert ended[6:8] == [None, 0]
    assert ended[9] is False


@only_wsgi
def test_a_file_is_counted(noted: Noted) -> None:
    assert noted.get("/file") == (201, b"x" * 300_000)
    assert noted.of("/file")[1][6:8] == [201, 300_000]


def test_relayed_answers_and_cancelled_apps(start: Start, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "web.py").write_text(ASGI)
    file = tmp_path / "notes"
    options = ["--hooks=hooks", "--answers=relay", "--first-byte-timeout=0.3"]
    server = start("web:app", *options, app_dir=tmp_path, env={"NOTES": str(file)})
    noted = Noted(server, Config(), file)
    assert noted.get("/large") == (201, b"x" * 1_000_000)
    started, ended = noted.of("/large")
    assert ended[6:8] == [201, 1_000_000]
    assert started[5] == ended[5] == "", "there are no ids without --request-id"

    assert noted.get("/waits")[0] == 504
    ended = noted.of("/waits")[1]
    assert ended[6:8] == [None, 0], "the response is the front end's"
    assert 0.2 < ended[8] < 5
    assert ended[9] is False


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_without_hooks_of_requests_the_exchanges_are_the_plain_ones(
    start: Start, tmp_path: Path, interface: str
) -> None:
    """So such a hooks module costs nothing for a request."""
    (tmp_path / "hooks.py").write_text("def reactor_ready(reactor): ...\n")
    find = "import gc\ndef classes():\n    return ','.join(sorted({type(o).__name__ for o in " + (
        "gc.get_objects() if type(o).__name__.endswith('giExchange')})).encode()\n"
    )
    text = {
        "asgi": "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': classes()})\n",
        "wsgi": "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [classes()]\n",
    }
    (tmp_path / "web.py").write_text(find + text[interface])
    server = start("web:app", "--lifespan=off", "--hooks=hooks", app_dir=tmp_path)
    with Client(server.address) as client:
        assert client.get("/").text == f"{interface.capitalize()}Exchange"
