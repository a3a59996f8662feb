"""Clients of TLS: one that is kept, many that only begin a handshake, many that idle."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.errors import RunFailed
from bench.load.client import request
from bench.load.reply import Reply

_TIMEOUT = 20.0


def _context(*, http2: bool = False) -> ssl.SSLContext:
    """The certificate of the server is signed by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if http2:
        context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecretSocket:
    """A socket of a client that speaks TLS, used like a plain one that does not block."""

    def __init__(self, sock: socket.socket) -> None:
        """Do the handshake. Raises OSError."""
        self._sock = _context().wrap_socket(sock)
        self.fileno = self._sock.fileno
        self.setblocking = self._sock.setblocking
        self.close = self._sock.close

    def send(self, data: bytes | memoryview) -> int:
        """Send bytes; return how many. Raises BlockingIOError and OSError."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv(self, size: int) -> bytes:
        """Return all that has arrived, also beyond `size`. Raises BlockingIOError and OSError."""
        parts = []
        try:
            while piece := self._sock.recv(size):
                parts.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not parts:
                raise BlockingIOError from None
        return b"".join(parts)


def connect(address: tuple[str, int], *, http2: bool = False) -> ssl.SSLSocket:
    """A connection after its handshake. Raises RunFailed."""
    try:
        sock = socket.create_connection(address, timeout=_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context(http2=http2).wrap_socket(sock)
    except OSError as error:
        raise RunFailed(f"no connection: {error}") from None


def ask(sock: ssl.SSLSocket) -> None:
    """Send a request, and read its answer. Raises RunFailed."""
    try:
        sock.sendall(request("/"))
        reply = Reply()
        while not reply.is_whole:
            data = sock.recv(65536)
            if not data:
                raise RunFailed("a connection was closed before its answer")
            reply.feed(data)
    except OSError as error:
        raise RunFailed(f"a request failed: {error}") from None


def ask_http2(sock: ssl.SSLSocket) -> None:
    """Send a request of HTTP/2, and read its answer. Raises RunFailed."""
    # Few workloads need it.
    import h2.connection
    import h2.events

    if sock.selected_alpn_protocol() != "h2":
        raise RunFailed("the server does not speak HTTP/2")
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    fields = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/"}
    connection.send_headers(1, list(fields.items()), end_stream=True)
    try:
        while True:
            sock.sendall(connection.data_to_send())
            data = sock.recv(65536)
            if not data:
                raise RunFailed("a connection was closed before its answer")
            events = connection.receive_data(data)
            if any(isinstance(event, h2.events.StreamEnded) for event in events):
                sock.sendall(connection.data_to_send())
                return
    except OSError as error:
        raise RunFailed(f"a request failed: {error}") from None


@contextmanager
def idle(address: tuple[str, int], count: int, *, http2: bool = False) -> Iterator[None]:
    """Keep so many connections. Each has been answered once. Raises RunFailed."""
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(connect(address, http2=http2))
            (ask_http2 if http2 else ask)(sock)
        yield


def beside_hellos(address: tuple[str, int], count: int, seconds: float) -> list[float]:
    """Ask on a kept connection again and again, each time just after `count` ClientHellos.

    Returns how long each answer took, in seconds. Raises RunFailed.
    """
    times = []
    with connect(address) as kept:
        ask(kept)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with ExitStack() as stack:
                socks = []
                for _ in range(count):
                    sock = stack.enter_context(socket.create_connection(address, _TIMEOUT))
                    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                    try:
                        _context().wrap_bio(incoming, outgoing).do_handshake()
                    except ssl.SSLWantReadError:
                        pass
                    socks.append((sock, outgoing.read()))
                # The server has accepted all of them when it answers this.
                ask(kept)
                for sock, hello in socks:
                    sock.sendall(hello)
                begin = time.monotonic()
                ask(kept)
                times.append(time.monotonic() - begin)
                # Nothing is left over for the next turn.
                for sock, _ in socks:
                    sock.recv(1)
    return times
