"""WebSockets on streams of HTTP/2 (RFC 8441), frame by frame."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.integration.conftest import LANES, Start
from tests.integration.frames import (
    CANCEL,
    NO_ERROR,
    PROTOCOL_ERROR,
    Fields,
    Frames,
    data,
    get,
    reset,
)
from tests.integration.leaks import figures, settled
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.protocol.websocket.frames import frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
NORMAL = b"\x03\xe8"
"""The code of an orderly close."""
ENABLE_CONNECT_PROTOCOL = 8


@pytest.fixture(params=LANES)
def server(request: pytest.FixtureRequest, shared: Start) -> Server:
    return shared("tests.integration.apps.websockets:app", "--lanes", request.param)


def handshake(path: str = "/echo", *more: tuple[Any, Any], protocol: str = "websocket") -> Fields:
    return [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.example"),
        ("sec-websocket-version", "13"),
        *more,
    ]


def open_websocket(client: Frames, path: str = "/echo", *more: tuple[Any, Any]) -> int:
    client.wait(lambda: client.settings.get(ENABLE_CONNECT_PROTOCOL) == 1)
    stream = client.begin(handshake(path, *more), False)
    client.wait(lambda: client.answers[stream].status)
    assert client.answers[stream].status == 200
    assert not client.answers[stream].ended
    return stream


def test_an_echo_and_an_orderly_end(server: Server) -> None:
    with Frames(server, grants=True) as client:
        stream = open_websocket(client)
        answer = client.answers[stream]
        names = {name for name, _ in answer.fields}
        assert not names & {b"sec-websocket-accept", b"upgrade", b"connection"}
        expected = b""
        for text in "hello", "x" * 100_000, "bye":
            client.send(*pieces(stream, frame(TEXT, text)))
            expected += frame(TEXT, text, mask=None)
            client.wait(lambda: len(answer.body) >= len(expected))  # noqa: B023
            assert answer.body == expected
        client.get("/")
        client.send(data(stream, frame(CLOSE, NORMAL)))
        client.wait(lambda: answer.ended)
        assert answer.body == expected + frame(CLOSE, NORMAL, mask=None)
        client.send(data(stream, b"", True))
        client.get("/")
        assert answer.reset in (None, NO_ERROR)


def pieces(stream: int, content: bytes) -> list[bytes]:
    return [data(stream, content[i : i + 16384]) for i in range(0, len(content), 16384)]


def test_many_small_messages(server: Server) -> None:
    """They are no flood."""
    with Frames(server, grants=True) as client:
        stream = open_websocket(client)
        answer = client.answers[stream]
        size = len(frame(TEXT, "ping", mask=None))
        for count in range(1, 3001):
            client.send(data(stream, frame(TEXT, "ping")))
            if count % 10 == 0:
                client.wait(lambda: len(answer.body) == count * size)  # noqa: B023
        assert answer.body == frame(TEXT, "ping", mask=None) * 3000


def test_a_key_that_a_proxy_has_left(server: Server) -> None:
    with Frames(server, grants=True) as client:
        open_websocket(client, "/echo", ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))


@pytest.mark.parametrize(
    "fields",
    [
        handshake("/echo", ("content-length", "5")),
        [("x", "y"), *handshake()],
        get("/echo", (":protocol", "websocket")),
        [each for each in handshake() if each[0] != ":scheme"],
        [each for each in handshake() if each[0] != ":path"],
        handshake("/echo", ("upgrade", "websocket")),
    ],
)
def test_malformed_handshakes(server: Server, fields: Fields) -> None:
    with Frames(server) as client:
        client.ping()
        stream = client.begin(fields, False)
        assert client.answer(stream).reset == PROTOCOL_ERROR
        client.get("/")


def test_another_protocol(server: Server) -> None:
    with Frames(server) as client:
        client.ping()
        stream = client.begin(handshake(protocol="connect-udp"), False)
        answer = client.answers[stream]
        client.wait(lambda: answer.over)
        assert answer.status == 501 or answer.reset == PROTOCOL_ERROR
        client.get("/")


def test_an_app_that_refuses(server: Server) -> None:
    with Frames(server) as client:
        client.ping()
        stream = client.begin(handshake("/refuse"), False)
        client.wait(lambda: client.answers[stream].ended)
        assert client.answers[stream].status == 403
        client.get("/")


def test_an_end_without_a_close_frame(server: Server) -> None:
    """The stream ends on both sides; the app learns that the connection was lost."""
    with Frames(server, grants=True) as client:
        client.get("/")
        before = figures(server)
        stream = open_websocket(client)
        client.send(data(stream, b"", True))
        client.answer(stream)
        client.get("/")
        settled(server, before)


@pytest.mark.parametrize(
    "content", [None, b"", frame(TEXT, "hello")], ids=["none", "empty", "text"]
)
def test_an_end_before_the_answer(server: Server, content: bytes | None) -> None:
    """It is not forgotten: the app learns of it when it has accepted."""
    # Less than the time after which a ping would find out.
    with Frames(server, grants=True, timeout=10) as client:
        client.get("/")
        before = figures(server)
        end = [] if content is None else [data(3, content, True)]
        client.send(client.headers(3, handshake(), content is None), *end)
        answer = client.answer(3)
        assert (answer.status, answer.ended) == (200, True)
        client.send(client.headers(5, get("/")))
        assert client.answer(5).status == 200
        settled(server, before)


def test_a_reset(server: Server) -> None:
    with Frames(server, grants=True) as client:
        client.get("/")
        before = figures(server)
        for _ in range(20):
            stream = open_websocket(client)
            client.send(data(stream, frame(TEXT, "hello")), reset(stream, CANCEL))
        client.get("/")
        settled(server, before)


def test_a_masked_frame_is_wanted(server: Server) -> None:
    with Frames(server, grants=True) as client:
        stream = open_websocket(client)
        client.send(data(stream, frame(TEXT, "hello", mask=None)))
        assert client.answer(stream).body.startswith(b"\x88")
        client.get("/")


def test_a_reactor_that_dies(start: Start) -> None:
    server = start("tests.integration.apps.websockets:app")
    with Frames(server, grants=True) as client:
        stream = open_websocket(client)
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        # 1012: the service restarts.
        assert client.answer(stream).body[2:4] == b"\x03\xf4"
        assert eventually(server.reactor_pids)
        client.get("/")
