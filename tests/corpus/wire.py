"""The corpus over real sockets: many connections at once, which send in turn."""

from __future__ import annotations

import errno
import json
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import h11

from reactor_run.protocol.policy import RULES
from tests.corpus.loader import Accepted, Case, Outcome, Refusal, Silence
from tests.corpus.reading import check_seen

_SECRET_LOT = 60
"""Most connections with TLS at once."""
DEADLINE = 30.0
"""Most seconds without an event on any connection."""

FOLLOW_UP = b"GET /follow-up HTTP/1.1\r\nHost: a.example\r\n\r\n"
FOLLOWED = Accepted(keep=True, method="GET", target="/follow-up")

Cut = Callable[[Case], list[bytes]]


class Wrong(Exception):
    """The outcome of a connection is not what its case says."""


class Connection:
    """One case in progress."""

    def __init__(
        self, address: str, case: Case, pieces: list[bytes], tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls`: the pieces are records of TLS."""
        self.case = case
        self.sock = connect(address) if tls is None else SecretSocket(connect(address), tls)
        self.over = False
        self._to_send = deque(pieces)
        self._to_come: deque[Outcome] = deque(case.outcomes)
        self._received = b""
        self._parser: h11.Connection | None = None
        self._status = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = b""
        if case.keep:
            self._to_come.append(FOLLOWED)

    def send(self) -> bool:
        """Send the next piece; return whether there was one to send."""
        if self.over or not self._to_send:
            return False
        try:
            sent = self.sock.send(self._to_send[0])
        except BlockingIOError:
            return False
        except OSError:
            # The server has closed the connection. Its answers tell whether it was right.
            self._to_send.clear()
            return False
        self._to_send[0] = self._to_send[0][sent:]
        if not self._to_send[0]:
            self._to_send.popleft()
            if not self._to_send and self.case.fin:
                self.sock.shutdown(socket.SHUT_WR)
        return True

    def receive(self) -> None:
        """Read what has arrived, and compare it. Raises Wrong."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            if isinstance(self.case.outcomes[-1], Accepted) and not self._to_come:
                # The bytes that it sent after `Connection: close` were not read. It could know
                # that.
                self.over = True
                return
            raise Wrong(f"{error.strerror} before {self._awaited()}") from None
        if not data:
            self._end()
            return
        self._received += data
        while self._received:
            self._read()
        if not self._to_come and self.case.keep:
            self.over = True

    def _awaited(self) -> str:
        return str(self._to_come[0]) if self._to_come else "the end"

    def _end(self) -> None:
        if self._to_come and not isinstance(self._to_come[0], Silence):
            raise Wrong(f"the connection ended before {self._awaited()}")
        if self._parser is not None:
            raise Wrong("the connection ended within an answer")
        self.over = True

    def _read(self) -> None:
        """Read on in an answer, or in the next one."""
        if self._parser is None:
            if not self._to_come or isinstance(self._to_come[0], Silence):
                raise Wrong(f"unasked for: {self._received[:200]!r}")
            self._parser = h11.Connection(h11.CLIENT)
            self._parser.send(h11.Request(method=self._method(), target="/", headers=[HOST]))
            self._parser.send(h11.EndOfMessage())
        data, self._received = self._received, b""
        try:
            self._parser.receive_data(data)
            while True:
                event = self._parser.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                    self._fields = [(bytes(name), bytes(value)) for name, value in event.headers]
                elif isinstance(event, h11.Data):
                    self._body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._received = self._parser.trailing_data[0]
                    self._parser = None
                    self._compare(self._to_come.popleft())
                    return
                elif event is h11.NEED_DATA:
                    return
        except h11.RemoteProtocolError as error:
            raise Wrong(f"no answer, but {data[:200]!r}: {error}") from None

    def _method(self) -> str:
        """Return the method of the request that the next answer belongs to."""
        awaited = self._to_come[0]
        if isinstance(awaited, Accepted):
            return awaited.method
        first = len(self._to_come) == len(self.case.outcomes)
        return "HEAD" if first and self.case.data.startswith(b"HEAD ") else "GET"

    def _compare(self, expected: Outcome) -> None:
        """Compare the answer, which is complete."""
        body, self._body = self._body, b""
        fields = dict(self._fields)
        connection = fields.get(b"connection", b"").lower()
        if b"content-length" not in fields:
            raise Wrong("an answer without Content-Length")
        if isinstance(expected, Refusal):
            reason = RULES[expected.rule].reason + "\n"
            wanted = b"" if self._head_was_refused() else reason.encode()
            if (self._status, body) != (expected.status, wanted):
                raise Wrong(f"{self._status} {body!r} instead of {expected}")
            if connection != b"close":
                raise Wrong("a refusal without `connection: close`")
            # The pieces that are left to send can change nothing any more.
            self._to_send.clear()
            return
        assert isinstance(expected, Accepted)
        if self._status != expected.status:
            raise Wrong(f"{self._status} {body!r:.200} instead of {expected}")
        if not self.case.fin and (connection == b"close") == expected.keep:
            raise Wrong(f"`connection: {connection.decode()}` instead of {expected}")
        if expected.method != "HEAD":
            try:
                check_seen(expected, json.loads(body))
            except AssertionError as error:
                raise Wrong(f"the app saw another request: {error}") from None
        if self.case.keep and len(self._to_come) == 1:
            self._to_send.append(FOLLOW_UP)

    def _head_was_refused(self) -> bool:
        return len(self.case.outcomes) == 1 and self.case.data.startswith(b"HEAD ")


class SecretSocket:
    """A non-blocking socket that speaks TLS, as far as a `Connection` uses it.

    FIN is close_notify. If the server ends the connection without it, `recv` raises OSError.

    The records are made in memory: `SSLSocket.unwrap` would lose answers that arrive meanwhile.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._left = b""
        self._ended = False
        self.fileno = sock.fileno
        self.close = sock.close
        sock.settimeout(DEADLINE)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                self._incoming.write(sock.recv(1 << 18))
        self._left = self._outgoing.read()
        sock.setblocking(False)

    def send(self, data: bytes) -> int:
        self._flush()
        self._tls.write(data)
        self._left = self._outgoing.read()
        with suppress(BlockingIOError):
            self._flush()
        return len(data)

    def _flush(self) -> None:
        while self._left:
            self._left = self._left[self._sock.send(self._left) :]

    def recv(self, size: int) -> bytes:
        if self._ended:
            return b""
        arrived = self._sock.recv(size)
        if not arrived:
            raise ConnectionResetError(errno.ECONNRESET, "no close_notify")
        self._incoming.write(arrived)
        data = b""
        try:
            while piece := self._tls.read(size):
                data += piece
            self._ended = True
        except ssl.SSLWantReadError:
            if not data:
                raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            self._ended = True
        return data

    def shutdown(self, _: int) -> None:
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._left += self._outgoing.read()
        self._flush()


HOST = (b"host", b"a.example")


def connect(address: str) -> socket.socket:
    """Return a connection on which every piece becomes a segment."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    sock = socket.create_connection((parts.hostname, parts.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def run(
    address: str, cases: Sequence[Case], cut: Cut, tls: ssl.SSLContext | None = None
) -> list[str]:
    """Run the cases, each cut into pieces by `cut`; return the failures, line by line.

    `tls`: run them inside TLS.

    Without TLS all cases run at once, except those with a FIN: a client that sends FIN while its
    request waits in the queue has given up.
    """
    together = [case for case in cases if not case.fin]
    # TLS takes so long that the last of many clients would be slower than servers allow.
    lot = _SECRET_LOT if tls is not None else max(1, len(together))
    failures = []
    for start in range(0, len(together), lot):
        failures += _run_at_once(address, together[start : start + lot], cut, tls)
    for case in cases:
        if case.fin:
            failures += _run_at_once(address, [case], cut, tls)
    return failures


def _run_at_once(
    address: str, cases: Sequence[Case], cut: Cut, tls: ssl.SSLContext | None
) -> list[str]:
    connections = [Connection(address, case, cut(case), tls) for case in cases]
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    failures = []
    epoll = select.epoll()
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    deadline = time.monotonic() + DEADLINE
    while by_fd:
        sent = [connection.send() for connection in by_fd.values()]
        events = epoll.poll(0 if any(sent) else 0.1)
        for fd, _ in events:
            connection = by_fd[fd]
            try:
                connection.receive()
            except Wrong as wrong:
                failures.append(f"{connection.case}: {wrong}")
                connection.over = True
            if connection.over:
                del by_fd[fd]
                epoll.unregister(fd)
                connection.sock.close()
        if events or any(sent):
            deadline = time.monotonic() + DEADLINE
        elif time.monotonic() > deadline:
            break
    for connection in by_fd.values():
        failures.append(f"{connection.case}: nothing more came, but {connection._awaited()}")
        connection.sock.close()
    epoll.close()
    return failures
