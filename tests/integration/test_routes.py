"""Routes of a real service: redirects, fixed answers, what has no route, and CORS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client, Response, request
from tests.integration.conftest import LANES, Start
from tests.integration.server import Server

APP = "tests.integration.apps.asgi:app"
SHOP = "https://shop.example"


def route(**table: Any) -> str:
    return "--route=" + json.dumps({key.replace("_", "-"): value for key, value in table.items()})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(
        APP,
        "--answers=direct",
        "--path-policy=pass",
        route(prefix="/old", redirect="/hello"),
        route(prefix="/moved", redirect="https://shop.example", status=302, append=False),
        route(host="plain.example", prefix="/", redirect="https://shop.example"),
        route(
            prefix="/robots.txt",
            answer="no robots\n",
            content_type="text/x-robots",
            fields={"Cache-Control": "max-age=60"},
            cors={"origins": ["*"]},
        ),
        route(prefix="/gone", answer="gone\n", status=410),
        f"--cors-origin={SHOP}",
        "--cors-method=PUT",
        "--cors-field=X-Token",
        "--cors-expose=X-Total",
        "--cors-credentials",
    ) as found:
        yield found


def ask(
    server: Server, method: str, target: str, *fields: tuple[str, str], body: bytes | None = None
) -> Response:
    with Client(server.address) as client:
        return client.request(method, target, fields, body)


def test_redirects(server: Server) -> None:
    for method in "GET", "POST":
        answer = ask(server, method, "/old/x?y", body=b"z" if method == "POST" else None)
        assert (answer.status, answer.field("location")) == (308, b"/hello/x?y")
    answer = ask(server, "GET", "/moved/x?y")
    assert (answer.status, answer.field("location")) == (302, b"https://shop.example")
    with Client(server.address) as client:
        client.send(b"GET /a//b?c HTTP/1.1\r\nHost: Plain.Example:80\r\n\r\n" * 3)
        for _ in range(3):
            answer = client.response()
            assert (answer.status, answer.field("location")) == (
                308,
                b"https://shop.example/a//b?c",
            )


def test_fixed_answers(server: Server) -> None:
    answer = ask(server, "GET", "/robots.txt")
    assert (answer.status, answer.body) == (200, b"no robots\n")
    assert answer.field("content-type") == b"text/x-robots"
    assert answer.field("cache-control") == b"max-age=60"
    assert answer.field("access-control-allow-origin") is None
    assert (
        ask(server, "GET", "/robots.txt", ("Origin", "x")).field("access-control-allow-origin")
        == b"*"
    )
    head = ask(server, "HEAD", "/robots.txt")
    assert (head.body, head.field("content-length")) == (b"", b"10")
    assert ask(server, "GET", "/gone").status == 410


def test_an_ambiguous_path_reaches_neither_route(server: Server) -> None:
    for target in "//gone", "/x/../gone", "/gone%2fx/..", "/%2e/gone":
        answer = ask(server, "GET", target)
        assert answer.status == 400
        assert b"ambiguous" in answer.body


def test_without_a_route_for_the_app(start: Start) -> None:
    server = start(APP, route(prefix="/app", app="default"), "--access-log=-")
    assert ask(server, "GET", "/app/hello").status == 200
    answer = ask(server, "POST", "/other", body=b"x" * 100_000)
    assert (answer.status, answer.body) == (404, b"Not Found\n")
    assert ask(server, "GET", "/").status == 404


# CORS ---------------------------------------------------------------------------------------------


def cors(answer: Response) -> dict[str, bytes]:
    return {
        name.decode().removeprefix("access-control-"): value
        for name, value in answer.fields
        if name.startswith(b"access-control-") or (name == b"vary" and b"Origin" in value)
    }


ALLOWED = {
    "allow-origin": SHOP.encode(),
    "allow-credentials": b"true",
    "expose-headers": b"X-Total",
    "vary": b"Origin",
}


def test_preflights_do_not_reach_the_app(server: Server) -> None:
    for target in "/hello", "/nowhere", "/old":
        answer = ask(
            server,
            "OPTIONS",
            target,
            ("Origin", SHOP),
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "x-token"),
        )
        if target == "/old":
            # The redirect has no rule of its own.
            assert (answer.status, cors(answer)) == (308, {})
            continue
        assert (answer.status, answer.body) == (204, b"")
        assert cors(answer) == {
            "allow-origin": SHOP.encode(),
            "allow-credentials": b"true",
            "allow-methods": b"GET, HEAD, POST, PUT",
            "allow-headers": b"X-Token",
            "max-age": b"600",
            "vary": b"Origin",
        }
    answer = ask(
        server,
        "OPTIONS",
        "/hello",
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "PUT"),
    )
    assert (answer.status, cors(answer)) == (204, {"vary": b"Origin"})


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("answers", ["direct", "relay"])
def test_each_answer_of_an_app_gets_the_fields(start: Start, lanes: str, answers: str) -> None:
    server = start(
        APP,
        f"--lanes={lanes}",
        f"--answers={answers}",
        f"--cors-origin={SHOP}",
        "--cors-expose=X-Total",
        "--cors-credentials",
    )
    with Client(server.address) as client:
        for target in (
            "/hello",
            "/download?size=500000",
            "/download?size=500000&length=0",
            "/raise_before",
        ):
            answer = client.request("GET", target, [("Origin", SHOP)])
            assert cors(answer) == ALLOWED, (target, answer)
            assert cors(client.request("GET", target)) == {"vary": b"Origin"}
    with Client(server.address) as client:
        client.send(b"GET /hello HTTP/1.0\r\nOrigin: https://shop.example\r\n\r\n")
        assert cors(client.response()) == ALLOWED


def test_answers_of_the_front_end_get_the_fields(start: Start) -> None:
    server = start(APP, f"--cors-origin={SHOP}", "--cors-credentials", "--cors-expose=X-Total")
    with Client(server.address) as client:
        answer = client.request("POST", "/leave", [("Origin", SHOP)], b"")
        assert (answer.status, cors(answer)) == (502, ALLOWED)


def test_a_page_can_read_that_its_body_is_too_large(start: Start) -> None:
    server = start(
        APP,
        f"--cors-origin={SHOP}",
        "--cors-credentials",
        "--cors-expose=X-Total",
        "--max-body-size=100",
        "--request-id",
    )
    large = b"x" * 101
    for field, body in (
        (("Content-Length", "101"), b""),
        (("Content-Length", "101"), large),
        (("Transfer-Encoding", "chunked"), b"65\r\n" + large + b"\r\n0\r\n\r\n"),
    ):
        for target in "/hello", "http://other.example/hello":
            with Client(server.address) as client:
                client.send(request("POST", target, [("Origin", SHOP), field]) + body)
                answer = client.response()
                assert (answer.status, cors(answer)) == (413, ALLOWED)
                assert answer.field("connection") == b"close"
                assert answer.field("x-request-id")
                assert client.at_end()


def test_tables_of_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("file")
    config = tmp_path / "shop.toml"
    config.write_text(
        f'[[route]]\nprefix = "/files"\nstatic = "{tmp_path}"\ncache = {{ "*" = "no-cache" }}\n'
        '[[route]]\nprefix = "/old"\nredirect = "/files"\n'
    )
    server = start(APP, "--config", str(config))
    with Client(server.address) as client:
        client.send(request("GET", "/old/x.txt") + request("GET", "/files/x.txt"))
        assert client.response().field("location") == b"/files/x.txt"
        answer = client.response()
        assert (answer.body, answer.field("cache-control")) == (b"file", b"no-cache")


MOUNTED = """
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError
    seen = [scope["root_path"], scope["path"], scope["raw_path"].decode()]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": "|".join(seen).encode()})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return ["|".join([environ["SCRIPT_NAME"], environ["PATH_INFO"]]).encode()]
"""


@pytest.mark.parametrize(
    ("interface", "seen"), [("asgi", b"/api|/api/x|/api/x"), ("wsgi", b"/api|/x")]
)
def test_an_app_is_mounted_at_the_prefix_of_its_routes(
    start: Start, tmp_path: Path, interface: str, seen: bytes
) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    routes = [route(prefix="/api", app="default"), route(prefix="/", answer="not the app\n")]
    server = start(f"mounted:{interface}", *routes, app_dir=tmp_path)
    with Client(server.address) as client:
        assert client.get("/api/x").body == seen
        assert client.get("/apix").body == b"not the app\n"
        assert client.get("/x").body == b"not the app\n"
