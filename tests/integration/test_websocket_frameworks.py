"""WebSockets in the frameworks that people use, with what they use of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.conftest import LANES, RUNTIMES, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import need_module


def matrix(*quick: str) -> list[Any]:
    """What a framework on anyio runs on. `quick`: in `make test`."""
    pairs = [(runtime, lanes) for runtime in RUNTIMES for lanes in LANES]
    return [
        pytest.param(
            *pair, marks=() if " ".join(pair) in quick else pytest.mark.slow, id=" ".join(pair)
        )
        for pair in pairs
    ]


FASTAPI = matrix("trio express", "uvloop plain")
STARLETTE = matrix("uvloop plain")
LITESTAR = matrix("trio express")
ASYNCIO = [
    pytest.param("asyncio", lanes, marks=() if lanes == "express" else pytest.mark.slow, id=lanes)
    for lanes in LANES
]


def serve(shared: Start, framework: str, runtime: str, lanes: str) -> Server:
    app = f"tests.integration.apps.websocket_{framework}:app"
    return shared(app, "--runtime", runtime, "--lanes", lanes)


@contextmanager
def open_socket(server: Server, path: str, **options: Any) -> Iterator[ClientConnection]:
    url = server.address.replace("http", "ws", 1) + path
    with connect(url, proxy=None, **options) as ws:
        yield ws


def refused(server: Server, path: str, **options: Any) -> tuple[int, bytes]:
    """Return status and body of the answer to a handshake that the app does not accept."""
    with pytest.raises(InvalidStatus) as error, open_socket(server, path, **options):
        pass
    return error.value.response.status_code, bytes(error.value.response.body or b"")


def closed(ws: ClientConnection) -> tuple[int, str]:
    """Wait for the close frame of the app: its code and its reason."""
    try:
        while True:
            ws.recv(20)
    except ConnectionClosed:
        assert ws.close_code is not None
        assert ws.close_reason is not None
        return ws.close_code, ws.close_reason


def ask(ws: ClientConnection, message: Any) -> Any:
    """Send JSON, and return the JSON that comes back."""
    ws.send(json.dumps(message))
    return json.loads(ws.recv(20))


def seen(server: Server) -> list[list[Any]]:
    found: list[list[Any]] = httpx.get(f"{server.address}/seen", trust_env=False).json()
    return found


def expect(server: Server, *entry: object) -> None:
    """Wait until the app has noted this."""
    assert eventually(lambda: [*entry] in seen(server))


# FastAPI ------------------------------------------------------------------------------------------


@pytest.fixture
def fastapi(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("fastapi")
    return serve(shared, "fastapi", runtime, lanes)


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_fastapi_parameters_and_dependencies(fastapi: Server) -> None:
    with open_socket(fastapi, "/items/7?token=secret&q=stra%C3%9Fe") as ws:
        assert json.loads(ws.recv(20)) == {"item": 7, "user": "ada", "q": "straße"}
        for text in "one", "zwei é":
            ws.send(text)
            assert ws.recv(20) == f"7: {text}"
    expect(fastapi, "items", "over")
    # Dependencies end after the WebSocket.
    expect(fastapi, "tracked", "ends", "/items/7")
    with open_socket(fastapi, "/items/8", additional_headers={"X-Token": "secret"}) as ws:
        assert json.loads(ws.recv(20))["item"] == 8


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_fastapi_refuses(fastapi: Server) -> None:
    assert refused(fastapi, "/items/7")[0] == 403
    assert refused(fastapi, "/items/seven?token=secret")[0] == 403
    assert refused(fastapi, "/nowhere")[0] == 403
    assert refused(fastapi, "/denied") == (402, b'{"detail":"pay first"}')


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_fastapi_exceptions_become_close_codes(fastapi: Server) -> None:
    with open_socket(fastapi, "/late-token") as ws:
        ws.send("wrong")
        assert closed(ws) == (1008, "wrong token")
    with open_socket(fastapi, "/late-token") as ws:
        ws.send("secret")
        assert ws.recv(20) == "welcome"
        assert closed(ws) == (1000, "")
    with open_socket(fastapi, "/orders") as ws:
        assert ask(ws, {"name": "tea", "count": 2}) == {"ordered": {"name": "tea", "count": 2}}
        ws.send(json.dumps({"name": "tea", "count": 11}))
        assert closed(ws) == (4409, "out of stock")
    with open_socket(fastapi, "/orders") as ws:
        # The app fails.
        ws.send(json.dumps({"name": "tea"}))
        assert closed(ws) == (1011, "")


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_fastapi_chat(fastapi: Server) -> None:
    chat = {"subprotocols": ["chat.v2", "chat.v1"]}
    with (
        open_socket(fastapi, "/chat", **chat) as first,
        open_socket(fastapi, "/chat", **chat) as second,
    ):
        assert first.subprotocol == "chat.v1"
        assert first.response is not None
        assert first.response.headers["X-Room"] == "main"
        second.send("hello")
        assert first.recv(20) == "hello"
        assert second.recv(20) == "hello"
        first.close(3456, "gone")
        expect(fastapi, "chat", 3456, "gone")
        second.send("alone")
        assert second.recv(20) == "alone"


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_fastapi_notices_a_disconnect_while_it_sends(fastapi: Server) -> None:
    before = seen(fastapi).count(["feed", "over"])
    with open_socket(fastapi, "/feed") as ws:
        assert [json.loads(ws.recv(20))["number"] for _ in range(5)] == [0, 1, 2, 3, 4]
    with open_socket(fastapi, "/feed") as ws:
        ws.recv(20)
        # Without a close frame.
        ws.socket.shutdown(2)
    assert eventually(lambda: seen(fastapi).count(["feed", "over"]) == before + 2)


@pytest.mark.parametrize(("runtime", "lanes"), FASTAPI)
def test_a_client_that_vanishes_is_no_failure_of_a_fastapi_app(fastapi: Server) -> None:
    logged = len(fastapi.log())
    with open_socket(fastapi, "/pour") as ws:
        ws.recv(20)
        ws.socket.shutdown(2)
    assert eventually(lambda: ["pour", "over"] in seen(fastapi))
    assert "the app failed" not in fastapi.log()[logged:]


# Starlette ----------------------------------------------------------------------------------------


@pytest.fixture
def starlette(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("starlette")
    return serve(shared, "starlette", runtime, lanes)


@pytest.mark.parametrize(("runtime", "lanes"), STARLETTE)
def test_starlette_endpoint(starlette: Server) -> None:
    with open_socket(starlette, "/ws/echo/room%201") as ws:
        assert ask(ws, [1, {"a": None}]) == {"got": [1, {"a": None}], "state": "hello"}
        ws.close(3210)
    expect(starlette, "connect", "room 1")
    expect(starlette, "disconnect", 3210)
    with open_socket(starlette, "/ws/echo/x") as ws:
        ws.send("no JSON")
        assert closed(ws) == (1003, "")
    expect(starlette, "disconnect", 1011)


@pytest.mark.parametrize(("runtime", "lanes"), STARLETTE)
def test_starlette_authentication(starlette: Server) -> None:
    assert refused(starlette, "/ws/members")[0] == 403
    with open_socket(starlette, "/ws/members", additional_headers={"Cookie": "user=ada"}) as ws:
        assert ws.recv(20) == "hello ada"
        ws.send(b"abc")
        assert ws.recv(20) == b"cba"
    expect(starlette, "members", "over")


@pytest.mark.parametrize(("runtime", "lanes"), STARLETTE)
def test_starlette_urls_and_failures(starlette: Server) -> None:
    with open_socket(starlette, "/ws/url") as ws:
        told = json.loads(ws.recv(20))
        base = starlette.address.replace("http", "ws", 1)
        assert (told["url"], told["for"]) == (f"{base}/ws/url", f"{base}/ws/echo/x")
        assert told["client"] == "127.0.0.1"
        assert closed(ws) == (3000, "enough")
    with open_socket(starlette, "/ws/fails") as ws:
        assert closed(ws) == (1011, "")
    assert eventually(lambda: "the app is broken" in starlette.log())


# Litestar -----------------------------------------------------------------------------------------


@pytest.fixture
def litestar(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("litestar")
    return serve(shared, "litestar", runtime, lanes)


@pytest.mark.parametrize(("runtime", "lanes"), LITESTAR)
def test_litestar_handler(litestar: Server) -> None:
    path = "/items/7?token=secret"
    with open_socket(litestar, path, subprotocols=["chat.v1"]) as ws:
        assert ws.subprotocol == "chat.v1"
        assert json.loads(ws.recv(20)) == {"item": 7}
        ws.send("é")
        assert ws.recv(20) == "7: é"
        ws.close(3210)
    expect(litestar, "items", 3210)
    assert refused(litestar, "/items/7")[0] in (401, 403)


@pytest.mark.parametrize(("runtime", "lanes"), LITESTAR)
def test_litestar_listener_and_stream(litestar: Server) -> None:
    with open_socket(litestar, "/orders") as ws:
        order = {"name": "tea", "count": 2}
        assert ask(ws, order) == order
        ws.send(json.dumps({"name": "tea", "count": 11}))
        assert closed(ws)[0] == 4409
    expect(litestar, "listener", "ends")
    with open_socket(litestar, "/feed") as ws:
        assert [ws.recv(20) for _ in range(3)] == ["0", "1", "2"]
    expect(litestar, "feed", "over")


# Django Channels ----------------------------------------------------------------------------------


@pytest.fixture
def channels(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("channels")
    return serve(shared, "channels", runtime, lanes)


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_channels_groups(channels: Server) -> None:
    chat = {"subprotocols": ["chat.v2", "chat.v1"]}
    with (
        open_socket(channels, "/chat/main", **chat) as first,
        open_socket(channels, "/chat/main") as second,
        open_socket(channels, "/chat/other") as other,
    ):
        assert (first.subprotocol, second.subprotocol) == ("chat.v1", None)
        second.send("hello")
        assert first.recv(20) == second.recv(20) == "hello"
        other.send("elsewhere")
        assert other.recv(20) == "elsewhere"
        first.send(b"abc")
        assert first.recv(20) == b"cba"
        first.close(3210)
        expect(channels, "chat", 3210)


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_channels_close_codes(channels: Server) -> None:
    assert refused(channels, "/chat/closed")[0] == 403
    with open_socket(channels, "/chat/main") as ws:
        ws.send("leave")
        assert closed(ws) == (4001, "as you like")
    expect(channels, "chat", 4001)
    with open_socket(channels, "/chat/main") as ws:
        ws.send("fail")
        assert closed(ws) == (1011, "")
    assert eventually(lambda: "the consumer is broken" in channels.log())


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_channels_json_and_threads(channels: Server) -> None:
    with open_socket(channels, "/orders") as ws:
        assert ask(ws, {"name": "tea"}) == {"ordered": {"name": "tea"}}
    with open_socket(channels, "/thread") as first, open_socket(channels, "/thread") as second:
        first.send("hello")
        assert first.recv(20) == second.recv(20) == "HELLO"
        second.close(3210)
        expect(channels, "thread", 3210)


# python-socketio ----------------------------------------------------------------------------------


@pytest.fixture
def socketio_server(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("socketio")
    need_module("websocket")
    return serve(shared, "socketio", runtime, lanes)


@contextmanager
def socketio_client(server: Server, *transports: str) -> Iterator[Any]:
    socketio = need_module("socketio")
    client = socketio.SimpleClient()
    client.connect(server.address, auth={"token": "secret"}, transports=transports)
    try:
        yield client
    finally:
        client.disconnect()


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]], ids=str)
@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_socketio(socketio_server: Server, transports: list[str]) -> None:
    with socketio_client(socketio_server, *transports) as client:
        assert client.call("add", (2, 3), timeout=20) == 5
        assert client.call("reverse", b"\x00\x01" * 50_000, timeout=20) == b"\x01\x00" * 50_000
        assert client.call("transport_of", timeout=20) == "websocket"
        with socketio_client(socketio_server, *transports) as other:
            other.emit("say", "hello")
            assert client.receive(20) == ["said", {"text": "hello"}]
            assert other.receive(20) == ["said", {"text": "hello"}]
        # The client does not wait until its farewell is sent.
        event, end = client.receive(20)
        assert event == "left"
        assert end["reason"] in ("client disconnect", "transport close")
        client.emit("tick", 3)
        assert [client.receive(20) for _ in range(3)] == [["tick", number] for number in range(3)]


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_socketio_refuses(socketio_server: Server) -> None:
    socketio = need_module("socketio")
    client = socketio.Client()
    with pytest.raises(socketio.exceptions.ConnectionError, match="failed to connect"):
        client.connect(socketio_server.address, transports=["websocket"], auth={"token": "no"})


# GraphQL ------------------------------------------------------------------------------------------


@pytest.fixture
def graphql(shared: Start, runtime: str, lanes: str) -> Server:
    need_module("strawberry")
    return serve(shared, "graphql", runtime, lanes)


@contextmanager
def graphql_socket(server: Server) -> Iterator[ClientConnection]:
    with open_socket(server, "/", subprotocols=["graphql-transport-ws"]) as ws:
        assert ws.subprotocol == "graphql-transport-ws"
        assert ask(ws, {"type": "connection_init"})["type"] == "connection_ack"
        yield ws


def subscribe(ws: ClientConnection, number: str, query: str) -> None:
    message = {"id": number, "type": "subscribe", "payload": {"query": query}}
    ws.send(json.dumps(message))


def open_subscriptions(server: Server) -> int:
    answer = httpx.post(f"{server.address}/", json={"query": "{ open }"}, trust_env=False)
    count: int = answer.json()["data"]["open"]
    return count


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_graphql_subscriptions(graphql: Server) -> None:
    with graphql_socket(graphql) as ws:
        subscribe(ws, "1", "subscription { count(to: 3) }")
        got = [json.loads(ws.recv(20)) for _ in range(4)]
        assert [each["payload"]["data"]["count"] for each in got[:3]] == [0, 1, 2]
        assert got[3] == {"id": "1", "type": "complete"}
        subscribe(ws, "2", "subscription { forever }")
        assert json.loads(ws.recv(20))["payload"]["data"] == {"forever": 0}
        assert open_subscriptions(graphql) == 1
        ws.send(json.dumps({"id": "2", "type": "complete"}))
        assert eventually(lambda: open_subscriptions(graphql) == 0)
        assert ask_until(ws, {"type": "ping"}, "pong")
        subscribe(ws, "3", "subscription { forever }")
        assert eventually(lambda: open_subscriptions(graphql) == 1)
    # The end of the WebSocket ends the subscription.
    assert eventually(lambda: open_subscriptions(graphql) == 0)


def ask_until(ws: ClientConnection, message: Any, kind: str) -> bool:
    """Send JSON, and read up to a message of this type."""
    ws.send(json.dumps(message))
    while json.loads(ws.recv(20))["type"] != kind:
        pass
    return True


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_graphql_violations(graphql: Server) -> None:
    with open_socket(graphql, "/", subprotocols=["graphql-transport-ws"]) as ws:
        subscribe(ws, "1", "subscription { count(to: 3) }")
        assert closed(ws) == (4401, "Unauthorized")
    with open_socket(graphql, "/", subprotocols=["unknown"]) as ws:
        assert closed(ws)[0] == 4406
    with graphql_socket(graphql) as ws:
        for _ in range(2):
            subscribe(ws, "1", "subscription { forever }")
        assert closed(ws)[0] == 4409
    assert eventually(lambda: open_subscriptions(graphql) == 0)


@pytest.mark.parametrize(("runtime", "lanes"), ASYNCIO)
def test_graphql_many_subscriptions_at_once(graphql: Server) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            with graphql_socket(graphql) as ws:
                subscribe(ws, "1", "subscription { count(to: 50) }")
                got = [json.loads(ws.recv(20)) for _ in range(51)]
                assert [each["payload"]["data"]["count"] for each in got[:50]] == [*range(50)]
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not failures
