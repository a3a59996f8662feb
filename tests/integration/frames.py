"""A client of HTTP/2 that decides every frame, legal or not, and keeps account of what comes back.

It reads only while a test waits for something. It has no flow control of its own: a test grants
windows, or asks for `grants`, and sends large bodies by `Uploads`.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from hpack import Decoder, Encoder
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.integration.client import _socket, _socket_address
from tests.integration.server import Server

__all__ = [
    "CODES",
    "PREFACE",
    "Answer",
    "Frames",
    "Uploads",
    "data",
    "get",
    "post",
    "raw",
    "reset",
    "settings",
    "window",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY,
    HTTP_1_1_REQUIRED,
) = range(14)
CODES = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]
"""The names of error codes (RFC 9113 §7)."""

Fields = list[tuple[str | bytes, str | bytes]]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, UPDATE, CONTINUATION = (
    range(10)
)
PRIORITY_UPDATE = 16
"""RFC 9218 §7.1."""
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x4, 0x8, 0x20
ACK = 0x1
INITIAL_WINDOW = 4
"""The setting of how many bytes a stream may send at first (RFC 9113 §6.5.2)."""
FRAME_MAX = 16384
"""The most bytes of a frame's content, unless a peer says otherwise (RFC 9113 §4.2)."""


def raw(kind: int, flags: int, stream: int, payload: bytes = b"", length: int = -1) -> bytes:
    """Return a frame of any kind. `length`: what its head says, if not the truth."""
    size = len(payload) if length < 0 else length
    return size.to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def data(stream: int, content: bytes = b"", end: bool = False) -> bytes:
    return raw(DATA, END_STREAM if end else 0, stream, content)


def window(stream: int, size: int) -> bytes:
    return raw(UPDATE, 0, stream, struct.pack(">L", size))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return raw(RST_STREAM, 0, stream, struct.pack(">L", code))


def settings(values: Mapping[int, int] | None = None) -> bytes:
    pairs = (values or {}).items()
    return raw(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def get(path: str = "/hello", *more: tuple[Any, Any], method: str = "GET") -> Fields:
    """Return the fields of a request."""
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.example"),
        *more,
    ]


def post(path: str = "/hash", *more: tuple[Any, Any]) -> Fields:
    """Return the fields of a request that has a body."""
    return get(path, *more, method="POST")


@dataclass
class Answer:
    """What has come of one answer. reset: the code of RST_STREAM."""

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)
    size: int = 0
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field; it must not be repeated."""
        values = [value for each, value in self.fields if each == name]
        assert len(values) < 2, values
        return values[0] if values else None


class Frames:
    """One connection.

    answers: by stream. goaways: the last stream and the code of each. pongs: what PING has brought
    back. acks: of SETTINGS. settings: of the server. at_end: the server has closed the connection.
    granted: how far the server has opened its windows, by stream. frames, sizes: the names and the
    bytes of all frames that have come. decoder: of header blocks.
    """

    def __init__(
        self,
        target: Server | str,
        *,
        tls: ssl.SSLContext | None = None,
        begin: bool = True,
        ours: Mapping[int, int] | None = None,
        grants: bool = False,
        keeps: bool = True,
        timeout: float = 20.0,
        receive_buffer: int | None = None,
    ) -> None:
        """`begin`: send preface and SETTINGS, and acknowledge those of the server. `ours`: our
        settings. `grants`: open the windows again for all that arrives. `keeps`: keep the bodies of
        answers, not only their sizes. `timeout`: seconds that a wait may take."""
        address = target.address if isinstance(target, Server) else target
        self.sock = _socket(address)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(_socket_address(address))
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
            wrapped = tls.wrap_socket(self.sock, server_hostname="localhost")
            self.sock = wrapped
            assert wrapped.selected_alpn_protocol() == "h2"
        self._timeout = timeout
        self._acknowledges = begin
        self._grants = grants
        self._keeps = keeps
        self._unread = b""
        self._encoder = Encoder()
        self.decoder = Decoder()
        self._block: tuple[HeadersFrame, bytes] | None = None
        self._next = 1
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.goaways: list[tuple[int, int]] = []
        self.pongs: list[bytes] = []
        self.acks = 0
        self.settings: dict[int, int] = {}
        self.granted: dict[int, int] = defaultdict(int)
        self.frames: list[str] = []
        self.sizes: list[int] = []
        self.at_end = False
        if begin:
            self.send(PREFACE, settings(ours))

    # Sending

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def block(self, fields: Fields) -> bytes:
        """Return a header block. Blocks must be sent in the order in which they are made."""
        return self._encoder.encode(fields, huffman=False)

    def headers(
        self, stream: int, fields: Fields, end: bool = True, flags: int = END_HEADERS
    ) -> bytes:
        """Return a HEADERS frame, and those of CONTINUATION that it needs."""
        block = self.block(fields)
        parts = [block[i : i + FRAME_MAX] for i in range(0, len(block), FRAME_MAX)] or [b""]
        kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
        each = [END_STREAM if end else 0, *[0] * (len(parts) - 1)]
        each[-1] |= flags
        return b"".join(map(raw, kinds, each, [stream] * len(parts), parts))

    def begin(self, fields: Fields, end: bool = True) -> int:
        """Send a request and return its stream. `end`: it has no body."""
        stream, self._next = self._next, self._next + 2
        self.send(self.headers(stream, fields, end))
        return stream

    def request(self, fields: Fields, body: bytes | None = None) -> Answer:
        """Send a request and return its answer, to the end or to a reset."""
        stream = self.begin(fields, body is None)
        if body is not None:
            self.send(data(stream, body, True))
        return self.answer(stream)

    def get(self, path: str = "/hello") -> Answer:
        """GET, with the expectation of a whole answer with 200."""
        answer = self.request(get(path))
        assert (answer.status, answer.ended) == (200, True), answer
        return answer

    def finish_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    # Reading

    def answer(self, stream: int) -> Answer:
        """Wait until the answer is over, and return it."""
        self.wait(lambda: self.answers[stream].over)
        return self.answers[stream]

    def ping(self) -> None:
        """Wait until the server has read all that was sent so far."""
        told = len(self.pongs)
        self.send(raw(PING, 0, 0, b"all read"))
        self.wait(lambda: len(self.pongs) > told)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Read frames until `condition`. Raises AssertionError at the end of the connection, and
        TimeoutError."""
        end = time.monotonic() + self._timeout
        while not condition():
            assert self.read(), f"the end: {self}"
            if time.monotonic() > end:
                raise TimeoutError(str(self))

    def wait_for_end(self) -> None:
        """Read to the end of the connection."""
        end = time.monotonic() + self._timeout
        while self.read():
            if time.monotonic() > end:
                raise TimeoutError(str(self))

    @property
    def error(self) -> int | None:
        """The code with which the server has ended the connection, or None."""
        return self.goaways[-1][1] if self.goaways else None

    def __str__(self) -> str:
        return f"goaways {self.goaways}, {len(self.pongs)} pongs, answers {dict(self.answers)}"

    def read(self) -> bool:
        """Take account of the next frame; return whether there was one before the end."""
        head = self._take(9)
        if not head:
            return False
        try:
            frame, size = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(self._take(size)))
        except HyperframeError as error:
            raise AssertionError(f"the server sent a malformed frame: {head.hex()}") from error
        self._on_frame(frame, size)
        return True

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            try:
                piece = self.sock.recv(1 << 18)
            except ConnectionResetError:
                piece = b""
            if not piece:
                assert not self._unread, "the connection ends within a frame"
                self.at_end = True
                return b""
            self._unread += piece
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def _on_frame(self, frame: Frame, size: int) -> None:
        self.frames.append(type(frame).__name__.removesuffix("Frame").upper())
        self.sizes.append(size)
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            first, block = self._block or (frame, b"")
            assert isinstance(first, HeadersFrame)
            self._block = first, block + frame.data
            if "END_HEADERS" in frame.flags:
                first, block = self._block
                self._block = None
                self._on_fields(first, self.decoder.decode(block, raw=True))
            return
        assert self._block is None, "a frame within a header block"
        stream = frame.stream_id
        if isinstance(frame, DataFrame):
            answer = self.answers[stream]
            assert answer.status, frame
            assert not answer.ended, frame
            if self._keeps:
                answer.body += frame.data
            answer.size += len(frame.data)
            answer.ended = "END_STREAM" in frame.flags
            if self._grants and size:
                self.send(window(0, size), b"" if answer.ended else window(stream, size))
        elif isinstance(frame, RstStreamFrame):
            self.answers[stream].reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append((frame.last_stream_id, frame.error_code))
        elif isinstance(frame, PingFrame):
            assert "ACK" in frame.flags, frame
            self.pongs.append(frame.opaque_data)
        elif isinstance(frame, WindowUpdateFrame):
            self.granted[stream] += frame.window_increment
        elif isinstance(frame, SettingsFrame):
            if "ACK" in frame.flags:
                self.acks += 1
            else:
                self.settings.update(frame.settings)
                if self._acknowledges:
                    self.send(raw(SETTINGS, ACK, 0))

    def _on_fields(self, frame: HeadersFrame, fields: Iterable[tuple[Any, Any]]) -> None:
        answer = self.answers[frame.stream_id]
        assert not answer.ended, "fields after the end"
        answer.ended = "END_STREAM" in frame.flags
        pairs = [(bytes(name), bytes(value)) for name, value in fields]
        for name, _ in pairs:
            assert name == name.lower(), name
        if answer.status:
            assert answer.ended, "trailers without END_STREAM"
            answer.trailers = pairs
            return
        assert pairs[0][0] == b":status"
        status = int(pairs[0][1])
        if status < 200:
            assert not answer.ended
            answer.interim.append(status)
        else:
            answer.status, answer.fields = status, pairs[1:]

    # The end

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Uploads:
    """Bodies that go out as far as the windows of the server allow."""

    def __init__(self, client: Frames) -> None:
        self.client = client
        self.sent: dict[int, int] = {}
        client.wait(lambda: client.settings)

    def room(self, stream: int) -> int:
        """How many more bytes the server takes of a stream."""
        client = self.client
        mine = client.settings[INITIAL_WINDOW] + client.granted[stream] - self.sent[stream]
        return min(mine, 65535 + client.granted[0] - sum(self.sent.values()))

    def push(self, stream: int, body: bytes) -> None:
        """Send more of a body. It ends with the stream."""
        while self.sent[stream] < len(body) and (room := self.room(stream)) > 0:
            start = self.sent[stream]
            piece = body[start : start + min(room, FRAME_MAX)]
            self.sent[stream] += len(piece)
            self.client.send(data(stream, piece, self.sent[stream] == len(body)))

    def begin(self, fields: Fields) -> int:
        """Send the head of a request, and return its stream."""
        stream = self.client.begin(fields, False)
        self.sent[stream] = 0
        return stream

    def finish(self, stream: int, body: bytes) -> Answer:
        """Send the rest of a body, unless the answer is over before; return the answer."""
        answer = self.client.answers[stream]
        while self.sent[stream] < len(body) and not answer.over:
            self.push(stream, body)
            self.client.wait(
                lambda: answer.over or self.sent[stream] == len(body) or self.room(stream) > 0
            )
        return self.client.answer(stream)
