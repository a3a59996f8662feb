"""WebSockets with the clients that people use: `websockets`, httpx-ws, Node.js and Chromium."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.browser import NEEDS, Browser
from tests.integration.certificates import Authority
from tests.integration.conftest import LANES, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import need_module, path_of

APP = "tests.integration.apps.websockets:app"
NODE_WS = "/usr/share/nodejs/ws"
"""The npm package `ws`, as Debian's node-ws installs it."""
MESSAGES: list[str | bytes] = ["", "héllo", "x" * 70_000, b"", b"\x00\xff", bytes(200_000)]


@pytest.fixture(params=["off", "on"])
def compression(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def server(shared: Start, compression: str) -> Server:
    """A server for each kind of lane, one of them with compression."""
    lanes = "plain" if compression == "on" else "express"
    return shared(APP, "--lanes", lanes, "--ws-compression", compression)


def url_of(server: Server, path: str = "/echo") -> str:
    return server.address.replace("http", "ws", 1) + path


# Python -------------------------------------------------------------------------------------------


def test_websockets_with_asyncio(server: Server) -> None:
    async def main() -> None:
        connect = websockets.asyncio.client.connect
        async with connect(url_of(server), proxy=None) as ws:
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            # A message of its own in fragments, and a ping of its own.
            await ws.send(["a", "b", "c"])
            assert await ws.recv() == "abc"
            await (await ws.ping())
            await ws.close(3001, "bye")
        assert (ws.close_code, ws.close_reason) == (3001, "bye")
        async with connect(url_of(server, "/close?code=4321&reason=broken"), proxy=None) as ws:
            with pytest.raises(ConnectionClosed):
                await ws.recv()
        assert (ws.close_code, ws.close_reason) == (4321, "broken")
        with pytest.raises(InvalidStatus) as refused:
            await connect(url_of(server, "/deny"), proxy=None)
        assert refused.value.response.status_code == 401
        assert refused.value.response.body == b"not you!"

    asyncio.run(main())


def test_websockets_with_threads(server: Server, compression: str) -> None:
    connect = websockets.sync.client.connect
    with connect(url_of(server), proxy=None) as ws:
        offered = [type(each).__name__ for each in ws.protocol.extensions]
        assert offered == (["PerMessageDeflate"] if compression == "on" else [])
        for message in MESSAGES:
            ws.send(message)
            assert ws.recv() == message
        assert ws.ping().wait(20)
    path = "/accept?subprotocol=v2"
    with connect(url_of(server, path), subprotocols=["chat", "v2"], proxy=None) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "v2"
    with pytest.raises(InvalidStatus) as refused:
        connect(url_of(server, "/refuse"), proxy=None)
    assert refused.value.response.status_code == 403


def test_many_websockets_at_once(server: Server) -> None:
    async def one(number: int) -> None:
        async with websockets.asyncio.client.connect(url_of(server), proxy=None) as ws:
            for turn in range(10):
                await ws.send(f"{number} {turn}")
                assert await ws.recv() == f"{number} {turn}"

    async def main() -> None:
        await asyncio.gather(*map(one, range(50)))

    asyncio.run(main())


def test_a_reload_is_seen_as_1012(start: Start) -> None:
    server = start(APP, "--ws-drain", "0")
    with websockets.sync.client.connect(url_of(server), proxy=None) as ws:
        ws.send("before")
        assert ws.recv() == "before"
        server.signal(signal.SIGHUP)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert closed.value.rcvd_then_sent


def test_httpx_ws(server: Server) -> None:
    httpx_ws = need_module("httpx_ws")
    with httpx.Client(base_url=server.address, timeout=20, trust_env=False) as client:
        with httpx_ws.connect_ws("/echo", client) as ws:
            ws.send_text("héllo")
            assert ws.receive_text() == "héllo"
            ws.send_bytes(b"\x00\xff" * 50_000)
            assert ws.receive_bytes() == b"\x00\xff" * 50_000
            ws.send_json({"a": [1, 2]})
            assert ws.receive_json() == {"a": [1, 2]}
        path = "/accept?subprotocol=v2"
        with httpx_ws.connect_ws(path, client, subprotocols=["chat", "v2"]) as ws:
            assert ws.subprotocol == "v2"
        with httpx_ws.connect_ws("/close?code=4321&reason=broken", client) as ws:
            with pytest.raises(httpx_ws.WebSocketDisconnect) as closed:
                ws.receive()
            assert (closed.value.code, closed.value.reason) == (4321, "broken")
        with (
            pytest.raises(httpx_ws.WebSocketUpgradeError) as refused,
            httpx_ws.connect_ws("/refuse", client),
        ):
            pass
        assert refused.value.response.status_code == 403


# JavaScript ---------------------------------------------------------------------------------------

DRIVE = """
function talk(Client, url, protocols, messages) {
  return new Promise((resolve) => {
    const socket = new Client(url, protocols);
    const got = [];
    const closeAfterAll = () => {
      if (messages && got.length === messages.length) socket.close(3001, "bye");
    };
    socket.binaryType = "arraybuffer";
    socket.onerror = () => {};
    socket.onopen = () => {
      (messages || []).forEach((each) => socket.send(each));
      closeAfterAll();
    };
    socket.onmessage = ({data}) => {
      got.push(typeof data === "string" ? data : Array.from(new Uint8Array(data)));
      closeAfterAll();
    };
    socket.onclose = ({code, reason, wasClean}) => resolve({
      got, code, reason, wasClean, protocol: socket.protocol, extensions: socket.extensions,
    });
  });
}
function refusal(Client, url) {
  return new Promise((resolve) => { new Client(url).onerror = () => resolve("refused"); });
}
async function drive(Client, base) {
  const binary = new Uint8Array(70000).fill(255);
  return [
    await talk(Client, base + "/echo", [], ["", "h\\u00e9llo", "x".repeat(70000), binary]),
    await talk(Client, base + "/accept?subprotocol=v2", ["chat", "v2"], []),
    await talk(Client, base + "/close?code=4321&reason=broken", [], null),
    await refusal(Client, base + "/refuse"),
  ];
}
"""


def judge(results: list[Any]) -> None:
    """Check what `drive` returned."""
    echo, accept, close, refuse = results
    assert echo["got"] == ["", "héllo", "x" * 70_000, [255] * 70_000]
    assert (echo["code"], echo["reason"], echo["wasClean"]) == (3001, "bye", True)
    assert echo["protocol"] == ""
    assert (accept["protocol"], accept["wasClean"]) == ("v2", True)
    assert (close["code"], close["reason"], close["wasClean"]) == (4321, "broken", True)
    assert refuse == "refused"


def node(server: Server, client: str, *flags: str) -> list[Any]:
    """Return what `drive` returns in Node.js. `client`: JavaScript for the class of the client."""
    base = url_of(server, "")
    show = "(all) => console.log(JSON.stringify(all))"
    script = f"{DRIVE}drive({client}, {json.dumps(base)}).then({show})"
    done = subprocess.run(
        [path_of("node"), *flags, "-e", script], capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    results: list[Any] = json.loads(done.stdout)
    return results


@pytest.mark.needs("node", NODE_WS)
def test_ws_of_node(server: Server, compression: str) -> None:
    results = node(server, f"require({json.dumps(NODE_WS)})")
    judge(results)
    assert ("permessage-deflate" in results[0]["extensions"]) == (compression == "on")


@pytest.mark.needs("node")
def test_the_client_that_node_has_itself(server: Server) -> None:
    flag = "--experimental-websocket"
    probe = [path_of("node"), flag, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
    if subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("this Node.js has no WebSocket client")
    judge(node(server, "WebSocket", flag))


@pytest.mark.needs(*NEEDS)
def test_chromium(server: Server, compression: str) -> None:
    with Browser() as browser:
        browser.open(f"{server.address}/")
        base = json.dumps(url_of(server, ""))
        browser.run(f"{DRIVE}drive(WebSocket, {base}).then((all) => {{ window.all = all; }})")
        assert eventually(lambda: browser.run("return Boolean(window.all)"), deadline=30)
        results = browser.run("return window.all")
    judge(results)
    assert ("permessage-deflate" in results[0]["extensions"]) == (compression == "on")


@pytest.mark.needs(*NEEDS)
def test_a_browser_that_ends(start: Start) -> None:
    server = start(APP)

    def seen() -> list[Any]:
        found: list[Any] = httpx.get(f"{server.address}/seen", trust_env=False).json()
        return found

    with Browser() as browser:
        browser.open(f"{server.address}/")
        url = json.dumps(url_of(server, "/watch"))
        browser.run(f"window.ws = new WebSocket({url}); ws.onopen = () => ws.send('here');")
        assert eventually(lambda: ["watch", "here"] in seen())
    assert eventually(lambda: ["watch", 1001, ""] in seen())


# TLS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES)
def test_wss(start: Start, tmp_path: Path, lanes: str) -> None:
    authority = Authority(tmp_path)
    server = start(APP, *authority.options("localhost", "127.0.0.1"), "--lanes", lanes)
    url = server.address.replace("https", "wss", 1)
    options: dict[str, Any] = {"ssl": authority.client(), "proxy": None}

    # Not the client with threads: a socket of Python's ssl is for one at a time.
    async def main() -> None:
        connect = websockets.asyncio.client.connect
        async with connect(f"{url}/scope", **options) as ws:
            scope = json.loads(await ws.recv())
        assert scope["scheme"] == "wss"
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304
        assert "websocket.http.response" in scope["extensions"]
        async with connect(f"{url}/echo", **options) as ws:
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.close(3001, "bye")
        assert (ws.close_code, ws.close_reason) == (3001, "bye")

    asyncio.run(main())
