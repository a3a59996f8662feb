"""103 Early Hints (RFC 8297) of apps, on each way to the client."""

from __future__ import annotations

import os
import signal

import h11
import pytest

from tests.integration.apps.direct import content
from tests.integration.client import Client, request
from tests.integration.conftest import Gate, Start
from tests.integration.server import Server

KINDS = {
    "trio": ["direct:asgi", "--runtime", "trio"],
    "asyncio": ["direct:asgi", "--runtime", "asyncio"],
    "uvloop": ["direct:asgi", "--runtime", "uvloop"],
    "inline": ["direct:wsgi_app"],
    "threads": ["direct:wsgi_app", "--threads", "4"],
}
LANES = ["express", "plain"]
SLOW = {("asyncio", "express"), ("uvloop", "plain"), ("asyncio", "plain")}


@pytest.fixture(
    params=[
        pytest.param(
            (kind, lanes),
            id=f"{kind} {lanes}",
            marks=pytest.mark.slow if (kind, lanes) in SLOW else (),
        )
        for kind in KINDS
        for lanes in LANES
    ]
)
def server(request: pytest.FixtureRequest, shared: Start) -> Server:
    return shared(*arguments(*request.param))


def arguments(kind: str, lanes: str) -> list[str]:
    app, *options = KINDS[kind]
    return [f"tests.integration.apps.{app}", *options, "--lanes", lanes]


def hint(client: Client, method: str = "GET") -> list[bytes]:
    """Read one hint, and return its links."""
    event = client._event(method)
    assert isinstance(event, h11.InformationalResponse), event
    assert event.status_code == 103
    assert {name for name, _ in event.headers} == {b"link"}
    return [value for _, value in event.headers]


@pytest.mark.parametrize("size", [100, 300_000])
def test_hints_come_before_the_answer(server: Server, gate: Gate, size: int) -> None:
    with Client(server.address) as client:
        # The second request shows that the connection goes on.
        for _ in range(2):
            client.send(request("GET", f"/hints?gate={gate}&size={size}"))
            assert hint(client) == [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
            assert hint(client) == [b"</c.js>; rel=preload"]
            gate.open()
            answer = client.response()
            assert answer.status == 200
            assert answer.body == content(1, size)
        assert client.get("/hello").text == "hello"


def test_hints_that_come_too_late_have_no_effect(server: Server, gate: Gate) -> None:
    gate.open()
    with Client(server.address) as client:
        client.send(request("GET", f"/hints?gate={gate}&size=100000&late=1"))
        hint(client)
        hint(client)
        assert client.response().body == content(1, 100_000)
        assert client.get("/hello").text == "hello"


def test_a_client_of_http_1_0_gets_no_hints(server: Server, gate: Gate) -> None:
    gate.open()
    with Client(server.address) as client:
        client.send(f"GET /hints?gate={gate}&size=9 HTTP/1.0\r\n\r\n".encode())
        data = client.rest()
        assert data.startswith(b"HTTP/1.1 200 ")
        assert data.endswith(b"\r\n\r\n" + content(1, 9))


def test_the_hints_of_pipelined_requests_stay_in_order(server: Server, gate: Gate) -> None:
    gate.open()
    with Client(server.address) as client:
        client.send(request("GET", f"/hints?gate={gate}&size=10") * 3)
        for _ in range(3):
            hint(client)
            hint(client)
            assert client.response().body == content(1, 10)


@pytest.mark.parametrize("lanes", LANES)
def test_a_request_with_hints_is_not_retried(start: Start, gate: Gate, lanes: str) -> None:
    """The client would get the hints twice. It gets an answer, because none has begun."""
    server = start(*arguments("trio", lanes))
    with Client(server.address) as client:
        client.send(request("GET", f"/hints?gate={gate}"))
        hint(client)
        hint(client)
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        assert client.response().status == 502
