"""A client of WebSockets that sends and reads single frames, right or wrong."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from tests.integration.client import Client
from tests.integration.server import Server
from tests.protocol.websocket.frames import frame

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "WebSocketClient",
    "check_websockets",
    "handshake",
]

FIN = 0x80
TEXT, BINARY, CLOSE, PING, PONG = (FIN | opcode for opcode in (1, 2, 8, 9, 10))
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(target: str, *fields: str, key: str = _KEY, version: int = 13) -> bytes:
    """Return the request for a WebSocket."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Version: {version}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class WebSocketClient:
    """One WebSocket to a server. Every wait has the deadline of the client's socket."""

    def __init__(
        self,
        server: Server | str,
        target: str,
        *fields: str,
        early: bytes = b"",
        small: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`early`: sent with the request. `small`: the kernel keeps few unread bytes.

        `tls`: speak TLS.
        """
        address = server if isinstance(server, str) else server.address
        self.client = Client(address, tls=tls)
        self.sock: socket.socket = self.client._sock
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._data = bytearray()
        self.client.send(handshake(target, *fields) + early)
        self.head = self._head()
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._data:
            self._more()
        end = self._data.index(b"\r\n\r\n") + 4
        head = bytes(self._data[:end])
        del self._data[:end]
        return head

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(bytes(self._data))
        self._data += data

    def field(self, name: str) -> list[str]:
        """The values of a field of the 101 answer."""
        lines = [line.partition(":") for line in self.head.decode().split("\r\n")[1:]]
        return [value.strip() for each, _, value in lines if each.lower() == name]

    # Out

    def send(self, first: int, payload: bytes | str = b"", **kind: Any) -> None:
        """Send a frame."""
        self.sock.sendall(frame(first, payload, **kind))

    def text(self, text: str) -> None:
        self.send(TEXT, text)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame."""
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        self.send(CLOSE, payload)

    # In

    def frame(self) -> tuple[int, bytes]:
        """Read a frame: its first byte, and its payload. Raises EOFError at the end."""
        while True:
            read = self._take_frame()
            if read is not None:
                return read
            self._more()

    def _take_frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server does not mask"
        size, at = data[1], 2
        for short, wide in (126, 2), (127, 8):
            if data[1] == short:
                size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
        if len(data) < at + size:
            return None
        first, payload = data[0], bytes(data[at : at + size])
        del data[: at + size]
        return first, payload

    def message(self) -> str | bytes:
        """Read a whole message; answer pings."""
        while True:
            first, payload = self.frame()
            if first == PING:
                self.send(PONG, payload)
                continue
            assert first in (TEXT, BINARY), (first, payload)
            return payload.decode() if first == TEXT else payload

    def close_frame(self) -> tuple[int | None, str]:
        """Read up to the server's close frame: its code and its reason."""
        while True:
            first, payload = self.frame()
            if first == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else None
                return code, payload[2:].decode()

    def ends(self) -> bool:
        """Wait until the server has closed the connection, with nothing before it."""
        return not self._data and self.client.at_end()

    def finish(self) -> None:
        """Close in order."""
        self.close()
        assert self.close_frame() == (1000, "")
        assert self.ends()
        self.client.close()

    def __enter__(self) -> WebSocketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


def check_websockets(address: str) -> None:
    """Check WebSockets to apps/websockets.py through a proxy, which must change nothing.

    The server must send pings often.
    """
    with WebSocketClient(address, "/echo", early=frame(TEXT, "early")) as ws:
        assert ws.message() == "early"
        for _ in range(5):
            # It is idle but for these.
            first, payload = ws.frame()
            assert first == PING
            ws.send(PONG, payload)
        with ws.client.sending([frame(BINARY, bytes(1_000_000))]):
            assert ws.message() == bytes(1_000_000)
        ws.close(3001, "bye")
        assert ws.close_frame() == (3001, "bye")
        assert ws.ends()
    with WebSocketClient(
        address, "/accept?subprotocol=v2", "Sec-WebSocket-Protocol: chat, v2"
    ) as ws:
        assert ws.field("sec-websocket-protocol") == ["v2"]
        ws.finish()
    with WebSocketClient(address, "/close?code=4321&reason=broken") as ws:
        assert ws.close_frame() == (4321, "broken")
        ws.close(4321)
        assert ws.ends()
    with Client(address) as client:
        client.send(handshake("/refuse"))
        assert client.response().status == 403
