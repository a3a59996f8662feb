"""Maintenance: the app's requests get a text, and all else goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.server import clean_environment, command, upgraded

APP = "tests.integration.apps.asgi:app"


def tell(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words, "--admin", f"unix:{path}"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def admin(tmp_path: Path) -> Path:
    return tmp_path / "admin"


def test_on_and_off(start: Start, admin: Path, gate: Gate, notes: Notes) -> None:
    server = start(APP, f"--admin=unix:{admin}", "--static=/s=docs", "--cors-origin=*")
    with Client(server.address) as waiting, Client(server.address) as client:
        waiting.send(f"GET /wait?gate={gate}&notes={notes} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert notes.first()
        done = tell(admin, "maintenance", "on", "Wir sind um 12 Uhr zurück; 100 % + mehr.")
        assert (done.returncode, done.stdout) == (0, "maintenance is on\n")
        for method, body in ("GET", None), ("POST", b"x" * 100_000), ("HEAD", None):
            with Client(server.address) as each:
                answer = each.request(method, "/hello", [("Origin", "https://b")], body)
                assert answer.status == 503
                assert answer.field("retry-after") == b"60"
                assert answer.field("access-control-allow-origin") == b"*"
                text = "" if method == "HEAD" else "Wir sind um 12 Uhr zurück; 100 % + mehr.\n"
                assert answer.text == text
        client.get("/s/site.css")
        assert client.request("GET", "/hello").status == 503
        status = tell(admin, "status")
        assert status.returncode == 0
        assert "maintenance  on: Wir sind um 12 Uhr" in status.stdout
        assert tell(admin, "reload").returncode == 0
        assert client.request("GET", "/hello").status == 503
        gate.open()
        assert waiting.response().status == 200
        done = tell(admin, "maintenance", "off")
        assert (done.returncode, done.stdout) == (0, "maintenance is off\n")
        assert client.get("/hello").body == b"hello"
        report = json.loads(tell(admin, "status", "--json").stdout)
        assert report["maintenance"] is None


def test_without_routes_and_without_a_text(start: Start, admin: Path) -> None:
    server = start(APP, f"--admin=unix:{admin}")
    with Client(server.address) as client:
        assert client.get("/hello").body == b"hello"
        assert tell(admin, "maintenance", "on").returncode == 0
        answer = client.request("GET", "/hello")
        assert (answer.status, answer.body) == (503, b"Service Unavailable\n")
        with Client(server.address) as other:
            answer = other.request("POST", "/hello", body=b"x" * 100_000)
            assert answer.status == 503
        assert tell(admin, "maintenance", "off").returncode == 0
        assert client.get("/hello").body == b"hello"


def test_an_upgrade_hands_it_over(start: Start, admin: Path) -> None:
    server = start(APP, f"--admin=unix:{admin}")
    assert tell(admin, "maintenance", "on", "soon").returncode == 0
    with upgraded(server), Client(server.address) as client:
        assert client.request("GET", "/hello").body == b"soon\n"
        assert tell(admin, "maintenance", "off").returncode == 0
        assert client.get("/hello").body == b"hello"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["maybe"], "invalid choice"),
        (["off", "api", "text"], "off takes no text"),
        (["on", "a\nb"], "expected one line"),
        (["on", "x" * 501], "expected one line of at most 500"),
    ],
)
def test_wrong_words(admin: Path, words: list[str], complaint: str) -> None:
    done = tell(admin, "maintenance", *words)
    assert done.returncode == 2
    assert complaint in done.stderr
