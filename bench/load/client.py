"""An HTTP client for thousands of connections in one thread: one epoll set, timers, no framework.

`Client.run` drives everything; loads give it timers (`at`) and requests (`ask`).
"""

from __future__ import annotations

import errno
import gc
import heapq
import itertools
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bench.load.answers import Answer, Outcome
from bench.load.reply import Garbled, Reply

_READ: Final = 64 * 1024


def request(path: str, host: str = "bench", body: bytes | None = None) -> bytes:
    """A GET, or a POST with this body."""
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """One connection; at most one request under way."""

    __slots__ = ("answer", "done", "error", "is_open", "out", "reply", "sock")

    def __init__(self, sock: socket.socket, error: int) -> None:
        self.sock = sock
        self.error = error
        """Of the connect, if it failed at once."""
        self.is_open = True
        self.answer: Answer | None = None
        self.reply = Reply()
        self.out = b""
        self.done: Callable[[Connection, Answer], None] | None = None


class Client:
    """Connections to one address, and a clock."""

    def __init__(self, address: tuple[str, int], *, timeout: float = 5.0) -> None:
        """`timeout`: seconds from a request's due time after which it is given up."""
        self.address = address
        self.timeout = timeout
        self.open = 0
        """Connections."""
        self.under_way = 0
        """Requests."""
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._deadlines: deque[tuple[float, Connection, Answer]] = deque()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at this time of the monotonic clock."""
        heapq.heappush(self._timers, (when, next(self._order), action))

    def connect(self) -> Connection:
        """Begin a connection; requests on it wait until it is there."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = sock.connect_ex(self.address)
        connection = Connection(sock, 0 if error == errno.EINPROGRESS else error)
        self._connections[sock.fileno()] = connection
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self.open += 1
        return connection

    def ask(
        self,
        connection: Connection,
        what: bytes,
        answer: Answer,
        done: Callable[[Connection, Answer], None],
    ) -> None:
        """Send a request; `done` is called when it has ended, however it did."""
        connection.answer, connection.done, connection.reply = answer, done, Reply()
        connection.out = what
        self.under_way += 1
        # In the order of their due times, nearly; a late one is given up a little later.
        self._deadlines.append((answer.due + self.timeout, connection, answer))
        self._send(connection)

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Go on until the condition holds, looked at after each batch; at most to `limit`."""
        wait = [self._poll.fileno()]
        collecting = gc.isenabled()
        gc.disable()
        try:
            while not until():
                now = time.monotonic()
                if now >= limit:
                    return
                while self._timers and self._timers[0][0] <= now:
                    heapq.heappop(self._timers)[2]()
                self._give_up(now)
                next_timer = self._timers[0][0] if self._timers else limit
                pause = min(next_timer, limit, now + 0.1) - time.monotonic()
                # epoll_wait counts in milliseconds, select in microseconds.
                if pause > 0:
                    select.select(wait, (), (), pause)
                for number, events in self._poll.poll(0):
                    connection = self._connections.get(number)
                    if connection is not None:
                        self._on_events(connection, events)
        finally:
            if collecting:
                gc.enable()

    def close(self) -> None:
        """Close every connection; requests under way are left as they are."""
        for connection in list(self._connections.values()):
            self._forget(connection)
        self._poll.close()

    def _send(self, connection: Connection) -> None:
        if connection.error:
            self._broken(connection, connection.error)
            return
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(connection, error.errno)
            return
        connection.out = connection.out[sent:]
        events = select.EPOLLIN | (select.EPOLLOUT if connection.out else 0)
        self._poll.modify(connection.sock.fileno(), events)

    def _on_events(self, connection: Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(connection)
        if connection.is_open and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(connection, error.errno)
            return
        if not data:
            self._forget(connection)
            reply = connection.reply
            if reply.eof():
                self._answered(connection)
            else:
                self._end(connection, Outcome.CUT if reply.begun else Outcome.CLOSED)
            return
        if connection.answer is None:
            self._forget(connection)
            return
        try:
            whole = connection.reply.feed(data)
        except Garbled:
            self._forget(connection)
            self._end(connection, Outcome.GARBLED)
            return
        if whole:
            if connection.reply.closes:
                self._forget(connection)
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        reply = connection.reply
        if reply.status == 503:
            outcome = Outcome.REFUSED if reply.retry else Outcome.BARE_503
        else:
            outcome = Outcome.OK if reply.status < 400 else Outcome.STATUS
        self._end(connection, outcome)

    def _broken(self, connection: Connection, error: int | None) -> None:
        refused = error in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EADDRNOTAVAIL)
        self._forget(connection)
        self._end(connection, Outcome.CONNECT if refused else Outcome.RESET)

    def _end(self, connection: Connection, outcome: Outcome) -> None:
        answer, done = connection.answer, connection.done
        if answer is None or done is None:
            return
        connection.answer = connection.done = None
        answer.ended, answer.outcome = time.monotonic(), outcome
        self.under_way -= 1
        done(connection, answer)

    def _give_up(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, connection, answer = self._deadlines.popleft()
            if connection.answer is answer:
                self._forget(connection)
                self._end(connection, Outcome.TIMEOUT)

    def _forget(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            self.open -= 1
            del self._connections[connection.sock.fileno()]
            connection.sock.close()


def warm(client: Client, connections: Sequence[Connection], what: bytes, seconds: float) -> int:
    """Ask once on each connection; how many answered within the time."""
    now = time.monotonic()
    answers = [Answer("warm", now, now) for _ in connections]
    for connection, answer in zip(connections, answers, strict=True):
        client.ask(connection, what, answer, lambda connection, answer: None)
    client.run(lambda: client.under_way == 0, time.monotonic() + seconds)
    return sum(answer.outcome is Outcome.OK for answer in answers)
