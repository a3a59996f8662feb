"""A real front end in a thread of the test, with reactors that the test plays.

Everything goes over real sockets. Clients connect to real listeners. A stand-in for a reactor holds
the far end of a real control channel. Its process only sleeps; a test may kill it.

No test waits for time to pass:

- `Front.pass_time` moves the clock of the front end.
- `Front.settle` returns when the loop has handled all its events. An effect that is missing then
  does not follow later. `settle` fails if the loop spins.
- `Front.held` stops the loop. All events of the block reach it in one batch, in their order.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import pytest

from reactor_run.dump import DUMP
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors import supervisor as supervisor_module
from reactor_run.frontend.reactors.command_line import CommandLine
from reactor_run.frontend.reactors.process import Command
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.frontend.service import server as server_module
from reactor_run.frontend.service.endpoints import Endpoints
from reactor_run.frontend.service.notify import Notifier
from reactor_run.frontend.service.server import Server
from reactor_run.frontend.sockets.addresses import parse_bind
from reactor_run.frontend.sockets.listeners import open_listeners
from reactor_run.protocol.body import BodyReader, body_reader
from reactor_run.protocol.control import ControlDecoder, encode_control
from reactor_run.protocol.express import (
    ABORT,
    ANSWER_DONE,
    ASK,
    BEGIN,
    BLOCKED,
    BODY,
    BUFFERED,
    BYTES,
    CANCEL,
    CREDIT_FOR_ANSWER,
    CREDIT_FOR_BODY,
    DONE,
    END,
    EXPRESS_MAX,
    FIN,
    GIVE_BACK,
    GONE,
    GRANT,
    INTERIM,
    MOVES,
    PIECE_MAX,
    REQUEST,
    WINDOW,
    WITHDRAW,
    WRITTEN,
    pack_count,
    pack_message,
    pack_number,
    read_buffered,
    read_count,
    read_number,
    read_requests,
)
from reactor_run.protocol.origin import NOWHERE, Origin, read_origin
from reactor_run.protocol.proxy import decode_v2
from reactor_run.protocol.response_head import KnownResponseHeads
from reactor_run.pulse import BEGUN, STREAM_SLOTS, Pulse
from tests.integration.client import Client
from tests.integration.waiting import eventually

__all__ = [
    "OK",
    "Front",
    "LaneEnd",
    "LinkEnd",
    "Pieces",
    "StandIn",
    "StandInZygote",
    "answer",
    "get",
    "post",
    "pour",
]

DEADLINE = 30.0
"""The most seconds of real time that one step of a test may take."""

T = TypeVar("T")
_names = itertools.count(1)


def get(path: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *fields, "", ""]).encode()


def post(body: bytes, *fields: str, path: str = "/") -> bytes:
    """A request with a Content-Length body."""
    return get(path, f"Content-Length: {len(body)}", *fields, method="POST") + body


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """An answer with a Content-Length body."""
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


OK = answer(b"ok")


class LaneEnd:
    """A reactor's end of a lane; blocking, with a deadline."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        tell: Callable[[int], None] = lambda state: None,
    ) -> None:
        """`tell`: shows the front end what is on this lane: NOT_BEGUN, BEGUN or WAITS."""
        sock.settimeout(DEADLINE)
        self.number = number
        self.sock = sock
        self.tell = tell

    def head(self, *, begin: bool = True) -> bytes:
        """The PROXY header, which must be one, and the head of the next request. The app has begun
        it then, unless told otherwise."""
        data = b""
        while (header := decode_v2(data)) is None:
            data += self.exactly(1)
        assert header.source is not None or not header.source
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        if begin:
            self.tell(BEGUN)
        return head

    def exactly(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = bytearray()
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece, f"the lane ended after {bytes(data)!r}"
            data += piece
        return bytes(data)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def fill(self, data: bytes) -> int:
        """Send as much of `data` as goes at once; return how many bytes that was."""
        sent = 0
        self.sock.setblocking(False)
        try:
            while sent < len(data):
                sent += self.sock.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
        self.sock.settimeout(DEADLINE)
        return sent

    @property
    def silent(self) -> bool:
        """Whether there are no bytes to read, and no end."""
        return _silent(self.sock)

    @property
    def ended(self) -> bool:
        """Whether the front end has half-closed or closed it, and no bytes are left to read."""
        try:
            return not self.silent and self.sock.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            return True

    @property
    def closed(self) -> bool:
        """Whether the front end has closed both directions."""
        return bool(_events(self.sock) & select.POLLHUP)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class Pieces:
    """A reactor's end of one exchange on the express lane, in pieces.

    It can be used like a `LaneEnd`, so that a test can run on both kinds of link: `send` takes the
    bytes of HTTP/1.1 answers, and sends the messages that a reactor would send for them.
    """

    def __init__(self, reactor: StandIn, number: int, request: bytes) -> None:
        """`request`: the payload of the message that began the exchange."""
        self.reactor = reactor
        self.number = number
        self.credits_body = True
        """Credit each byte of the request that the test reads, as soon as it is read."""
        self.answer_credit = WINDOW
        """Bytes that may still be sent as BYTES."""
        self.credited = 0
        """All bytes of the answer that the front end has credited."""
        self.body = 0
        """All bytes that came as BODY."""
        self.buffered = 0
        """Of these, the bytes that were in buffers."""
        self.kinds: list[int] = []
        """The kinds of all other messages that came, in order."""
        self.connection = 0
        """The number in the last GRANT."""
        self.asked = False
        """The answer began with ASK."""
        self._method = request.split(b" ", 1)[0]
        self._data = bytearray(request)
        self._credited_body = len(request)
        """Bytes of the request that need no more credit."""
        self._partial = b""
        """The first bytes of an answer head that is not whole."""
        self._reader: BodyReader | None = None

    # The request

    def head(self, *, begin: bool = True) -> bytes:
        """The head of the request. The app has begun it then, unless told otherwise."""
        end = self._data.index(b"\r\n\r\n") + 4
        head = self.exactly(end)
        if begin:
            self.tell(BEGUN)
        return head

    def exactly(self, size: int) -> bytes:
        """Read exactly `size` bytes of the request."""
        data = b""
        while len(data) < size:
            if not self._data:
                self._take_one()
            piece = bytes(self._data[: size - len(data)])
            del self._data[: len(piece)]
            data += piece
            free = min(len(piece), self._credited_body)
            self._credited_body -= free
            if self.credits_body and len(piece) > free:
                self.credit(len(piece) - free)
        return data

    def _take_one(self) -> None:
        kind, payload = self.reactor.message_of(self.number)
        assert kind in (BODY, BUFFERED, CREDIT_FOR_ANSWER), (
            f"{kind:x} after {bytes(self._data[-100:])!r}"
        )
        self.take(kind, payload)

    def take(self, kind: int, payload: bytes) -> None:
        """Take one message."""
        if kind == BUFFERED:
            kind, payload = BODY, self.reactor.pulse.request_buffers.take(*read_buffered(payload))
            self.buffered += len(payload)
        if kind == BODY:
            assert 0 < len(payload) <= PIECE_MAX
            self.body += len(payload)
            self._data += payload
        elif kind == CREDIT_FOR_ANSWER:
            self.credited += read_count(payload)
            self.answer_credit += read_count(payload)
        else:
            self.kinds.append(kind)
            if kind == GRANT:
                self.connection = read_number(payload)

    def take_all(self) -> None:
        """Take all messages that have arrived."""
        for kind, payload in self.reactor.messages_of(self.number):
            self.take(kind, payload)

    def hear(self, kind: int) -> None:
        """Take messages up to the next one of `kind`, credit and bytes apart."""
        before = len(self.kinds)
        while len(self.kinds) == before:
            self.take(*self.reactor.message_of(self.number))
        assert self.kinds[-1] == kind, f"{self.kinds[-1]:x}"

    @property
    def unread(self) -> int:
        """The bytes of the request that have arrived, and that the test has not read."""
        self.take_all()
        return len(self._data)

    @property
    def silent(self) -> bool:
        """Whether there are no bytes to read, and no end."""
        return not self.unread and not self.ended

    @property
    def ended(self) -> bool:
        """Whether no more bytes arrive, and none are left to read."""
        return not self.unread and (FIN in self.kinds or self.closed)

    @property
    def closed(self) -> bool:
        """Whether the front end wants nothing more of the exchange."""
        self.take_all()
        return any(kind in (GONE, CANCEL, WITHDRAW) for kind in self.kinds)

    def tell(self, state: int) -> None:
        """Show the front end that the app has begun, or waits for more of the body."""
        self.reactor.begin(self.number)
        self.reactor.pulse.streams[self.number % STREAM_SLOTS] = state

    def credit(self, count: int) -> None:
        """Let the front end send `count` bytes more."""
        self.reactor.express.sendall(pack_count(self.number, CREDIT_FOR_BODY, count))

    # The answer

    def begin(self, data: bytes, *, ask: bool = False) -> None:
        """Begin the answer with its head and first bytes. `ask`: for a grant."""
        self.asked = ask
        self.reactor.reply(self.number, data, ASK if ask else BEGIN)

    def more(self, data: bytes) -> None:
        """Send one piece, whether or not there is credit for it."""
        self.answer_credit -= len(data)
        self.reactor.reply(self.number, data, BYTES)

    def send_piece(self, data: bytes) -> None:
        """Send one piece. Waits for credit if there is not enough."""
        while self.answer_credit < len(data):
            self._take_one()
        self.more(data)

    def fill_pieces(self, data: bytes) -> int:
        """Send as much of `data` as there is credit for; return how many bytes that was."""
        self.take_all()
        sent = 0
        while sent < len(data) and self.answer_credit:
            piece = data[sent : sent + min(EXPRESS_MAX, self.answer_credit)]
            self.more(piece)
            sent += len(piece)
        return sent

    def end(self) -> None:
        self.reactor.reply(self.number, b"", END)

    def abort(self) -> None:
        self.reactor.reply(self.number, b"", ABORT)

    def granted(self) -> socket.socket:
        """Wait for the grant that `begin` asked for; return the client's socket."""
        self.hear(GRANT)
        return self.reactor.client(self.connection)

    def written(self, count: int) -> None:
        self._say(WRITTEN, count)

    def give_back(self, count: int) -> None:
        self._say(GIVE_BACK, count)

    def blocked(self, count: int) -> None:
        self._say(BLOCKED, count)

    def moves(self, count: int) -> None:
        self._say(MOVES, count)

    def _say(self, kind: int, number: int) -> None:
        self.reactor.express.sendall(pack_number(self.number, kind, number))

    def say(self, kind: int, payload: bytes) -> None:
        """Send any message about this exchange."""
        self.reactor.reply(self.number, payload, kind)

    def done(self) -> None:
        self.reactor.reply(self.number, b"", DONE)

    # As a lane

    def send(self, data: bytes) -> None:
        """Send bytes of the answer. Waits for credit if there is none."""
        sent = len(data) - len(self._begin(data))
        while sent < len(data):
            while not self.answer_credit:
                self._take_one()
            sent += self._send_piece(data[sent : sent + EXPRESS_MAX])

    def fill(self, data: bytes) -> int:
        """Send as much of `data` as there is credit for; return how many bytes that was."""
        self.take_all()
        sent = len(data) - len(self._begin(data))
        while sent < len(data) and self.answer_credit:
            sent += self._send_piece(data[sent : sent + EXPRESS_MAX])
        return sent

    def _begin(self, data: bytes) -> bytes:
        """Send the 1xx answers and the head in `data`, if they are whole; return the rest."""
        while self._reader is None:
            data = self._partial + data
            head = KnownResponseHeads().parse(data, self._method)
            if head is None:
                self._partial = data
                return b""
            self._partial = b""
            if head.interim:
                self.reactor.reply(self.number, data[: head.size], INTERIM)
                data = data[head.size :]
                continue
            self._reader = body_reader(head.body)
            self.begin(data[: head.size])
            data = data[head.size :]
            self._end_if_complete()
        return data

    def _send_piece(self, data: bytes) -> int:
        """Send one piece of `data` for which there is credit; return its size."""
        assert self._reader is not None
        piece = data[: min(len(data), EXPRESS_MAX, self.answer_credit)]
        assert self._reader.feed(piece, 0) == len(piece), "bytes after the end of an answer"
        self.more(piece)
        self._end_if_complete()
        return len(piece)

    def _end_if_complete(self) -> None:
        if self._reader is not None and self._reader.complete:
            self.end()

    def half_close(self) -> None:
        """End an answer without a length."""
        assert self._reader is not None
        if self._reader.end_of_stream():
            self.end()
        else:
            self.abort()

    def close(self) -> None:
        """Cut the answer. It must have begun."""
        self.abort()


LinkEnd: TypeAlias = LaneEnd | Pieces


class StandIn:
    """A reactor that the test plays: each method sends or reads one message."""

    def __init__(self, front: Front, name: str, control: socket.socket) -> None:
        control.settimeout(DEADLINE)
        self.name = name
        self.control = control
        self.lanes: list[LaneEnd] = []
        self._front = front
        self._express: socket.socket | None = None
        self._decoder = ControlDecoder()
        self._heard: deque[dict[str, Any]] = deque()
        self._unread = b""
        self._messages: deque[tuple[int, int, bytes]] = deque()
        """Messages of the express lane that no test has taken: exchange, kind, payload."""
        self._origins: dict[int, Origin] = {}
        self.origin = NOWHERE
        """The origin that the last request on the express lane named."""
        self._pulse: Pulse | None = None
        self.clients: dict[int, socket.socket] = {}
        """The duplicates of clients' sockets, by the number of the connection."""
        self.shared: list[int] = []
        """The numbers of all connections whose socket came, in order."""

    @property
    def inside(self) -> Reactor:
        """The front end's object for this reactor."""
        return next(r for r in self._front.server.supervisor.reactors if r.name == self.name)

    # The control channel

    def ready(self, capacity: int = 1000, interface: str = "asgi", *, inline: bool = False) -> None:
        self.say(ready={"interface": interface, "capacity": capacity, "inline": inline})

    def say(self, *, sock: socket.socket | None = None, **message: Any) -> None:
        """Send a control message, with the descriptor of `sock` if there is one."""
        if sock is None:
            self.control.sendall(encode_control(message))
        else:
            line = encode_control({**message, "fd": True})
            assert socket.send_fds(self.control, [line], [sock.fileno()]) == len(line)

    def hear(self, kind: str) -> dict[str, Any]:
        """Return the next control message, which must be of `kind`. The caller closes its "fd"."""
        while not self._heard:
            self._listen()
        message = self._heard.popleft()
        assert kind in message, message
        return message

    @property
    def pulse(self) -> Pulse:
        while self._pulse is None:
            self._listen()
        return self._pulse

    def stall(self) -> None:
        """Show the front end a step of the app that began a second ago."""
        self.pulse.since[0] = time.monotonic() - 1

    def end_stall(self, seconds: float) -> None:
        """End that step, and report that it took `seconds`."""
        self.pulse.since[0] = 0.0
        self.say(turn=seconds)

    def begin(self, number: int) -> None:
        """Show that all exchanges of the express lane up to `number` have begun."""
        self.pulse.begun[0] = number

    def _listen(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self.control, 65536, 16)
        assert data, "the control channel has ended"
        for message in self._decoder.feed(data, descriptors):
            if "express" in message:
                self._express = socket.socket(fileno=message["fd"])
                self._express.settimeout(DEADLINE)
            elif "pulse" in message:
                self._pulse = Pulse(message["fd"])
                os.close(message["fd"])
            elif "client" in message:
                assert message["client"] not in self.clients
                self.clients[message["client"]] = socket.socket(fileno=message["fd"])
                self.shared.append(message["client"])
            elif "closed" in message:
                for number in message["closed"]:
                    self.clients.pop(number).close()
            else:
                self._heard.append(message)

    # Clients' sockets

    def client(self, number: int) -> socket.socket:
        """Return the duplicate of the socket of a connection."""
        while number not in self.clients:
            self._listen()
        return self.clients[number]

    def hear_all(self) -> None:
        """Handle all control messages that have arrived."""
        while not _silent(self.control):
            self._listen()

    # The express lane

    @property
    def express(self) -> socket.socket:
        while self._express is None:
            self._listen()
        return self._express

    def message(self) -> tuple[int, int, bytes]:
        """Return the next message of the express lane: exchange, kind, payload."""
        while not self._messages:
            self._read_express()
        return self._messages.popleft()

    def message_of(self, number: int) -> tuple[int, bytes]:
        """Return the next message of the express lane about one exchange: kind, payload."""
        while True:
            for message in self._messages:
                if message[0] == number:
                    self._messages.remove(message)
                    return message[1:]
            self._read_express()

    def messages_of(self, number: int) -> list[tuple[int, bytes]]:
        """Return all messages about one exchange that have arrived."""
        while not _silent(self.express):
            if not self._read_express(may_end=True):
                break
        found = [message[1:] for message in self._messages if message[0] == number]
        self._messages = deque(each for each in self._messages if each[0] != number)
        return found

    def _read_express(self, *, may_end: bool = False) -> bool:
        """Read once; return False at the end of the lane."""
        data = self.express.recv(1 << 20)
        assert data or may_end, "the express lane has ended"
        messages, consumed = read_requests(self._unread + data)
        self._unread = (self._unread + data)[consumed:]
        for number, kind, prefix, payload in messages:
            self._messages.append((number, kind, payload))
            if kind == REQUEST:
                header = bytearray(prefix)
                header[14:16] = (len(prefix) - 16).to_bytes(2, "big")
                decoded = decode_v2(header)
                assert decoded is not None
                self._origins[number] = read_origin(decoded)
        return bool(data)

    def request(self, *, begin: bool = True) -> tuple[int, bytes]:
        """Return the exchange and the payload of the next message, which must be a request.

        `begin`: show that the app has begun it.
        """
        number, kind, payload = self.message()
        assert kind == REQUEST, kind
        self.origin = self._origins[number]
        if begin:
            self.begin(number)
        return number, payload

    def reply(self, number: int, payload: bytes = OK, kind: int = ANSWER_DONE) -> None:
        """Send a message on the express lane."""
        self.express.sendall(pack_message(number, kind, len(payload)) + payload)

    # Lanes

    def lane(self) -> LaneEnd:
        """Return the lane that the front end opens next."""
        message = self.hear("lane")
        slot = message["slot"]

        def tell(state: int) -> None:
            self.pulse.lanes[slot] = state

        lane = LaneEnd(message["lane"], socket.socket(fileno=message["fd"]), tell)
        self.lanes.append(lane)
        return lane

    def pieces(self) -> Pieces:
        """Return the exchange of the next request on the express lane."""
        while True:
            for message in self._messages:
                number, kind, payload = message
                if kind == REQUEST:
                    self._messages.remove(message)
                    self.origin = self._origins[number]
                    return Pieces(self, number, payload)
            self._read_express()

    def link(self) -> LinkEnd:
        """Return what carries the next exchange: `pieces` or `lane`, as --lanes says."""
        return self.pieces() if self._front.settings.lanes == "express" else self.lane()

    def again(self, link: LinkEnd) -> LinkEnd:
        """Return what carries the next exchange while `link` is free: a lane is used again."""
        return link if isinstance(link, LaneEnd) else self.pieces()

    def done(self, link: LinkEnd) -> None:
        """Say that the app is done."""
        if isinstance(link, Pieces):
            link.done()
        else:
            self.say(done=[link.number])

    def drop(self, link: LinkEnd) -> None:
        """Say that the app is done. A lane carries no other exchange."""
        if isinstance(link, Pieces):
            link.done()
        else:
            self.say(drop=[link.number])

    @property
    def silent(self) -> bool:
        """Whether there is no message on the control channel and on the express lane."""
        while not self._heard and not _silent(self.control):
            self._listen()
        return (
            not self._heard
            and not self._messages
            and (self._express is None or _silent(self._express))
        )

    # The end

    def hang_up(self) -> None:
        """Close all sockets, as the end of a process does."""
        self.fall_asleep()
        self._close()

    def fall_asleep(self) -> None:
        """Wait until the process sleeps and ignores DUMP."""
        eventually(lambda: _is_asleep(self.inside.pid))

    def _close(self) -> None:
        self.control.close()
        if self._express is not None:
            self._express.close()
        for lane in self.lanes:
            lane.close()
        for client in self.clients.values():
            client.close()

    def kill(self) -> None:
        """Kill the process only. The sockets stay open, as if a child of it still held them."""
        pid = self.inside.pid
        os.kill(pid, signal.SIGKILL)
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            # The front end has killed it already.
            pass

    def wait_for_end(self) -> None:
        """Wait until the front end has killed the process and handled its end."""
        supervisor = self._front.server.supervisor
        self._front.settle_until(
            lambda: all(reactor.name != self.name for reactor in supervisor.reactors),
            lambda: f"{self.name} lives on",
        )
        # The reactor leaves the list before the front end has handled all of its end.
        self._front.settle()

    def die(self) -> None:
        """Kill the process, and close all that it had open."""
        self.hang_up()
        self.kill()

    def close(self) -> None:
        # Messages that no test read may contain descriptors. These must not stay open.
        for message in self._heard:
            if isinstance(message.get("fd"), int):
                os.close(message["fd"])
        self._heard.clear()
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None
        self._close()


class StandInZygote:
    """A zygote that the test plays. Its process only sleeps, and so do those that it forks."""

    def __init__(self, front: Front, channel: socket.socket) -> None:
        channel.settimeout(DEADLINE)
        self._front = front
        self._channel = channel
        self._decoder = ControlDecoder()
        self._heard: deque[dict[str, Any]] = deque()

    @property
    def pid(self) -> int:
        """The process that the front end has started for it. There must be one zygote."""
        (pid,) = self._front.server.pools.zygotes
        return pid

    def say(self, **message: Any) -> None:
        """Send a message, and wait until the front end has handled it."""
        self._channel.sendall(encode_control(message))
        self._front.settle()

    def hear(self) -> dict[str, Any]:
        """Return the next message. The caller closes its "fd"."""
        while not self._heard:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 65536, 16)
            assert data, "the channel has ended"
            self._heard.extend(self._decoder.feed(data, descriptors))
        return self._heard.popleft()

    @property
    def silent(self) -> bool:
        return not self._heard and _silent(self._channel)

    def fork(self) -> StandIn:
        """Fork the reactor that the front end asks for next."""
        message = self.hear()
        control = socket.socket(fileno=message["fd"])
        reactor = StandIn(self._front, message["fork"], control)
        self._front.reactors.append(reactor)
        words = ["bash", "-c", f"trap '' {int(DUMP)}; exec sleep 1000"]
        pid = os.posix_spawnp("bash", words, os.environ, setpgroup=0)
        eventually(lambda: _is_asleep(pid))
        self.say(forked=reactor.name, pid=pid)
        return reactor

    def fail_to_fork(self, line: str) -> None:
        """Say that the next reactor cannot be forked."""
        message = self.hear()
        os.close(message["fd"])
        self.say(fork_failed=message["fork"], message=line, details=None)

    def kill(self) -> None:
        """Kill the process, and wait until the front end has handled its end."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        self.see_dead(pid)

    def see_dead(self, pid: int) -> None:
        """Wait until the front end has handled the end of this zygote."""
        pools = self._front.server.pools
        self._front.settle_until(lambda: pid not in pools.zygotes, lambda: "the zygote lives on")
        self._front.settle()

    def hang_up(self) -> None:
        """Close the channel, as the end of the process does."""
        pid = self.pid
        eventually(lambda: _is_asleep(pid))
        self.close()

    def close(self) -> None:
        for message in self._heard:
            if isinstance(message.get("fd"), int):
                os.close(message["fd"])
        self._heard.clear()
        self._channel.close()


class Front:
    """A running front end, with reactors that are ready unless the test says otherwise."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        capacities: tuple[int, ...] = (1000,),
        interface: str = "asgi",
        count: int = 1,
        auto: bool = False,
        **settings: Any,
    ) -> None:
        """`capacities`: one reactor with each capacity is ready. If empty, `count` reactors start
        and are not ready. `auto`: run with `--reactors auto`; the test must provide as many CPUs as
        capacities.
        """
        self.log: list[str] = []
        self.reactors: list[StandIn] = []
        self.zygotes: list[StandInZygote] = []
        self._ahead = 0.0
        self._open_files = _open_files()
        self._clients: list[Client] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._failure: BaseException | None = None
        self._started = threading.Condition()
        self._patch(monkeypatch)

        settings.setdefault("lanes", "express")
        # Unless a test is about pings, it has nothing to answer.
        settings.setdefault("timeout", 0.0)
        settings.setdefault("close_grace", 0.0)
        settings.setdefault("access_log", "off")
        binds = ("127.0.0.1:0", f"unix:@reactor-run-{os.getpid()}-{next(_names)}")
        self.settings = Settings(
            app="stand:in",
            bind=tuple(map(parse_bind, binds)),
            reactors=0 if auto else len(capacities) or count,
            interface=interface,  # type: ignore[arg-type]
            **settings,
        )
        self._listeners = open_listeners(self.settings.bind, {}, backlog=128, unix_mode=0o666)
        self.notifier = Notifier({})
        self.tcp = f"http://127.0.0.1:{self._listeners[0].socket.getsockname()[1]}"
        self.unix = "unix:\0" + self._listeners[1].socket.getsockname()[1:].decode()
        self.server = Server(
            self.settings, Endpoints(self._listeners, [], [], [], []), 1000, self.notifier
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        try:
            self.settle()
        except AssertionError:
            self.close()
            raise
        for reactor, capacity in zip(self.reactors, capacities, strict=False):
            reactor.ready(capacity, interface)
            self.settle()

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in "loop.epoll", "reactors.reactor":
            monkeypatch.setattr(f"reactor_run.frontend.{module}.monotonic", self._clock)
        monkeypatch.setattr(server_module, "Signals", self._signals)
        monkeypatch.setattr(CommandLine, "make", self._command)
        # Forked reactors are children of this process anyway.
        monkeypatch.setattr(supervisor_module, "adopt_forked_reactors", lambda: None)
        monkeypatch.setattr(log, "handlers", [_Lines(self.log)])
        monkeypatch.setattr(log, "level", logging.DEBUG)
        monkeypatch.setattr(log, "propagate", False)
        monkeypatch.setattr(log, "_cache", {})

    def _clock(self) -> float:
        return time.monotonic() + self._ahead

    def _command(self, control_fd: int, name: str, *, zygote: bool = False, **_: bool) -> Command:
        # In the place of `CommandLine.make`: this process plays the reactor, and the one that
        # is started has nothing to do.
        control = socket.socket(fileno=os.dup(control_fd))
        if zygote:
            self.zygotes.append(StandInZygote(self, control))
        else:
            self.reactors.append(StandIn(self, name, control))
        # It survives being asked what it does, as a reactor does.
        return Command(["bash", "-c", f"trap '' {int(DUMP)}; exec sleep 1000 {control_fd}>&-"], {})

    @contextmanager
    def _signals(self, loop: Loop, on_signal: Callable[[int], None]) -> Iterator[None]:
        # In the place of `Signals`, which is for the main thread alone.
        def on_wake(_: int) -> None:
            self._woken.recv(1)
            self._calls.popleft()()

        self._on_signal = on_signal
        loop.watch(self._woken.fileno(), select.EPOLLIN, on_wake)
        yield
        loop.unwatch(self._woken.fileno())

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as failure:
            self._failure = failure

    # The loop

    def _post(self, work: Callable[[], None]) -> None:
        self._calls.append(work)
        self._wake.send(b"w")

    def call(self, work: Callable[[], T]) -> T:
        """Have the loop call `work`; return its result."""
        results: list[T] = []
        over = threading.Event()

        def run() -> None:
            try:
                results.append(work())
            finally:
                over.set()

        self._post(run)
        end = time.monotonic() + DEADLINE
        while not over.wait(0.05):
            assert self._thread.is_alive(), f"the front end has ended: {self._failure!r}"
            assert time.monotonic() < end, "the front end's loop is stuck"
        return results[0]

    def settle(self) -> None:
        """Return when the loop has handled all events. Fails if the loop does not come to rest."""
        poll = select.poll()
        poll.register(self.server.loop._epoll.fileno(), select.POLLIN)
        end = time.monotonic() + DEADLINE / 2
        quiet = 0
        while quiet < 2:
            self.call(lambda: None)
            self.call(lambda: None)
            quiet = 0 if poll.poll(0) or self.server.loop.has_deferred else quiet + 1
            assert time.monotonic() < end, "the front end's loop spins"

    def settle_until(self, condition: Callable[[], bool], failure: Callable[[], str]) -> None:
        """Settle until `condition` holds: the kernel or another process has to do its part.

        `failure` says what is wrong if it does not hold in time.
        """
        end = time.monotonic() + DEADLINE
        self.settle()
        while not condition():
            assert time.monotonic() < end, failure()
            self.settle()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the loop during the block. All events of the block reach it in one batch."""
        holding, go = threading.Event(), threading.Event()

        def hold() -> None:
            holding.set()
            assert go.wait(DEADLINE), "the loop was held for too long"

        self._post(hold)
        assert holding.wait(DEADLINE)
        try:
            yield
        finally:
            go.set()

    def pass_time(self, seconds: float) -> None:
        """Settle, move the front end's clock by `seconds`, and settle again."""
        self.settle()
        self._ahead += seconds
        self.settle()

    def skip_time(self, seconds: float) -> None:
        """Move the front end's clock by `seconds` without settling, while the loop is held."""
        self._ahead += seconds

    def signal(self, number: int) -> None:
        """Send the front end a signal."""
        self.call(lambda: self._on_signal(number))

    def exit(self, seconds: float = 0.0) -> None:
        """Move the clock by `seconds`, and wait until the front end ends. Raises its exception."""
        self._ahead += seconds
        self._post(lambda: None)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the front end does not end"
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # Clients

    def connect(self, address: str | None = None, **options: Any) -> Client:
        """Return a connected client, over TCP unless `address` says otherwise."""
        client = Client(address or self.tcp, timeout=DEADLINE, **options)
        self._clients.append(client)
        return client

    def silent(self, client: Client) -> bool:
        """Settle, then return whether the client has got no bytes and no end."""
        self.settle()
        return _silent(client._sock)

    @property
    def inside(self) -> Http1:
        """The front end's object for the only connection."""
        (client,) = self.clients
        return client

    @property
    def clients(self) -> list[Http1]:
        """The front end's objects for all connections, after their PROXY header if any."""
        clients = [connection.protocol for connection in self.server.acceptor.clients]
        assert all(isinstance(client, Http1) for client in clients)
        return clients  # type: ignore[return-value]

    # The end

    def _see_clients_end(self) -> None:
        """Wait until the front end has closed the connections of all clients.

        The kernel sends a reset only when the last duplicate of the socket is closed. A process
        that has just been started may have one: its parent goes on before it closes them.
        """

        def left() -> str:
            clients = [(client.state, client.requester.exchange) for client in self.clients]
            return f"connections outlive their clients: {clients}"

        self.settle_until(lambda: not self.clients, left)

    def close(self) -> None:
        """End the front end and its reactors, and check that no descriptor is left open."""
        if self._thread.is_alive():
            self.settle()
            for client in self._clients:
                if client._sock.fileno() >= 0:
                    client.reset()
            self._see_clients_end()
            for reactor in self.reactors:
                reactor.close()
            if not self.server.clients.draining:
                self.signal(signal.SIGTERM)
            for inside in list(self.server.supervisor.reactors):
                if inside.pid:
                    os.kill(inside.pid, signal.SIGKILL)
        try:
            self.exit()
            self.server.close()
        finally:
            for client in self._clients:
                client.close()
            for reactor in self.reactors:
                reactor.close()
            for zygote in self.zygotes:
                zygote.close()
            for listener in self._listeners:
                listener.close()
            self.server.loop._epoll.close()
            self._wake.close()
            self._woken.close()
        assert not self.server.dispatcher.waiting
        assert not self.server.loop._handlers
        left_open = _open_files() - self._open_files
        assert not left_open, f"left open: {left_open}"


def pour(front: Front, lane: LinkEnd, data: bytes) -> int:
    """Write to a link until the front end takes no more; return how many bytes that was."""
    total = 0
    while sent := lane.fill(data[total : total + (1 << 20)]):
        total += sent
        front.settle()
    return total


class _Lines(logging.Handler):
    """A log handler that keeps each message."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname.lower()} {record.getMessage()}")


def _is_asleep(pid: int) -> bool:
    """Whether a process has closed the sockets that it inherited, and sleeps."""
    with open(f"/proc/{pid}/comm") as file:
        return file.read() == "sleep\n"


def _events(sock: socket.socket) -> int:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return sum(events for _, events in poll.poll(0))


def _silent(sock: socket.socket) -> bool:
    return not _events(sock)


def _open_files() -> set[tuple[str, str]]:
    files = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            files.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            # The descriptor that lists them.
            continue
    return files
