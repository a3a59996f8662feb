"""The status page of the admin listener, in Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.browser import NEEDS, Browser
from tests.integration.client import Client, request
from tests.integration.server import Server
from tests.integration.waiting import eventually

APP = """
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    path = scope["path"]
    if path.startswith("/fails"):
        raise RuntimeError("the password is secret")
    if path.startswith("/waits"):
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if path.startswith("/stalls"):
        time.sleep(2.5)
    body = b"<iframe src='http://127.0.0.1:%s/'></iframe>" % scope["query_string"]
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": body})
"""
pytestmark = pytest.mark.needs(*NEEDS)
Connect = Callable[..., Client]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "paged.py").write_text(APP)
    options = ("--reactors", "2", "--runtime", "asyncio", "--admin", "127.0.0.1:0")
    with Server("paged:app", *options, "--graceful-timeout", "1", app_dir=folder) as server:
        yield server


@pytest.fixture(scope="module")
def running_browser() -> Iterator[Callable[[], Browser]]:
    """Start the browser when the first test asks for it: by then the test has named its needs."""
    made: list[Browser] = []

    def get() -> Browser:
        if not made:
            made.append(Browser())
        return made[0]

    yield get
    for browser in made:
        browser.close()


@pytest.fixture
def browser(running_browser: Callable[[], Browser]) -> Browser:
    browser = running_browser()
    browser.look(1280, 900)
    browser.complaints()
    return browser


def url_of(server: Server) -> str:
    (url,) = re.findall(r"admin socket on (http://\S+)", server.log())
    return f"{url}/"


def shows(browser: Browser, *texts: str) -> None:
    eventually(lambda: all(text in browser.text() for text in texts), deadline=15)


def test_text_of_clients_is_shown_as_text(
    server: Server, browser: Browser, connect: Connect
) -> None:
    client = connect(server)
    paths = ["/fails/<script>document.title='hacked'</script>", "/fails/%1b[31m/<img/src=x>"]
    for path in paths:
        assert client.request("GET", f"{path}?token=hunter2").status == 500
    raw = connect(server)
    raw.send(b"GET /\x1b?token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.response().status == 400
    browser.open(url_of(server))
    shows(browser, *(f"GET {path}" for path in paths), "GET /\\x1b", "target-character")
    text = browser.text()
    assert "response of the app" in text
    assert "hunter2" not in text
    assert "secret" not in text
    assert browser.run("return document.title") == "paged:app: reactor-run"
    assert browser.run("return document.querySelectorAll('td script, td img').length") == 0
    assert browser.complaints() == []


def test_it_shows_what_each_reactor_runs_and_updates_itself(
    server: Server, browser: Browser, connect: Connect
) -> None:
    browser.open(url_of(server))
    shows(browser, "paged:app\nready", "reactor 1", "reactor 2", "of 1000")
    slow = connect(server)
    slow.send(request("GET", "/waits/<b>for</b>?token=hunter2"))
    shows(browser, "GET /waits/<b>for</b>")
    waited = "return Math.max(...[...document.querySelectorAll('.run span:last-child')]"
    eventually(lambda: browser.run(f"{waited}.map((each) => parseFloat(each.textContent)))") > 2)
    connect(server).send(request("GET", "/stalls"))
    shows(browser, "stalls, ", "GET /stalls")
    figures = browser.run(
        "return Object.fromEntries([...document.querySelectorAll('.figure')].map((each) => "
        "[...each.children].map((child) => child.textContent)))"
    )
    assert {"Requests/s", "p50", "p99", "Queue", "Generation"} <= figures.keys()
    assert float(figures["Requests/s"]) > 0
    assert re.fullmatch(r"[\d.]+ (ms|s)", figures["p99"])
    points = "return document.querySelector('polyline').getAttribute('points').split(' ').length"
    eventually(lambda: browser.run(points) > 2)


def test_it_runs_no_script_but_its_own_and_is_shown_in_no_frame(
    server: Server, browser: Browser
) -> None:
    browser.open(url_of(server))
    browser.run(
        "const script = document.createElement('script');"
        "script.textContent = 'window.hacked = true';"
        "document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"hacked = true\">')"
    )
    assert browser.run("return window.hacked === undefined")
    assert any("Content Security Policy" in line for line in browser.complaints())
    # A page of the app shows it in a frame.
    port = url_of(server).rstrip("/").rpartition(":")[2]
    browser.open(f"{server.address}/?{port}")
    assert any("frame-ancestors" in line or "frame" in line for line in browser.complaints())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 700, 1280])
def test_it_fits_the_screen(
    server: Server, browser: Browser, width: int, dark: bool, tmp_path: Path
) -> None:
    browser.look(width, 800, dark=dark)
    browser.open(url_of(server))
    shows(browser, "reactor 2")
    assert browser.run("return document.documentElement.scrollWidth") == width
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert all((int(part) < 64) is dark for part in re.findall(r"\d+", ground))
    assert browser.screenshot().startswith(b"\x89PNG")


def test_it_says_when_the_service_is_gone(server: Server, browser: Browser, tmp_path: Path) -> None:
    shutil.copy(Path(server.command[server.command.index("--app-dir") + 1]) / "paged.py", tmp_path)
    with Server("paged:app", "--admin", "127.0.0.1:0", app_dir=tmp_path) as other:
        browser.open(url_of(other))
        shows(browser, "paged:app\nready")
    shows(browser, "no answer")
