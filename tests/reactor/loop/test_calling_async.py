"""Plain code may run async code: no event loop is visible in a WSGI call or in an app's thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.reactor.conftest import RUNTIMES
from tests.reactor.driver import Driver, get

VISIBLE = {"current_library": "none", "running_loop": "none", "in_trio_run": "False"}
RUNS = {
    "asyncio_run": "asyncio",
    "uvloop_run": "asyncio",
    "trio_run": "trio",
    "anyio_run_asyncio": "asyncio",
    "anyio_run_trio": "trio",
    "asgiref": "asyncio",
    "new_loop": "asyncio",
}
FETCHES = {"connection": "/by-asyncio", "httpx_client": "/by-httpx /by-httpx"}
PROBES = {**VISIBLE, **RUNS, **FETCHES}
FRAMEWORKS = {"flask": "asyncio", "django": "asyncio"}
THREADS_OF = {
    "trio": ["anyio", "trio", "own"],
    "asyncio": ["anyio", "asyncio", "own"],
    "uvloop": ["anyio", "asyncio", "own"],
}


class Echo(BaseHTTPRequestHandler):
    """Answers with the path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of an HTTP server on the loopback that answers with the path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture(params=[("1", "trio"), ("2", "asyncio")], ids=["inline", "threads"])
def wsgi(request: pytest.FixtureRequest, shared) -> Driver:
    """The runtime is not used, but it is imported before the app."""
    threads, runtime = request.param
    driver: Driver = shared("calling_async:app", "--threads", threads, "--runtime", runtime)
    return driver


def both(driver: Driver, path: str) -> list[str]:
    """The answers on the express lane and on a plain lane. Each lane is used twice, in turn."""
    lane = driver.open_lane()
    answers = []
    for turn in range(2):
        answers.append(driver.get(path))
        answers.append(lane.exchange(get(path)))
        assert driver.verdict(lane, before=turn) == "done"
    assert {answer.status for answer in answers} == {200}, driver.log()
    return [answer.text for answer in answers]


@pytest.mark.parametrize("probe", [*PROBES, *FRAMEWORKS])
def test_a_wsgi_app_runs_async_code(wsgi: Driver, port: int, probe: str) -> None:
    expected = {**PROBES, **FRAMEWORKS}[probe]
    assert both(wsgi, f"/{probe}?port={port}") == [expected] * 4


def test_an_inline_wsgi_app_listens_for_signals(shared) -> None:
    """An event loop in the main thread sets Python's wake-up descriptor, and sets it back."""
    inline = shared("calling_async:app", "--threads", "1", "--runtime", "trio")
    assert both(inline, "/own_signal") == ["heard"] * 4


@pytest.mark.parametrize(
    ("runtime", "thread"),
    [(runtime, thread) for runtime, threads in THREADS_OF.items() for thread in threads],
)
@pytest.mark.parametrize("probe", PROBES)
def test_a_thread_of_an_asgi_app_runs_async_code(
    shared, runtime: str, thread: str, port: int, probe: str
) -> None:
    driver = shared("calling_async:asgi_app", "--runtime", runtime)
    assert both(driver, f"/{probe}?in={thread}&port={port}") == [PROBES[probe]] * 4


def test_an_asgi_app_sees_its_own_async_library(shared, runtime: str) -> None:
    driver = shared("calling_async:asgi_app", "--runtime", runtime)
    expected = "trio" if runtime == "trio" else "asyncio"
    for answer in both(driver, "/here"):
        assert json.loads(answer) == [expected, ["none"]]
