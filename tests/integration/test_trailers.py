"""Trailer fields of ASGI apps, on each way to the client."""

from __future__ import annotations

import h11
import pytest

from tests.integration.apps.direct import content
from tests.integration.client import Client, request
from tests.integration.conftest import Start
from tests.integration.server import Server

WAYS = {
    "direct": ["--answers", "direct", "--runtime", "trio"],
    "relay": ["--answers", "relay", "--runtime", "uvloop"],
    "plain": ["--lanes", "plain", "--runtime", "asyncio"],
}
TE = [("TE", "gzip;q=0.5, Trailers")]
TRAILERS = [(b"x-one", b"1"), (b"x-two", b"2")]


@pytest.fixture(params=WAYS)
def server(request: pytest.FixtureRequest, shared: Start) -> Server:
    return shared("tests.integration.apps.direct:asgi", *WAYS[request.param])


def read(client: Client, target: str, fields: list[tuple[str, str]]) -> tuple[bytes, list[object]]:
    """Ask for an answer, and return its body and its trailer fields."""
    client.send(request("GET", target, fields))
    answer = client.begin()
    assert answer.status == 200
    assert answer.field("trailer") == b"x-one, x-two"
    body = b""
    while isinstance(event := client._event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    client._unread = client._parser.trailing_data[0]  # type: ignore[union-attr]
    client._parser = None
    return body, list(event.headers)


@pytest.mark.parametrize("pieces", ["", "&pieces=1"])
@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_trailers_follow_the_body(server: Server, size: int, pieces: str) -> None:
    target = f"/trailers?size={size}{pieces}"
    with Client(server.address) as client:
        for _ in range(2):
            assert read(client, target, TE) == (content(1, size), TRAILERS)
        # RFC 9110 §6.5.1: a client must ask for them.
        assert read(client, target, []) == (content(1, size), [])
        assert client.get("/hello").text == "hello"


def test_without_chunks_there_are_no_trailers(server: Server) -> None:
    with Client(server.address) as client:
        assert read(client, "/trailers?size=100&length=1", TE) == (content(1, 100), [])
        assert client.request("HEAD", "/trailers?size=100").body == b""
        assert client.get("/hello").text == "hello"
    with Client(server.address) as client:
        client.send(b"GET /trailers?size=100 HTTP/1.0\r\nTE: trailers\r\n\r\n")
        assert client.rest().partition(b"\r\n\r\n")[2] == content(1, 100)
