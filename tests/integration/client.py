"""A client on a bare socket: it decides every byte and every segment, and reads answers strictly.

h11 parses what comes back, so an answer that is framed wrongly fails the test that sees it.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import h11

Fields = Iterable[tuple[str, str]]


@dataclass
class Response:
    """One final response; `interim` holds the status codes of the 1xx ones before it."""

    status: int
    version: bytes
    fields: list[tuple[bytes, bytes]]
    interim: list[int]
    body: bytes = field(default=b"", repr=False)

    def all(self, name: str) -> list[bytes]:
        """Every value of the field `name`, which is in lower case."""
        return [value for each, value in self.fields if each == name.encode()]

    def field(self, name: str) -> bytes | None:
        """The value of the field `name`, in lower case; it must not be repeated."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A connection to a listener named as the server's log names it."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 20.0,
        receive_buffer: int | None = None,
        source: tuple[str, int] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "localhost",
        session: ssl.SSLSession | None = None,
        before: bytes = b"",
    ) -> None:
        """`source` is this end's address; the kernel chooses one by itself.

        `tls`: speak TLS, in which a missing close_notify is an error. `host`: the server's name.
        `session`: to resume. `before`: what is sent before the handshake.
        """
        self._sock = _socket(address)
        if source is not None:
            self._sock.bind(source)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.settimeout(timeout)
        try:
            self._sock.connect(_socket_address(address))
        except OSError:
            self._sock.close()
            raise
        if not self.is_unix:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            try:
                if before:
                    self._sock.sendall(before)
                self._sock = tls.wrap_socket(
                    self._sock,
                    server_hostname=host,
                    session=session,
                    suppress_ragged_eofs=False,
                )
            except OSError:
                self._sock.close()
                raise
        self._parser: h11.Connection | None = None
        self._unread = b""

    @property
    def tls(self) -> ssl.SSLSocket:
        """The socket of a client that speaks TLS."""
        assert isinstance(self._sock, ssl.SSLSocket)
        return self._sock

    @property
    def is_unix(self) -> bool:
        return self._sock.family == socket.AF_UNIX

    @property
    def local(self) -> tuple[str, int]:
        """Host and port of this end."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    @property
    def remote(self) -> tuple[str, int]:
        """Host and port of the listener's end; of a unix socket its path and 0."""
        if self.is_unix:
            return self._sock.getpeername(), 0
        host, port = self._sock.getpeername()[:2]
        return host, port

    # Sending

    def send(self, data: bytes) -> None:
        """Send all of `data`, in one segment where it fits."""
        self._sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send `data` one byte a segment."""
        for position in range(len(data)):
            self._sock.sendall(data[position : position + 1])

    def send_split(self, data: bytes, seed: int) -> None:
        """Send `data` in segments of random sizes, the same ones for the same seed."""
        sizes = random.Random(seed)
        while data:
            size = sizes.randint(1, 40)
            self._sock.sendall(data[:size])
            data = data[size:]

    def finish_sending(self) -> None:
        """Send FIN; this end can still read."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST and forget the connection (on a unix socket: close with unread data lost)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    @contextmanager
    def sending(self, pieces: Iterable[bytes], *, may_be_cut: bool = False) -> Iterator[None]:
        """Send `pieces` from a thread while the block reads.

        With `may_be_cut` it is fine that the server stops reading before all of it is sent.
        """
        failures: list[OSError] = []

        def run() -> None:
            try:
                for piece in pieces:
                    self._sock.sendall(piece)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield
        if may_be_cut:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        thread.join(20)
        assert not thread.is_alive(), "the server takes no more bytes"
        if failures and not may_be_cut:
            raise failures[0]

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Read from a thread as fast as can be while the block runs, then reset the connection."""
        done = threading.Event()

        def run() -> None:
            while not done.is_set() and self._sock.recv(1 << 20):
                pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(20)
            self.reset()

    # Reading

    def request(
        self, method: str, target: str, fields: Fields = (), body: bytes | None = None
    ) -> Response:
        """Send one request and read its response."""
        self.send(request(method, target, fields, body))
        return self.response(method)

    def get(self, target: str) -> Response:
        """GET with an expectation of 200."""
        answer = self.request("GET", target)
        assert answer.status == 200, f"{answer.status} for {target}: {answer.body[:200]!r}"
        return answer

    def response(self, method: str = "GET") -> Response:
        """Read the next response, which answers a request with `method`, to its end."""
        response = self.begin(method)
        response.body = b"".join(self.pieces())
        return response

    def begin(self, method: str = "GET") -> Response:
        """Read the head of the next response; `pieces` reads its body."""
        interim: list[int] = []
        while isinstance(event := self._event(method), h11.InformationalResponse):
            interim.append(event.status_code)
        assert isinstance(event, h11.Response), event
        fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        return Response(event.status_code, bytes(event.http_version), fields, interim)

    def informational(self, method: str) -> int:
        """Read one 1xx response and return its status code."""
        event = self._event(method)
        assert isinstance(event, h11.InformationalResponse), event
        return event.status_code

    def pieces(self) -> Iterator[bytes]:
        """The rest of the body of the response that `begin` began, as it comes."""
        while isinstance(event := self._event(), h11.Data):
            yield bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        assert self._parser is not None
        self._unread = self._parser.trailing_data[0]
        self._parser = None

    def _event(self, method: str = "GET") -> Any:
        if self._parser is None:
            self._parser = h11.Connection(h11.CLIENT)
            self._parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
            self._parser.send(h11.EndOfMessage())
            if self._unread:
                self._parser.receive_data(self._unread)
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            self._parser.receive_data(self._sock.recv(65536))
        return event

    def rest(self) -> bytes:
        """All that comes to the end of the connection, unparsed; a reset ends it too."""
        data, self._unread = self._unread, b""
        try:
            while piece := self._sock.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def at_end(self) -> bool:
        """Wait for the server's FIN, with nothing before it; a reset raises."""
        return not self._unread and self._sock.recv(1) == b""

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def request(method: str, target: str, fields: Fields = (), body: bytes | None = None) -> bytes:
    """The bytes of an HTTP/1.1 request with Host, and Content-Length where there is a body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` in the chunked coding (RFC 9112, section 7.1), each one chunk."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _socket(address: str) -> socket.socket:
    if address.startswith("unix:"):
        return socket.socket(socket.AF_UNIX)
    return socket.socket(socket.AF_INET6 if "[" in address else socket.AF_INET)


def _socket_address(address: str) -> Any:
    if address.startswith("unix:"):
        return address.removeprefix("unix:")
    parts = urlsplit(address)
    return parts.hostname, parts.port
