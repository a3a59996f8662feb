"""The service of `make demo`: each part of it, and its page in Chromium."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect as connect_websocket

from tests.integration.browser import NEEDS, Browser
from tests.integration.server import ROOT, Server
from tests.integration.waiting import eventually

CONFIG = ROOT / "examples" / "demo" / "demo.toml"
ADMIN = "127.0.0.1:8001"
"""The address in this file."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("demo") / "demo.toml"
    text = CONFIG.read_text()
    assert text.count(ADMIN) == 2
    config.write_text(text.replace(ADMIN, f"127.0.0.1:{free_port()}"))
    with Server("", f"--config={config}") as server:
        yield server


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as client:
        eventually(lambda: report(client)["ready"])
        yield client


def report(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/status")
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {"ready": False}
    return found


def test_each_app_runs_as_it_should(client: httpx.Client) -> None:
    page = client.get("/")
    assert "Three apps in one service" in page.text
    hello = client.get("/api/hello", params={"name": "you"}).json()
    assert (hello["message"], hello["loop"]) == ("Hello, you", "uvloop")
    assert client.get("/live").status_code == 426
    found = report(client)
    assert [app["name"] for app in found["apps"]] == ["web", "api", "live"]
    by_name = {reactor["name"]: reactor for reactor in found["reactors"]}
    assert by_name["web reactor 1"]["capacity"] == 8
    assert hello["pid"] in {reactor["pid"] for reactor in found["reactors"]}


def test_files_are_served_by_the_front_end(client: httpx.Client) -> None:
    served = sum(reactor["served"] for reactor in report(client)["reactors"])
    folder = CONFIG.parent / "static"
    for path in folder.iterdir():
        answer = client.get(f"/static/{path.name}")
        assert answer.content == path.read_bytes()
        assert answer.headers["cache-control"] == "max-age=60"
        again = client.get(
            f"/static/{path.name}", headers={"If-None-Match": answer.headers["etag"]}
        )
        assert again.status_code == 304
    # The first report took one request.
    assert sum(reactor["served"] for reactor in report(client)["reactors"]) == served + 1


def test_the_preflight_does_not_reach_the_app(client: httpx.Client) -> None:
    asks = {"Origin": "http://shop.example", "Access-Control-Request-Method": "PUT"}
    preflight = client.options("/api/note", headers=asks)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    note = client.put("/api/note", json={"text": "x"}, headers={"Origin": "http://shop.example"})
    assert note.json() == {"text": "x", "preflights": 0}
    assert note.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in client.get("/status").headers


def test_what_one_client_says_all_get(server: Server, client: httpx.Client) -> None:
    url = server.address.replace("http", "ws", 1) + "/live"
    with connect_websocket(url, proxy=None) as one, connect_websocket(url, proxy=None) as other:
        assert json.loads(one.recv(10))["second"] == 0
        other.recv(10)
        other.send("good morning")

        def told() -> bool:
            return bool(json.loads(one.recv(10)).get("said") == "good morning")

        assert eventually(told)


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_a_fault_of_one_app_does_not_reach_the_others(
    server: Server, client: httpx.Client, fault: str
) -> None:
    before = client.get("/api/hello", params={"name": "x"}).json()["pid"]
    url = server.address.replace("http", "ws", 1) + "/live"
    with connect_websocket(url, proxy=None) as live:
        started = json.loads(live.recv(10))
        failed = client.post(f"/api/{fault}")
        assert failed.status_code == 502
        assert client.get("/").status_code == 200
        later = json.loads(live.recv(10))
        assert later["pid"] == started["pid"]
        assert later["second"] > started["second"]
    assert eventually(lambda: client.get("/api/hello?name=x").json()["pid"] != before)


@pytest.mark.needs(*NEEDS)
def test_the_page_shows_all_of_it(server: Server, client: httpx.Client) -> None:
    with Browser() as browser:
        browser.open(server.address)

        def shown(name: str) -> str:
            return str(browser.run(f"return document.getElementById('{name}').textContent"))

        def shows(name: str, *texts: str) -> bool:
            return bool(eventually(lambda: all(text in shown(name) for text in texts)))

        def press(name: str) -> None:
            browser.run(f"document.getElementById('{name}').click()")

        assert shows("api", "Hello, you.", "on uvloop")
        assert shows("live", "Second", "clients: 1")
        assert shows("static", "cache-control: max-age=60", "content-type: text/javascript")
        assert shows("allowed", "saved “from another origin”; preflights that the app has seen: 0")
        assert shows("refused", "the browser keeps the response back")
        assert shows("status", "web reactor", "api reactor", "live reactor")
        press("slow")
        assert shows("slow-result", " s")
        browser.run(
            "const form = document.getElementById('say'); form.text.value = 'hello all'; "
            "form.requestSubmit();"
        )
        assert shows("said", "“hello all”")
        complaints = browser.complaints()
        assert all("CORS policy" in line or "ERR_FAILED" in line for line in complaints), complaints

        before, live = shown("api"), shown("live").partition("process ")[2]
        press("crash")
        assert shows("fault", "The request got 502.")
        assert eventually(lambda: "Hello" in shown("api") and shown("api") != before)
        assert shown("live").partition("process ")[2] == live

        # The status page of the service, which has a table of the apps.
        (admin,) = re.findall(r"admin socket on (http://\S+)", server.log())
        browser.open(f"{admin}/")
        assert eventually(lambda: "Reactors died" in browser.text())
        rows = browser.run(
            "return [...document.querySelectorAll('#apps tbody tr')].map((row) => "
            "[...row.children].map((cell) => cell.textContent))"
        )
        assert [row[0] for row in rows] == ["web", "api", "live"]
        assert [row[-1] for row in rows] == [
            f"examples.demo.{name}" for name in ("web:application", "api:app", "live:app")
        ]
        assert rows[1][5] != "0", "the crash got 502"
