"""A stand-in for the front end: starts one reactor process and drives it over bare socketpairs.

It knows docs/lanes.md and nothing of `frontend`. A test does every step itself: it sends
requests and lane descriptors, and pumps what the reactor says until a condition holds.
"""

from __future__ import annotations

import array
import fcntl
import io
import os
import select
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any, cast

from reactor_run.protocol.control import ControlDecoder, encode_control
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    ASK,
    BEGIN,
    BODY,
    BYTES,
    CANCEL,
    CREDIT_FOR_ANSWER,
    DONE,
    END,
    FIN,
    GONE,
    GRANT,
    RELAY,
    STORED,
    WITHDRAW,
    pack_count,
    pack_message,
    pack_number,
    pack_request,
    read_answers,
    read_number,
    read_stored,
    request_prefix,
)
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2
from reactor_run.protocol.tls import Tlvs
from reactor_run.pulse import Pulse
from tests.warm import WarmProcess, start_warm

__all__ = ["APPS", "CLIENT", "SERVER", "Driver", "LaneEnd", "Pieces", "Response", "get", "post"]

APPS = Path(__file__).parent / "apps"
DEADLINE = 30.0
"""Seconds that anything may take."""
CLIENT: Endpoint = ("192.0.2.7", 40001)
SERVER: Endpoint = ("192.0.2.1", 80)


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *fields, "", ""]).encode()


def post(path: str, body: bytes, *fields: str) -> bytes:
    """A request with a Content-Length body."""
    return get(path, f"Content-Length: {len(body)}", *fields, method="POST") + body


@dataclass
class Response:
    """One answer, as the standard library's client reads it."""

    status: int
    version: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class _Stream:
    """The part of a socket that http.client uses."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BufferedIOBase:
        return self._stream


class _Kept(io.BytesIO):
    """A stream that http.client does not close, so that bytes after an answer can be read."""

    def close(self) -> None:
        pass


def read_response(stream: io.BufferedIOBase, method: str = "GET") -> Response:
    """Read the next answer on a stream. Raises http.client.HTTPException if it is aborted."""
    reader = HTTPResponse(cast(socket.socket, _Stream(stream)), method=method)
    reader.begin()
    body = reader.read()
    return Response(reader.status, reader.version, reader.headers, body)


class LaneEnd:
    """The front end's end of a lane. It blocks, with a deadline."""

    def __init__(self, number: int, sock: socket.socket, proxy: bytes = b"") -> None:
        sock.settimeout(DEADLINE)
        self.number = number
        self.sock = sock
        self.proxy = proxy
        """What precedes each request."""

    def send(self, request: bytes) -> None:
        """Send a request, after its PROXY header."""
        self.sock.sendall(self.proxy + request)

    def send_more(self, data: bytes) -> None:
        self.sock.sendall(data)

    def response(self, method: str = "GET") -> Response:
        """Read the next answer. No byte may follow it, because a lane carries one exchange at a
        time."""
        with self.sock.makefile("rb") as stream:
            return read_response(stream, method)

    def exchange(self, request: bytes) -> Response:
        """Send a whole request, and return its answer."""
        self.send(request)
        return self.response(request.split(b" ", 1)[0].decode())

    def read_until(self, end: bytes) -> bytes:
        """Read raw bytes until they end with `end`."""
        data = b""
        while not data.endswith(end):
            piece = self.sock.recv(65536)
            assert piece, f"the lane ended after {data!r}"
            data += piece
        return data

    def read_to_end(self) -> bytes:
        """Read everything until the reactor sends FIN."""
        data = bytearray()
        while piece := self.sock.recv(65536):
            data += piece
        return bytes(data)

    @property
    def is_silent(self) -> bool:
        """Whether no byte has arrived, and not the end either."""
        return not _readable(self.sock, 0)

    @property
    def is_hung_up(self) -> bool:
        """Whether the reactor closed its end. A half-close does not count."""
        poll = select.poll()
        poll.register(self.sock, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


def _readable(sock: socket.socket, timeout: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


@dataclass
class Told:
    """The messages of the reactor so far."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    """All of the control channel."""
    frames: list[tuple[int, int, bytes]] = field(default_factory=list)
    """All of the express lane: exchange, kind, payload."""


class Pieces:
    """An answer that a reactor sends in pieces. The test is the front end, and so credits it."""

    def __init__(self, driver: Driver, exchange: int) -> None:
        self._driver = driver
        self._exchange = exchange
        self._seen = 0
        """Frames of the driver that were looked at."""
        self._arrived = bytearray()
        self._relayed = self._credited = 0
        """Bytes that came as BYTES, and those that the reactor got credit for."""
        self._taken = 0
        """Bytes that the test has taken."""

    @property
    def arrived(self) -> bytearray:
        """All bytes so far, also those that the test has taken."""
        frames = self._driver.frames
        for number, kind, data in frames[self._seen :]:
            if number == self._exchange and kind in (BEGIN, ASK, BYTES):
                self._arrived += data
                self._relayed += len(data) if kind == BYTES else 0
        self._seen = len(frames)
        return self._arrived

    @property
    def is_over(self) -> bool:
        """Whether the reactor has said that the answer is complete or cut."""
        return bool({END, ABORT} & set(self._driver.kinds(self._exchange)))

    @property
    def is_cut(self) -> bool:
        return ABORT in self._driver.kinds(self._exchange)

    def credit(self) -> None:
        """Credit all BYTES that have arrived."""
        if self.arrived and self._relayed > self._credited:
            count = self._relayed - self._credited
            self._driver.send_express(pack_count(self._exchange, CREDIT_FOR_ANSWER, count))
            self._credited = self._relayed

    def read(self, size: int) -> bytes:
        """Take `size` bytes, or fewer at the end."""

        def ready() -> bool:
            self.credit()
            return len(self.arrived) >= self._taken + size or self.is_over

        self._driver.wait(ready)
        data = bytes(self.arrived[self._taken : self._taken + size])
        self._taken += len(data)
        return data

    def read_until(self, end: bytes) -> bytes:
        """Take bytes up to `end`, which are the last that have come."""
        self._driver.wait(lambda: self.arrived[self._taken :].endswith(end))
        data = bytes(self.arrived[self._taken :])
        self._taken += len(data)
        return data

    def read_to_end(self) -> bytes:
        """Take all bytes of a complete answer."""
        data = self._to_end()
        assert not self.is_cut
        return data

    def _to_end(self) -> bytes:
        def ready() -> bool:
            self.credit()
            return self.is_over

        self._driver.wait(ready)
        return bytes(self.arrived)

    def response(self, method: str = "GET") -> Response:
        """Read the answer. Raises http.client.HTTPException if it is cut."""
        stream = _Kept(self._to_end())
        response = read_response(stream, method)
        assert not stream.read(), "something follows the answer"
        return response


class Driver:
    """One reactor process and its channels. As a context manager, it ends the process."""

    def __init__(
        self,
        app: str,
        *options: str,
        app_dir: Path = APPS,
        lane_proxy: str = "v2",
        express: bool = True,
        env: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        wait: bool = True,
        cold: bool = False,
    ) -> None:
        """`wrapper`: a command that runs the reactor's command as its child. `cold`: it is not
        forked from a process that has imported its modules (tests/warm.py)."""
        self.control, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._decoder = ControlDecoder()
        self._express: socket.socket | None = None
        self._partial = b""
        self.pulse: Pulse | None = None
        """The memory that the reactor shares, if it was given any."""
        self.takes_stored = True
        """Take the payloads out of their buffers."""
        self.stored = 0
        """Messages whose payload was in a buffer."""
        self._told = Told()
        self._exchanges = 0
        self._lanes = 0
        self._lane_proxy = lane_proxy
        self._sockets: list[socket.socket] = [self.control]
        self._clients = 0
        command = [sys.executable, "-m", "reactor_run.reactor", "--app-dir", str(app_dir)]
        command += ["--control-fd", str(theirs.fileno()), "--lane-proxy", lane_proxy]
        words = [*wrapper, *command, *options, app]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        log = self._log.fileno()
        with theirs:
            warm = None if cold else start_warm(words, environ, log, [theirs.fileno()])
            self.process: WarmProcess | subprocess.Popen[bytes] = warm or subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=environ,
            )
        if wait:
            self.ready = self.wait_message("ready")["ready"]
            if express:
                self.open_express()

    # Towards the reactor -------------------------------------------------------------------------

    @property
    def unheard(self) -> int:
        """Return the bytes of the control channel that the reactor has not read (unix(7),
        SIOCOUTQ)."""
        return int.from_bytes(fcntl.ioctl(self.control, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def tell(self, message: dict[str, Any], sock: socket.socket | None = None) -> None:
        """Send one control message, with a socket that is then closed here."""
        line = encode_control(message)
        if sock is None:
            self.control.sendall(line)
        else:
            with sock:
                socket.send_fds(self.control, [line], [sock.fileno()])

    def open_express(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE)
        self._express = ours
        self._sockets.append(ours)
        self.tell({"express": True, "fd": True}, theirs)

    def open_lane(
        self, source: Endpoint | None = CLIENT, destination: Endpoint | None = SERVER
    ) -> LaneEnd:
        """Open a lane for requests."""
        self._lanes += 1
        ours, theirs = socket.socketpair()
        self._sockets.append(ours)
        # Any slot that no other lane has.
        self.tell({"lane": self._lanes, "slot": self._lanes, "fd": True}, theirs)
        encode = {"v1": encode_v1, "v2": encode_v2, "off": lambda *_: b""}[self._lane_proxy]
        return LaneEnd(self._lanes, ours, encode(source, destination))

    def send_express(self, data: bytes) -> None:
        """Send raw bytes on the express lane."""
        assert self._express is not None
        self._express.sendall(data)

    def request(
        self,
        *requests: bytes,
        source: Endpoint | None = CLIENT,
        destination: Endpoint | None = SERVER,
        tlvs: Tlvs = (),
        piece: int = 1 << 30,
    ) -> list[int]:
        """Send a batch on the express lane, `piece` bytes at a time. Returns the exchanges'
        numbers. `tlvs`: what is told of the clients' TLS and HTTP version."""
        prefix = request_prefix(source, destination, tlvs)
        numbers = []
        batch = b""
        for request in requests:
            self._exchanges += 1
            numbers.append(self._exchanges)
            batch += pack_request(prefix, self._exchanges, len(request)) + request
        for start in range(0, len(batch), piece):
            self.send_express(batch[start : start + piece])
        return numbers

    def fin(self, exchange: int) -> None:
        self.send_express(pack_message(exchange, FIN))

    def gone(self, exchange: int) -> None:
        self.send_express(pack_message(exchange, GONE))

    def cancel(self, exchange: int) -> None:
        self.send_express(pack_message(exchange, CANCEL))

    def withdraw(self, exchange: int) -> None:
        self.send_express(pack_message(exchange, WITHDRAW))

    def close_express(self) -> None:
        assert self._express is not None
        self._express.close()

    # What the reactor says -----------------------------------------------------------------------

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The control messages so far."""
        return self._told.messages

    @property
    def frames(self) -> list[tuple[int, int, bytes]]:
        """The express lane's messages so far."""
        return self._told.frames

    def wait(self, condition: Callable[[], Any], deadline: float = DEADLINE) -> Any:
        """Read messages of the reactor until the condition holds, and return its value."""
        end = time.monotonic() + deadline
        while not (value := condition()):
            left = end - time.monotonic()
            if left <= 0:
                told = f"{self.messages[-50:]!r}\n{self.frames!r:.2000}"
                raise TimeoutError(f"{told}\n{self.log()}")
            self.pump(min(left, 0.01))
        return value

    def pump(self, timeout: float = 0) -> None:
        """Wait at most `timeout` seconds for messages of the reactor, and read them."""
        sources = [sock for sock in (self.control, self._express) if sock and sock.fileno() >= 0]
        poll = select.poll()
        for sock in sources:
            poll.register(sock, select.POLLIN)
        ready = {number for number, _ in poll.poll(timeout * 1000)}
        for sock in sources:
            if sock.fileno() in ready:
                if sock is self.control:
                    self._read_control()
                else:
                    self._read_express(sock)

    def _read_control(self) -> None:
        size = array.array("i").itemsize
        try:
            data, ancillary, _, _ = self.control.recvmsg(
                1 << 20, socket.CMSG_SPACE(16 * size), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            data, ancillary = b"", []
        if not data:
            self.control.close()
            return
        numbers = array.array("i")
        for _, _, raw in ancillary:
            numbers.frombytes(raw)
        for message in self._decoder.feed(data, numbers):
            self.messages.append(message)

    def _read_express(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            sock.close()
            return
        self._partial += data
        frames, taken = read_answers(self._partial)
        self.frames.extend(map(self._unstored, frames))
        self._partial = self._partial[taken:]

    def _unstored(self, frame: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
        """Return a message with its payload, which may be in a buffer."""
        number, kind, payload = frame
        if kind != STORED or not self.takes_stored:
            return frame
        assert self.pulse is not None
        self.stored += 1
        stored, buffer, size = read_stored(payload)
        return number, stored, self.pulse.answer_buffers.take(buffer, size)

    def wait_message(self, kind: str) -> dict[str, Any]:
        """Wait for the first control message of a kind, and return it."""
        found = self.wait(
            lambda: (
                [m for m in self.messages if kind in m]
                or (self.control.fileno() < 0 and "the control channel ended")
            )
        )
        assert not isinstance(found, str), f"{found}: {self.messages}\n{self.log()}"
        return found[0]

    def kinds(self, exchange: int) -> list[int]:
        """The kinds of the frames of one exchange so far."""
        return [kind for number, kind, _ in self.frames if number == exchange]

    def answer(self, exchange: int, method: str = "GET") -> Response:
        """Wait for an answer on the express lane. The app may still run."""

        def payload() -> list[bytes]:
            return [
                data
                for number, kind, data in self.frames
                if number == exchange and kind in (ANSWER, ANSWER_DONE)
            ]

        (data,) = self.wait(payload)
        stream = _Kept(data)
        response = read_response(stream, method)
        assert not stream.read(), "something follows the answer"
        return response

    def asked(self, exchange: int) -> None:
        """Wait until the reactor asks whether it may write an answer to the client."""
        self.wait(lambda: ASK in self.kinds(exchange))

    def relayed(self, exchange: int) -> Pieces:
        """Wait for an answer in pieces, and let the reactor send the rest over the express lane."""
        self.wait(lambda: {BEGIN, ASK} & set(self.kinds(exchange)))
        if ASK in self.kinds(exchange):
            self.send_express(pack_message(exchange, RELAY))
        return Pieces(self, exchange)

    def share_client(self) -> tuple[int, socket.socket]:
        """Send the reactor a client's socket; return its number and the client's end."""
        client, theirs = socket.socketpair()
        theirs.setblocking(False)
        client.settimeout(DEADLINE)
        self._sockets.append(client)
        self._clients += 1
        self.tell({"client": self._clients, "fd": True}, theirs)
        return self._clients, client

    def grant(self, exchange: int, client: int) -> None:
        """Let the reactor write the rest of an answer to a client."""
        self.asked(exchange)
        self.send_express(pack_number(exchange, GRANT, client))

    def number_in(self, exchange: int, kind: int) -> int:
        """Wait for a message of the exchange; return the number in the last one of its kind."""

        def numbers() -> list[int]:
            return [read_number(d) for n, k, d in self.frames if (n, k) == (exchange, kind)]

        self.wait(numbers)
        return numbers()[-1]

    def body(self, exchange: int, data: bytes) -> None:
        """Send more of a request."""
        self.send_express(pack_message(exchange, BODY, len(data)) + data)

    def wait_done(self, exchange: int) -> None:
        """Wait until the app of an exchange on the express lane has ended."""
        self.wait(lambda: {DONE, ANSWER_DONE} & set(self.kinds(exchange)))

    def get(self, path: str, *fields: str) -> Response:
        """Send a request on the express lane, and return its answer."""
        return self.answer(self.request(get(path, *fields))[0])

    def drops(self, lane: LaneEnd) -> int:
        """Return how often the reactor has reported so far that the lane is dropped."""
        return sum(message.get("drop", []).count(lane.number) for message in self.messages)

    def verdicts(self, lane: LaneEnd) -> list[str]:
        """Return the reports on the lane so far, each "done" or "drop"."""
        return [
            what
            for m in self.messages
            for what in ("done", "drop")
            for number in m.get(what, ())
            if number == lane.number
        ]

    def verdict(self, lane: LaneEnd, before: int = 0) -> str:
        """Wait for report number `before + 1` on the lane, and return it."""
        return self.wait(lambda: self.verdicts(lane)[before:])[0]

    # The process ---------------------------------------------------------------------------------

    def log(self) -> str:
        """Return what the process has written so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait_log(self, text: str) -> str:
        """Wait until the log contains a text, and return the log."""
        return self.wait(lambda: text in self.log() and self.log())

    def open_files(self) -> int:
        """Return the number of descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_exit(self) -> int:
        """Wait for the exit status. Messages are read meanwhile."""
        self.wait(lambda: self.process.poll() is not None)
        while self.control.fileno() >= 0:
            self.pump(DEADLINE)
        return self.process.wait()

    def stop(self, seconds: float = 5) -> int:
        """Stop the reactor, and return its exit status."""
        self.tell({"stop": seconds})
        return self.wait_exit()

    def close(self) -> None:
        """End the process and close all channels, whatever state the reactor is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for sock in self._sockets:
            sock.close()
        self._log.close()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
