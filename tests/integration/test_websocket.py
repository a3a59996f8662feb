"""WebSockets over the real server, on each runtime and each kind of lane."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client
from tests.integration.conftest import LANES, RUNTIMES, Gate, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.integration.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    WebSocketClient,
    handshake,
)
from tests.protocol.websocket.frames import frame

APP = "tests.integration.apps.websockets:app"
SLOW = {("asyncio", "express"), ("uvloop", "plain"), ("asyncio", "plain")}
MORE = 0x7F
"""Clears FIN in the first byte of a frame."""


@pytest.fixture(
    params=[
        pytest.param(
            (runtime, lanes),
            marks=pytest.mark.slow if (runtime, lanes) in SLOW else (),
            id=f"{runtime} {lanes}",
        )
        for runtime in RUNTIMES
        for lanes in LANES
    ]
)
def server(request: pytest.FixtureRequest, shared: Start) -> Server:
    runtime, lanes = request.param
    return shared(APP, "--runtime", runtime, "--lanes", lanes)


@pytest.fixture(
    params=[
        ("trio", "express"),
        pytest.param(("trio", "plain"), marks=pytest.mark.slow),
        pytest.param(("asyncio", "plain"), marks=pytest.mark.slow),
        pytest.param(("uvloop", "express"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def start_on(request: pytest.FixtureRequest, start: Start) -> Start:
    """`start` for each runtime and each kind of lane."""
    runtime, lanes = request.param
    return lambda *options, **more: start(
        APP, "--runtime", runtime, "--lanes", lanes, *options, **more
    )


def seen(server: Server) -> list[list[Any]]:
    with Client(server.address) as client:
        found: list[list[Any]] = json.loads(client.get("/seen").body)
        return found


def expect(server: Server, *entry: object) -> None:
    """Wait until the app has noted this."""
    assert eventually(lambda: [*entry] in seen(server))


# Messages


def test_messages_go_both_ways(server: Server) -> None:
    with WebSocketClient(server, "/echo") as ws:
        for message in "", "a", "é" * 200, "x" * 70_000:
            ws.text(message)
            assert ws.message() == message
        for data in b"", b"\xff" * 125, b"x" * 126, b"y" * 65_535, b"z" * 1_000_000:
            ws.send(BINARY, data)
            assert ws.message() == data
        ws.finish()


def test_many_messages_in_one_segment_keep_their_order(server: Server) -> None:
    with WebSocketClient(server, "/echo") as ws:
        texts = [str(number) for number in range(1000)]
        with ws.client.sending([b"".join(frame(TEXT, text) for text in texts)]):
            assert [ws.message() for _ in texts] == texts
        ws.finish()


def test_a_message_in_fragments_with_a_ping_between_them(server: Server) -> None:
    with WebSocketClient(server, "/echo") as ws:
        ws.send(TEXT & MORE, "Hel")
        ws.send(PING, b"now")
        assert ws.frame() == (PONG, b"now")
        ws.send(0, "lo ")
        ws.send(0x80, "all")
        assert ws.message() == "Hello all"
        ws.finish()


def test_frames_that_come_with_the_handshake_are_not_lost(server: Server) -> None:

    with WebSocketClient(server, "/echo", early=frame(TEXT, "early")) as ws:
        assert ws.message() == "early"
        ws.finish()


def test_frames_that_are_sent_before_the_accept_are_answered(server: Server) -> None:
    early = frame(PING, b"first") + frame(TEXT, "early") + frame(PING, b"second")
    with WebSocketClient(server, "/accept-late", early=early) as ws:
        assert [ws.frame(), ws.frame()] == [(PONG, b"first"), (PONG, b"second")]
        ws.finish()
    assert eventually(lambda: ["accept-late", "early"] in seen(server))


def test_a_close_frame_that_is_sent_before_the_accept_is_answered(server: Server) -> None:
    before = seen(server).count(["accept-late", 3001, "bye"])
    early = frame(CLOSE, (3001).to_bytes(2, "big") + b"bye")
    with WebSocketClient(server, "/accept-late", early=early) as ws:
        assert ws.frame()[0] == CLOSE
    assert eventually(lambda: seen(server).count(["accept-late", 3001, "bye"]) > before)


def test_a_frame_may_come_byte_by_byte(server: Server) -> None:

    with WebSocketClient(server, "/echo") as ws:
        ws.client.send_bytewise(frame(TEXT, "slowly") + frame(TEXT, "again"))
        assert [ws.message(), ws.message()] == ["slowly", "again"]
        ws.finish()


def test_an_app_may_receive_and_send_in_two_tasks(server: Server) -> None:
    with WebSocketClient(server, "/broadcast") as ws:
        assert [ws.message() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        ws.close(3333, "enough")
        assert ws.close_frame() == (3333, "enough")
    expect(server, "broadcast", 3333, "enough")


# The handshake


def test_the_app_sees_the_handshake(server: Server) -> None:
    fields = ["Sec-WebSocket-Protocol: chat, v2.x", "Origin: http://a.example", "Cookie: a=b"]
    with WebSocketClient(server, "/scope?q=1", *fields) as ws:
        scope = json.loads(ws.message())
        assert scope["type"] == "websocket"
        assert scope["scheme"] == "ws"
        assert scope["asgi"]["spec_version"] == "2.5"
        assert scope["http_version"] == "1.1"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/scope",
            "/scope",
            "q=1",
        )
        assert scope["subprotocols"] == ["chat", "v2.x"]
        assert scope["extensions"] == {"websocket.http.response": {}}
        assert scope["client"][0] == "127.0.0.1"
        assert ["origin", "http://a.example"] in scope["headers"]
        assert ["cookie", "a=b"] in scope["headers"]
        assert scope["headers"].count(["connection", "Upgrade"]) == 1
        assert scope["headers"].count(["upgrade", "websocket"]) == 1
        assert "method" not in scope
        assert ws.field("sec-websocket-protocol") == []
        ws.finish()


def test_the_app_chooses_a_subprotocol_and_sets_fields(server: Server) -> None:
    fields = ["Sec-WebSocket-Protocol: chat, v2"]
    with WebSocketClient(server, "/accept?subprotocol=v2", *fields) as ws:
        assert ws.field("sec-websocket-accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
        assert ws.field("sec-websocket-protocol") == ["v2"]
        assert ws.field("x-app") == ["yes"]
        assert ws.field("set-cookie") == ["a=1", "b=2"]
        assert ws.field("upgrade") == ["websocket"]
        assert ws.field("content-length") == ws.field("transfer-encoding") == []
        ws.finish()


def test_an_app_may_refuse(server: Server) -> None:
    with Client(server.address) as client:
        client.send(handshake("/refuse"))
        assert client.response().status == 403
        # The connection goes on.
        assert client.get("/").body == b"http"
    expect(server, "refuse", "websocket.disconnect")


def test_an_app_may_answer_in_http(server: Server) -> None:
    with Client(server.address) as client:
        client.send(handshake("/deny"))
        answer = client.response()
        assert (answer.status, answer.body) == (401, b"not you!")
        assert (b"x-app", b"no") in answer.fields
        assert client.get("/").body == b"http"


@pytest.mark.parametrize("path", ["/fail-early", "/return-early"])
def test_an_app_that_ends_without_an_answer(server: Server, path: str) -> None:
    with Client(server.address) as client:
        client.send(handshake(path))
        assert client.response().status == 500
        assert client.get("/").body == b"http"


def test_a_wrong_handshake_gets_an_answer_in_http(server: Server) -> None:
    with Client(server.address) as client:
        client.send(handshake("/echo", version=12))
        answer = client.response()
        assert answer.status == 426
        assert (b"sec-websocket-version", b"13") in answer.fields
        assert (b"upgrade", b"websocket") in answer.fields
        client.send(handshake("/echo", key="short"))
        assert client.response().status == 400
        assert client.get("/").body == b"http"


def test_messages_out_of_order_raise_in_the_app(server: Server) -> None:
    with WebSocketClient(server, "/order", "Sec-WebSocket-Protocol: chat") as ws:
        assert json.loads(ws.message()) == [
            "send: RuntimeError",
            "hello: RuntimeError",
            "accept: ResponseError",
            "accept: ResponseError",
            "accept: ResponseError",
            "accept: RuntimeError",
            "http.response.start: RuntimeError",
            "send: ValueError",
            "send: TypeError",
            "close: ValueError",
        ]
        assert ws.close_frame() == (1000, "")
        ws.close()
        assert ws.ends()
    expect(server, "order", "send: RuntimeError", "close: RuntimeError")


# The end


@pytest.mark.parametrize(
    ("sent", "answered", "told"),
    [
        ((1000, ""), (1000, ""), (1000, "")),
        ((1001, "tab closed"), (1001, "tab closed"), (1001, "tab closed")),
        ((4999, "é" * 61), (4999, "é" * 61), (4999, "é" * 61)),
        ((None, ""), (None, ""), (1005, "")),
    ],
)
def test_the_client_closes(
    server: Server,
    sent: tuple[int | None, str],
    answered: tuple[int | None, str],
    told: tuple[int, str],
) -> None:
    with WebSocketClient(server, "/watch") as ws:
        ws.text(f"by {sent}")
        ws.close(*sent)
        code, _ = ws.close_frame()
        assert code == answered[0]
        assert ws.ends()
    assert eventually(lambda: ["watch", "closed"] in seen(server))
    expect(server, "watch", *told)
    expect(server, "watch", "send raises OSError")


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [("", 1000, ""), ("?code=1011&reason=broken", 1011, "broken"), ("?code=4321", 4321, "")],
)
def test_the_app_closes(server: Server, query: str, code: int, reason: str) -> None:
    with WebSocketClient(server, f"/close{query}") as ws:
        assert ws.close_frame() == (code, reason)
        # What the client has sent meanwhile is dropped.
        ws.text("late")
        ws.close(code)
        assert ws.ends()
    assert eventually(lambda: any(each[:2] == ["close", code] for each in seen(server)))


@pytest.mark.parametrize(("path", "code"), [("/fail", 1011), ("/return", 1000)])
def test_an_app_that_ends_closes(server: Server, path: str, code: int) -> None:
    with WebSocketClient(server, path) as ws:
        assert ws.close_frame() == (code, "")
        ws.close(code)
        assert ws.ends()


@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [
        (TEXT | 0x40, b"", 1002),
        (0x83, b"", 1002),
        (0x80, b"no message", 1002),
        (CLOSE, b"\x03", 1002),
        (CLOSE, (1005).to_bytes(2, "big"), 1002),
        (PING & MORE, b"", 1002),
        (TEXT, b"\xff", 1007),
    ],
    ids=lambda value: f"{value:x}" if isinstance(value, int) else repr(value),
)
def test_a_violation_closes(server: Server, first: int, payload: bytes, code: int) -> None:
    with WebSocketClient(server, "/watch") as ws:
        ws.send(first, payload)
        assert ws.close_frame()[0] == code
        assert ws.ends()


def test_an_unmasked_frame_closes(server: Server) -> None:
    with WebSocketClient(server, "/watch") as ws:
        ws.send(TEXT, b"open", mask=None)
        assert ws.close_frame()[0] == 1002
        assert ws.ends()


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "fin"])
def test_a_client_that_vanishes(server: Server, reset: bool) -> None:
    with WebSocketClient(server, "/watch") as ws:
        ws.text(f"vanishes by {reset}")
        expect(server, "watch", f"vanishes by {reset}")
        before = seen(server).count(["watch", "closed"])
        if reset:
            ws.client.reset()
        else:
            ws.client.close()
        expect(server, "watch", 1006, "")
        assert eventually(lambda: seen(server).count(["watch", "closed"]) > before)


# Limits


def test_a_message_that_is_too_large(start_on: Start) -> None:
    server = start_on("--ws-max-message-size", "1000")
    with WebSocketClient(server, "/echo") as ws:
        ws.text("x" * 1000)
        assert ws.message() == "x" * 1000
        # The length alone decides.
        ws.sock.sendall(b"\x81\xfe\x03\xe9")
        assert ws.close_frame()[0] == 1009
        assert ws.ends()


def test_more_websockets_than_allowed(start_on: Start) -> None:
    server = start_on("--ws-max", "2")
    first, second = WebSocketClient(server, "/echo"), WebSocketClient(server, "/echo")
    with Client(server.address) as client:
        client.send(handshake("/echo"))
        assert client.response().status == 503
        first.finish()
        second.text("still here")
        assert second.message() == "still here"

        def again() -> bool:
            client.send(handshake("/refuse"))
            return client.response().status == 403

        assert eventually(again)
    second.finish()


def test_websockets_take_no_capacity(start_on: Start) -> None:
    server = start_on("--concurrency", "1", "--queue-size", "0")
    sockets = [WebSocketClient(server, "/echo") for _ in range(3)]
    with Client(server.address) as client:
        assert client.get("/").body == b"http"
    for each in sockets:
        each.text("still here")
        assert each.message() == "still here"
        each.finish()


def test_websockets_are_spread_over_the_reactors(start_on: Start, tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/admin"
    server = start_on("--reactors", "2", "--admin", admin)
    assert eventually(lambda: server.log().count("is ready") == 2)

    def status() -> Any:
        with Client(admin) as client:
            return json.loads(client.get("/status").body)

    sockets = []
    for _ in range(6):
        # A reactor within a step may be passed over.
        assert eventually(lambda: not any(each["step"] for each in status()["reactors"]))
        sockets.append(WebSocketClient(server, "/echo"))
    report = status()
    assert [each["websockets"] for each in report["reactors"]] == [3, 3]
    assert report["connections"]["states"]["websocket"] == 6
    assert [each["in_flight"] for each in report["reactors"]] == [0, 0]
    for each in sockets:
        each.finish()


def test_the_request_timeout_ends_with_the_handshake(start_on: Start) -> None:
    server = start_on("--request-timeout", "0.3", "--first-byte-timeout", "0.2")
    with WebSocketClient(server, "/broadcast") as ws:
        # A tick each 10 ms.
        for number in range(60):
            assert ws.message() == str(number)
        ws.close()
        assert ws.close_frame() == (1000, "")


def test_a_client_that_answers_no_ping(start_on: Start) -> None:
    server = start_on("--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.3")
    with WebSocketClient(server, "/watch") as ws:
        assert ws.frame()[0] == PING
        assert ws.close_frame() == (1011, "ping timeout")
        assert ws.ends()
    expect(server, "watch", 1011, "ping timeout")


def test_a_client_that_answers_pings_stays(start_on: Start) -> None:
    server = start_on("--ws-ping-interval", "0.2", "--ws-ping-timeout", "20")
    with WebSocketClient(server, "/watch") as ws:
        for _ in range(4):
            first, payload = ws.frame()
            assert first == PING
            ws.send(PONG, payload)
        ws.close()
        assert ws.close_frame() == (1000, "")


def test_a_client_that_does_not_answer_the_close_frame(start_on: Start) -> None:
    server = start_on("--ws-close-timeout", "0.3")
    with WebSocketClient(server, "/close") as ws:
        assert ws.close_frame() == (1000, "")
        assert ws.ends()
    expect(server, "close", 1006, "")


# Backpressure


def test_an_app_waits_for_a_client_that_does_not_read(server: Server) -> None:
    with WebSocketClient(server, "/stream?count=400&size=100000") as ws:
        count = 0

        def stands_still() -> bool:
            nonlocal count
            before, count = count, next(each[1] for each in seen(server) if each[0] == "sent")
            return count == before

        assert eventually(stands_still)
        with WebSocketClient(server, "/echo") as other:
            other.text("meanwhile")
            assert other.message() == "meanwhile"
        for _ in range(400):
            assert len(ws.message()) == 100_000
        expect(server, "stream", "all sent")
        ws.finish()


def test_a_client_waits_for_an_app_that_does_not_receive(server: Server, gate: Gate) -> None:
    with WebSocketClient(server, f"/deaf?gate={gate}") as ws:
        ws.sock.setblocking(False)
        stream = memoryview(frame(BINARY, bytes(60_000)) * 800)
        sent = 0

        def stands_still() -> bool:
            """Send what goes; return whether nothing went for a while."""
            nonlocal sent
            before = sent
            try:
                while sent < len(stream):
                    sent += ws.sock.send(stream[sent : sent + 65536])
            except BlockingIOError:
                pass
            return sent == before and server.is_at_rest()

        # The kernel's buffers, the window and what the reactor reads ahead.
        assert eventually(stands_still)
        assert sent < len(stream)
    with WebSocketClient(server, f"/deaf?gate={gate}") as ws:
        gate.open()
        for _ in range(50):
            ws.send(BINARY, bytes(60_000))
        ws.text("end")
        assert ws.message() == "51 3000003"
        ws.finish()


# The service


def test_a_stop_closes_with_1001(start_on: Start) -> None:
    server = start_on("--ws-drain", "0.2")
    with WebSocketClient(server, "/watch") as ws:
        server.signal(signal.SIGTERM)
        assert ws.close_frame() == (1001, "")
        ws.close(1001)
        assert ws.ends()
    assert server.wait() == 0


@pytest.mark.slow
def test_a_stop_does_not_wait_for_clients_without_end(start_on: Start) -> None:
    server = start_on("--ws-drain", "0", "--ws-close-timeout", "0.2", "--graceful-timeout", "5")
    with WebSocketClient(server, "/watch") as ws:
        server.signal(signal.SIGTERM)
        assert ws.close_frame() == (1001, "")
        assert server.wait() == 0


def test_a_reload_closes_with_1012(start_on: Start) -> None:
    server = start_on("--ws-drain", "0.2")
    sockets = [WebSocketClient(server, "/watch") for _ in range(4)]
    server.signal(signal.SIGHUP)
    for each in sockets:
        assert each.close_frame() == (1012, "")
        each.close(1012)
        assert each.ends()
        each.client.close()
    with WebSocketClient(server, "/echo") as ws:
        ws.text("new")
        assert ws.message() == "new"
        ws.finish()


def test_an_app_that_sends_during_a_reload_makes_no_mistake(start_on: Start) -> None:
    """It may send while the client's close frame is awaited. That raises OSError."""
    server = start_on("--ws-drain", "0", "--log-level", "debug")
    with WebSocketClient(server, "/broadcast") as ws:
        assert ws.message() == "0"
        server.signal(signal.SIGHUP)
        assert ws.close_frame() == (1012, "")
        # The app sends every 10 ms.
        assert eventually(lambda: "before the WebSocket was complete" in server.log())
        ws.close(1012)
        assert ws.ends()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_an_upgrade_closes_with_1012(start_on: Start) -> None:
    server = start_on("--ws-drain", "0.2")
    with WebSocketClient(server, "/watch") as ws:
        server.signal(signal.SIGUSR2)
        assert ws.close_frame() == (1012, "")
        ws.close(1012)
        assert ws.ends()
    assert server.wait() == 0
    with WebSocketClient(server, "/echo") as ws:
        ws.text("new")
        assert ws.message() == "new"
        ws.finish()


@pytest.mark.parametrize("lanes", LANES)
def test_a_reactor_that_dies_between_frames(start: Start, lanes: str) -> None:
    server = start(APP, "--lanes", lanes)
    with WebSocketClient(server, "/echo") as ws:
        ws.text("whole")
        assert ws.message() == "whole"
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        assert ws.close_frame() == (1012, "")
        assert ws.ends()


@pytest.mark.parametrize("lanes", LANES)
def test_a_reactor_that_dies_after_its_close_frame(start: Start, lanes: str) -> None:
    """No frame may follow a close frame (RFC 6455 §5.5.1)."""
    server = start(APP, "--lanes", lanes)
    with WebSocketClient(server, "/close") as ws:
        assert ws.close_frame() == (1000, "")
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        assert ws.client.rest() == b""
        assert not ws._data


@pytest.mark.parametrize("lanes", LANES)
def test_a_reactor_that_dies_within_a_frame(start: Start, lanes: str) -> None:
    server = start(APP, "--lanes", lanes)
    # Megabytes are on their way. Through a small buffer of the client they would take a minute.
    with WebSocketClient(server, "/stream?count=1&size=30000000") as ws:
        while len(ws._data) < 1000:
            ws._more()
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        with pytest.raises((EOFError, ConnectionResetError)):
            ws.close_frame()


def test_one_line_in_the_access_log_at_the_end(start_on: Start) -> None:
    text = "%(m)s %(U)s %(s)s %(ws_code)s %(ws_received)s %(ws_sent)s %(error)s;"
    server = start_on("--access-log", "-", "--access-log-format", text)
    with WebSocketClient(server, "/echo") as ws:
        for _ in range(3):
            ws.text("x")
            ws.message()
        assert "/echo" not in server.log()
        ws.finish()
    assert eventually(lambda: "GET /echo 101 1000 3 3 -;" in server.log())
    with WebSocketClient(server, "/watch") as ws:
        ws.client.reset()
    assert eventually(lambda: "GET /watch 101 1006 0 0 the client left;" in server.log())
    with Client(server.address) as client:
        client.send(handshake("/refuse"))
        assert client.response().status == 403
    assert eventually(lambda: "GET /refuse 403 - - - -;" in server.log())


# Not a WebSocket


@pytest.mark.parametrize("lanes", LANES)
def test_a_wsgi_app_answers_in_http(start: Start, lanes: str) -> None:
    server = start("tests.integration.apps.wsgi:app", "--lanes", lanes)
    with Client(server.address) as client:
        for _ in range(2):
            client.send(handshake("/hello"))
            assert client.response().status == 200
    assert eventually(lambda: "a WSGI app cannot speak WebSocket" in server.log())
    assert server.log().count("asks to upgrade") == 1


def test_another_upgrade_is_answered_in_http(start_on: Start) -> None:
    server = start_on()
    with Client(server.address) as client:
        for _ in range(2):
            client.send(handshake("/").replace(b"websocket\r\n", b"h2c\r\n"))
            assert client.response().body == b"http"
    assert eventually(lambda: "asks to upgrade to h2c" in server.log())
    assert server.log().count("asks to upgrade") == 1
