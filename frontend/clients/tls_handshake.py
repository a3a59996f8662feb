"""The TLS handshake of one connection.

What it waits for in each state. The deadline of every state is --handshake-timeout:

    SILENT    the client: its first byte
    READING   the client: its next message
    QUEUED    its turn: the loop takes one step of one handshake after each batch of events
    FLUSHING  the client: to take the last messages of the server
    ENDED     the connection speaks HTTP, lingers after an alert, or is closed

A step takes 0.2 to 2 ms, most of it for one signature. So steps are deferred, and requests on other
connections go first. The bytes of the handshake are written like an answer, over the plain socket.

A client that sends a plain request instead gets a plain answer with status 400.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.connection import (
    Connection,
    ConnectionPhase,
    ConnectionProtocol,
)
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.tls_connection import TlsConnection
from reactor_run.frontend.clients.tls_transport import TlsTransport
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.log import limited
from reactor_run.frontend.tls.credentials import Credentials
from reactor_run.protocol import policy
from reactor_run.protocol.proxy import Endpoint
from reactor_run.protocol.tls import Tlvs

__all__ = ["TlsHandshake", "TlsHandshakeState", "TlsService"]

_READ: Final = 65536
_HELD_MAX: Final = 65536
"""The bytes that wait for their turn, beyond which the client is not read."""


class TlsHandshakeState(Enum):
    """The state of a handshake; the head of this file explains each."""

    SILENT = "silent"
    READING = "reading"
    QUEUED = "queued"
    FLUSHING = "flushing"
    ENDED = "ended"


_SILENT: Final = TlsHandshakeState.SILENT
_READING: Final = TlsHandshakeState.READING
_QUEUED: Final = TlsHandshakeState.QUEUED
_FLUSHING: Final = TlsHandshakeState.FLUSHING
_ENDED: Final = TlsHandshakeState.ENDED


class Speaker(Protocol):
    """Lets a connection speak HTTP: the acceptor does."""

    def speak(
        self,
        connection: Connection,
        context: ClientContext,
        source: Endpoint,
        destination: Endpoint,
        *,
        https: bool,
        tls: Tlvs,
        http2: bool = False,
    ) -> ConnectionProtocol:
        """Speak HTTP on a connection. `https`: it has TLS. `tls`: what reactors are told of it.

        `http2`: the client has chosen HTTP/2; else it is HTTP/1.1.
        """


class TlsService:
    """What all handshakes of one front end share.

    credentials: those in force. A reload replaces them.
    """

    def __init__(self, credentials: Credentials, timeout: float) -> None:
        """`timeout`: seconds for a handshake."""
        self.credentials = credentials
        self.timeout = timeout

    def begin(
        self,
        speaker: Speaker,
        context: ClientContext,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        on_close: Callable[[Connection], None],
    ) -> TlsHandshake:
        """Begin the handshake of a new connection. Raises OSError.

        `context`: of its requests. `on_close`: called when the connection has ended.
        """
        connection = TlsConnection(context, Transport(sock), on_close)
        return TlsHandshake(self, speaker, context, connection, source, destination)


class TlsHandshake:
    """The handshake of one connection: a `ConnectionProtocol`.

    state: see the head of this file.
    """

    __slots__ = (
        "_context",
        "_credentials",
        "_ends",
        "_incoming",
        "_outgoing",
        "_service",
        "_speaker",
        "_tls",
        "connection",
        "state",
    )

    state_name = "handshake"

    def __init__(
        self,
        service: TlsService,
        speaker: Speaker,
        context: ClientContext,
        connection: TlsConnection,
        source: Endpoint,
        destination: Endpoint,
    ) -> None:
        """`source`, `destination`: the ends of the connection. Raises OSError."""
        self._service = service
        self._context = context
        self._speaker = speaker
        self._ends = (source, destination)
        self.connection = connection
        self.state = _SILENT
        self._credentials = service.credentials
        self._tls: ssl.SSLObject | None = None
        """It takes memory, so it is made when the first byte has arrived."""
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None
        connection.begin(self)
        connection.wait(service.timeout)

    # What happens on the socket ------------------------------------------------------------------

    def on_readable(self) -> None:
        """Read the bytes or the FIN that have arrived."""
        try:
            data = self.connection.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.take(data)
        else:
            self._fail("the client left")

    def take(self, data: bytes) -> None:
        """Take the next bytes of the client, and queue for a turn."""
        if self.state is _SILENT:
            if _looks_like_http(data):
                self._answer_plainly(data)
                return
            self._incoming = ssl.MemoryBIO()
            self._outgoing = ssl.MemoryBIO()
            self._credentials = self._service.credentials
            self._tls = self._credentials.wrap(self._incoming, self._outgoing)
        assert self._incoming is not None
        self._incoming.write(data)
        if self.state is not _QUEUED:
            self.state = _QUEUED
            self._context.loop.defer(self._step)
        if self._incoming.pending > _HELD_MAX:
            self.connection.read(False)

    def on_drained(self) -> None:
        """Go on: the client has taken the last messages."""
        if self.state is _FLUSHING:
            self._finish()

    def on_lost(self, error: str) -> None:
        """Note that the connection closes next."""
        self._count("the client left")
        self._end()

    def on_fault(self) -> None:
        """Close after an internal error."""
        self.connection.lose()

    # The handshake -------------------------------------------------------------------------------

    def _step(self) -> None:
        """Work off what has arrived: the turn has come."""
        if self.state is not _QUEUED:
            return
        assert self._tls is not None
        assert self._outgoing is not None
        self.state = _READING
        failure = ""
        done = False
        try:
            self._tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            failure = reason_of(error)
        except OSError as error:
            failure = error.strerror or "unknown"
        written = self._outgoing.read()
        if written:
            self.connection.write(written)
        if self.connection.phase is not ConnectionPhase.OPEN:
            return
        if failure:
            self._fail(failure, alerted=bool(written))
        elif not done:
            self.connection.read(True)
        elif self.connection.unsent:
            self.state = _FLUSHING
            self.connection.read(False)
        else:
            self._finish()

    def _finish(self) -> None:
        """Speak HTTP: the handshake is done."""
        tls = self._tls
        assert tls is not None
        assert self._incoming is not None
        assert self._outgoing is not None
        self.state = _ENDED
        connection = self.connection
        self._context.counters.handshakes[tls.version() or ""] += 1
        sock = connection.transport.sock
        connection.secure(TlsTransport(sock, tls, self._incoming, self._outgoing))
        told = self._credentials.describe(tls)
        http2 = tls.selected_alpn_protocol() == "h2"
        client = self._speaker.speak(
            connection, self._context, *self._ends, https=True, tls=told, http2=http2
        )
        connection.read(True)
        if connection.transport.ready:
            # A request came together with the client's last message.
            client.on_readable()
            connection.look_again()
        if self._context.draining:
            client.shut(self._context.close_grace)

    def _fail(self, reason: str, *, alerted: bool = False) -> None:
        """End the connection. `alerted`: the client has to read an alert."""
        self._count(reason)
        self._end()
        if alerted:
            # A close with unread bytes would destroy the alert.
            self.connection.linger()
        else:
            self.connection.close()

    def _end(self) -> None:
        """Drop what the handshake needs. The connection, which refers to it, is freed late."""
        self.state = _ENDED
        self._tls = self._incoming = self._outgoing = None

    def _count(self, reason: str) -> None:
        """Count a failure. A client that has sent nothing did not want a handshake."""
        if self.state is not _SILENT:
            self._context.counters.failed_handshakes[reason] += 1
            limited.debug("a TLS handshake has failed: %s", reason, kind=reason)

    def _answer_plainly(self, data: bytes) -> None:
        """Reject a plain HTTP request."""
        self.state = _ENDED
        client = self._speaker.speak(
            self.connection, self._context, *self._ends, https=False, tls=()
        )
        assert isinstance(client, Http1)
        client.requester.reject(policy.TLS_EXPECTED, data)

    # What the service asks -----------------------------------------------------------------------

    @property
    def idle_since(self) -> float:
        """When it became idle, in seconds of the loop's clock; inf if it is not idle."""
        return self.connection.accepted if self.state is _SILENT else inf

    def shed(self) -> bool:
        """Close a silent connection to make room; return whether it was closed."""
        if self.state is not _SILENT or not self.connection.close_if_silent():
            return False
        self.state = _ENDED
        return True

    def shut(self, grace: float) -> None:
        """End within `grace` seconds: the service stops. A last request may be on its way."""
        if not grace:
            self._end()
            self.connection.close()
        elif self._context.loop.now + grace < self.connection.due:
            self.connection.wait(grace)

    def on_deadline(self) -> None:
        """Close: the handshake takes too long."""
        self._fail("timeout")


def reason_of(error: ssl.SSLError) -> str:
    """Return why a handshake has failed, as in `no shared cipher`."""
    return (error.reason or "unknown").lower().replace("_", " ")


def _looks_like_http(data: bytes) -> bool:
    """Return whether bytes begin like a request. A TLS record begins with 0x16 (RFC 8446 §5.1)."""
    return b"A" <= data[:1] <= b"Z"
