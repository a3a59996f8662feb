"""The frameworks' own examples, unmodified, on every runtime they are meant for.

Driven by httpx, and by curl for what a second client sees differently.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.apps.shared import pattern
from tests.integration.conftest import LANES, RUNTIMES, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import need_module, path_of

FILE = b"".join(pattern(300_000))
HASH = hashlib.sha256(FILE).hexdigest()
PARAMETERS = {"q": "straße & co", "tag": ["a", "b"]}


def client_of(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=10, trust_env=False) as client:
        yield client


# What a framework does depends little on the lanes. So few pairs are in `make test`.
QUICK = {"trio express", "asyncio plain", "uvloop express", "1 express", "4 plain"}


def on_lanes(*kinds: str) -> list[Any]:
    """Return (kind, lanes) for each kind of reactor on each kind of lane."""
    return [
        pytest.param(
            (kind, lanes),
            id=f"{kind} {lanes}",
            marks=() if f"{kind} {lanes}" in QUICK else pytest.mark.slow,
        )
        for kind in kinds
        for lanes in LANES
    ]


@pytest.fixture(params=on_lanes(*RUNTIMES))
def asgi(request: pytest.FixtureRequest) -> list[str]:
    """The flags of a reactor for ASGI."""
    runtime, lanes = request.param
    return ["--lanes", lanes, "--runtime", runtime]


@pytest.fixture
def fastapi(shared: Start, asgi: list[str]) -> Iterator[httpx.Client]:
    need_module("fastapi")
    yield from client_of(shared("examples.fastapi_app:app", *asgi))


@pytest.fixture
def starlette(shared: Start, asgi: list[str]) -> Iterator[httpx.Client]:
    need_module("starlette")
    yield from client_of(shared("examples.starlette_app:app", *asgi))


@pytest.fixture(params=on_lanes("1", "4"))
def flask(request: pytest.FixtureRequest, shared: Start) -> Iterator[httpx.Client]:
    need_module("flask")
    threads, lanes = request.param
    app = "examples.flask_app:app"
    yield from client_of(shared(app, "--lanes", lanes, "--threads", threads))


DJANGO = {
    "wsgi": ["examples.django_app:application"],
    "wsgi threads": ["examples.django_app:application", "--threads", "4"],
    "asgi": ["examples.django_app:asgi_application", "--runtime", "asyncio"],
}


QUICK |= {"wsgi express", "wsgi threads plain", "asgi express"}


@pytest.fixture(params=on_lanes(*DJANGO))
def django(request: pytest.FixtureRequest, shared: Start) -> Iterator[httpx.Client]:
    need_module("django")
    kind, lanes = request.param
    yield from client_of(shared(*DJANGO[kind], "--lanes", lanes))


def lines(count: int, of: str = "") -> str:
    return "".join(f"line {number}{of}\n" for number in range(count))


def upload(client: httpx.Client, **data: str) -> dict[str, Any]:
    answer = client.post("/upload", files={"file": ("a.bin", FILE)}, data=data)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


# FastAPI


def test_fastapi_parameters_and_json(fastapi: httpx.Client) -> None:
    answer = fastapi.get("/items/7", params=PARAMETERS)
    assert answer.json() == {"item_id": 7, "q": "straße & co", "tags": ["a", "b"]}
    created = fastapi.post("/items", json={"name": "köfte", "price": 4.5})
    assert (created.status_code, created.json()) == (201, {"name": "köfte", "price": 4.5})
    assert fastapi.get("/items/seven").status_code == 422
    assert fastapi.get("/docs").status_code == 200


def test_fastapi_upload(fastapi: httpx.Client) -> None:
    expected = {"filename": "a.bin", "size": len(FILE), "sha256": HASH, "note": "my file"}
    assert upload(fastapi, note="my file") == expected


def test_fastapi_stream(fastapi: httpx.Client) -> None:
    assert fastapi.get("/stream?lines=10000").text == lines(10000)


def test_fastapi_lifespan_state_thread_and_errors(fastapi: httpx.Client) -> None:
    assert fastapi.get("/state").json() == {"greeting": "hello from the lifespan"}
    assert fastapi.get("/thread").json()["pid"] > 0
    assert fastapi.get("/missing").status_code == 404
    assert fastapi.get("/broken").status_code == 500
    assert fastapi.get("/").status_code == 200


def test_fastapi_background_task_ends_a_long_poll(fastapi: httpx.Client) -> None:
    seen = fastapi.post("/inbox", json={"text": "first"}).json()["count"]
    assert fastapi.post("/later", json={"text": "later"}).status_code == 202
    assert fastapi.get(f"/inbox?seen={seen}").text == "later"


def test_fastapi_long_poll_left_by_its_client(fastapi: httpx.Client) -> None:
    seen = fastapi.post("/inbox", json={"text": "x"}).json()["count"]
    with pytest.raises(httpx.ReadTimeout):
        fastapi.get(f"/inbox?seen={seen}", timeout=0.1)
    fastapi.post("/inbox", json={"text": "y"})
    assert fastapi.get(f"/inbox?seen={seen}").text == "y"


# Starlette


def test_starlette_parameters_and_json(starlette: httpx.Client) -> None:
    answer = starlette.get("/users/jo%C3%ABl", params=PARAMETERS)
    query = [["q", "straße & co"], ["tag", "a"], ["tag", "b"]]
    assert answer.json() == {"user": "joël", "query": query}
    assert starlette.get("/").json()["client"][0] == "127.0.0.1"


def test_starlette_upload_and_echo(starlette: httpx.Client) -> None:
    assert upload(starlette) == {"filename": "a.bin", "size": len(FILE), "sha256": HASH}
    assert starlette.post("/echo", content=FILE).content == FILE
    assert starlette.post("/echo", content=iter([FILE, FILE])).content == FILE * 2


def test_starlette_stream_and_state(starlette: httpx.Client) -> None:
    assert starlette.get("/stream?lines=10000").text == lines(10000)
    assert starlette.get("/state").json() == {"greeting": "hello from the lifespan"}


def test_starlette_background_task_ends_a_long_poll(starlette: httpx.Client) -> None:
    def count() -> int:
        answer = starlette.get("/count?seen=-1")
        return int(answer.json()["count"])

    before = count()
    assert starlette.post("/later").status_code == 202
    assert starlette.get(f"/count?seen={before}").json() == {"count": before + 1}
    assert starlette.get(f"/count?seen={before + 1}&wait=0.05").status_code == 204


# Flask and Django


def test_flask(flask: httpx.Client) -> None:
    assert "Hello, &lt;you&gt;" in flask.get("/", params={"name": "<you>"}).text
    answer = flask.get("/items/7", params=PARAMETERS)
    assert answer.json() == {"item_id": 7, "q": "straße & co", "tags": ["a", "b"]}
    assert flask.post("/items", json={"name": "köfte"}).json() == {"name": "köfte"}
    assert upload(flask) == {"filename": "a.bin", "size": len(FILE), "sha256": HASH}
    assert flask.get("/stream?lines=2000").text == lines(2000, " of /stream")
    assert flask.get("/broken").status_code == 500
    assert flask.get("/nowhere").status_code == 404


def test_django(django: httpx.Client) -> None:
    page = django.get("/", params={"name": "<you>"}).text
    assert "Hello, &lt;you&gt;. You came by http from 127.0.0.1." in page
    answer = django.get("/items/7", params=PARAMETERS)
    assert answer.json() == {"item_id": 7, "q": "straße & co", "tags": ["a", "b"]}
    assert upload(django) == {"filename": "a.bin", "size": len(FILE), "sha256": HASH}
    assert django.get("/stream?lines=2000").text == lines(2000)
    assert django.get("/broken").status_code == 500
    assert django.get("/nowhere").status_code == 404


def test_an_asyncio_only_app_on_trio_is_told_which_runtime_to_use(start: Start) -> None:
    need_module("django")
    server = start("examples.django_app:asgi_application", "--runtime", "trio")
    assert httpx.get(server.address, trust_env=False).status_code == 500
    assert eventually(lambda: "--runtime asyncio" in server.log())


# curl


def curl(*words: str) -> str:
    command = [path_of("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
    return subprocess.run([*command, *words], capture_output=True, check=True).stdout.decode()


@pytest.fixture(params=["starlette", "fastapi", "flask", "django"])
def url(request: pytest.FixtureRequest, shared: Start) -> str:
    need_module(request.param)
    if request.param == "django":
        return shared(*DJANGO["wsgi"], "--lanes", "express").address
    own = ("--threads", "1") if request.param == "flask" else ("--runtime", "trio")
    return shared(f"examples.{request.param}_app:app", "--lanes", "express", *own).address


@pytest.mark.needs("curl")
def test_curl_uploads_with_expect_and_without(url: str, tmp_path: Any) -> None:
    """Above 1 MB curl asks for 100 Continue by itself and waits a second for it."""
    for size in (0, 1000, 3_000_000):
        file = tmp_path / str(size)
        file.write_bytes(b"".join(pattern(size)))
        answer = json.loads(curl("--form", f"file=@{file}", f"{url}/upload"))
        assert (answer["filename"], answer["size"]) == (str(size), size)
        assert answer["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.needs("curl")
def test_curl_streams_on_one_connection_and_by_http_1_0(url: str) -> None:
    target = f"{url}/stream?lines=3000"
    twice = curl("--write-out", "%{num_connects}\n", target, target)
    assert twice.endswith("\n0\n")
    assert twice.count("line 2999") == 2
    assert curl("--http1.0", target).count("line 2999") == 1
    assert curl("--head", url).startswith("HTTP/1.1 ")
