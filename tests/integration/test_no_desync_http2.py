"""Front end and app never see another request than the client of HTTP/2 sent, also behind proxies.

Each stream tries to bring a second request in: by line ends in names and values, by lengths that
are not true, by chunks within content. What the app testifies must be requests that were sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Config, Start
from tests.integration.frames import Answer, Frames, data, get, post
from tests.integration.proxies import address_of, haproxy, listen, nginx
from tests.integration.server import Server

SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
BODY = SMUGGLED.encode()
CONFIGS = [Config("asgi", "express"), Config("wsgi", "plain")]
Fields = list[tuple[Any, Any]]


def header(name: str, value: str) -> Fields:
    return get("/hello", (name, value))


def without(name: str, fields: Fields) -> Fields:
    return [each for each in fields if each[0] != name]


# The fields of a request, and its content; None: it has none.
ATTACKS: dict[str, tuple[Fields, bytes | None]] = {
    "line ends in a value": (header("x-a", f"b\r\n\r\n{SMUGGLED}"), None),
    "a line feed in a value": (header("x-a", f"b\n\n{SMUGGLED}"), None),
    "line ends in a name": (header(f"x-a: b\r\n\r\n{SMUGGLED}", "c"), None),
    "a colon in a name": (header("transfer-encoding: chunked\r\nx-a", "b"), None),
    "upper case in a name": (header("Transfer-Encoding", "chunked"), None),
    "line ends in the path": (get(f"/hello HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"), None),
    "a space in the path": (get("/smuggled HTTP/1.1\r\nx-rest: /hello"), None),
    "an absolute path": (get("http://evil/smuggled"), None),
    "line ends in the method": (get(method="GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET"), None),
    "a space in the method": (get(method="GET /smuggled"), None),
    "line ends in the authority": (
        [*without(":authority", get()), (":authority", f"a\r\n\r\n{SMUGGLED}")],
        None,
    ),
    "another host": ([*get(), ("host", "evil")], None),
    "two hosts": ([*get(), ("host", "a.example"), ("host", "evil")], None),
    "no length, with content": (post("/read"), BODY),
    "length 0, with content": (post("/read", ("content-length", "0")), BODY),
    "a length that is too small": (post("/read", ("content-length", "3")), BODY),
    "a length that is too large": (post("/read", ("content-length", "300")), BODY),
    "two lengths": (post("/read", ("content-length", "0"), ("content-length", "38")), BODY),
    "a list of lengths": (post("/read", ("content-length", "0, 38")), BODY),
    "a signed length": (post("/read", ("content-length", "+38")), BODY),
    "chunked": (post("/read", ("transfer-encoding", "chunked")), b"0\r\n\r\n" + BODY),
    "chunks as content": (post("/read"), b"0\r\n\r\n" + BODY),
    "chunked by another name": (
        post("/read", ("transfer_encoding", "chunked")),
        b"0\r\n\r\n" + BODY,
    ),
    "te": (post("/read", ("te", "chunked")), b"0\r\n\r\n" + BODY),
    "connection": (post("/read", ("connection", "content-length")), BODY),
    "content of a GET": (get("/read"), BODY),
    "content of a GET with length 0": (get("/read", ("content-length", "0")), BODY),
    "upgrade": (header("upgrade", "websocket"), None),
    "h2c": ([*get(), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], None),
    "connect": ([(":method", "CONNECT"), (":authority", "a.example:80")], BODY),
    "connect to another protocol": (
        [(":method", "CONNECT"), (":protocol", "smuggled"), *get()[1:]],
        BODY,
    ),
    "expect": (post("/read", ("expect", "100-continue")), BODY),
}


def straight(start: Start, stack: ExitStack, folder: Path, config: Config) -> tuple[Server, str]:
    server = start(f"tests.integration.apps.witness:{config.interface}", *config.options)
    return server, server.address


def behind_haproxy(protocol: str) -> Callable[..., tuple[Server, str]]:
    def run(start: Start, stack: ExitStack, folder: Path, config: Config) -> tuple[Server, str]:
        server, backend = straight(start, stack, folder, config)
        front = listen("tcp4", folder)
        sections = f"""
frontend in
  mode http
  bind fd@{front.fileno()} proto h2
  default_backend app
backend app
  mode http
  http-reuse always
  server one {backend.removeprefix("http://")} {protocol}
"""
        address = address_of(front)
        stack.enter_context(haproxy(folder, sections, [front]))
        return server, address

    return run


def behind_nginx(
    start: Start, stack: ExitStack, folder: Path, config: Config
) -> tuple[Server, str]:
    server, backend = straight(start, stack, folder, config)
    front = listen("tcp4", folder)
    host, port = front.getsockname()
    blocks = f"""
http {{
  access_log off;
  upstream app {{ server {backend.removeprefix("http://")}; keepalive 4; }}
  server {{
    listen {host}:{port} http2;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off;
    }}
  }}
}}
"""
    address = address_of(front)
    stack.enter_context(nginx(folder, blocks, [front]))
    return server, address


HAPROXY, NGINX = pytest.mark.needs("haproxy"), pytest.mark.needs("nginx")
PLACES = [
    pytest.param(straight, id="straight"),
    pytest.param(behind_haproxy(""), id="haproxy-h1", marks=HAPROXY),
    pytest.param(behind_haproxy("proto h2"), id="haproxy-h2", marks=HAPROXY),
    pytest.param(behind_nginx, id="nginx", marks=NGINX),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def ask_again(client: Frames, stream: int) -> Answer | None:
    """Return the answer to another request after `stream` is over; None: the connection is."""
    try:
        client.answer(stream)
        return client.request(get("/last"))
    except (AssertionError, ConnectionError):
        if not client.at_end:
            client.wait_for_end()
        return None


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_no_stream_brings_a_second_request(
    start: Start, stack: ExitStack, tmp_path: Path, place: Any, config: Config
) -> None:
    server, address = place(start, stack, tmp_path, config)
    allowed = {
        (method, target) for method in ("GET", "POST") for target in ("/hello", "/read", "/last")
    }
    size = len(BODY)
    contents = {hashlib.sha256(body).hexdigest() for body in (b"", BODY, b"0\r\n\r\n" + BODY)}
    for name, (fields, content) in ATTACKS.items():
        with Frames(address, timeout=15) as client:
            stream = client.begin(fields, content is None)
            if content is not None:
                client.send(data(stream, content, True))
            last = ask_again(client, stream)
            # A second request would be answered in the place of this one.
            witness = None if last is None else last.field(b"x-witness")
            assert witness is None or json.loads(witness)["target"] == "/last", name
    with httpx.Client(trust_env=False) as direct:
        told = direct.get(f"{server.address}/testimony").json()
    assert told
    for sight in told:
        assert (sight["method"], sight["target"]) in allowed, sight
        assert not sight["whole"] or sight["sha256"] in contents, sight
        assert sight["size"] <= size + 5, sight
    assert "Traceback" not in server.log()
