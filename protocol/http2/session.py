"""The server's end of one HTTP/2 connection, without I/O: ngh2 behind the calls that we use.

This is the only file that knows ngh2, the binding of libnghttp2. The library reads and writes
frames, compresses fields (HPACK), keeps the flow control, schedules streams by priority (RFC 9218),
and checks messages as RFC 9113 §8 says. What it leaves open, and is closed here:

- It has no bound on frames that bring nothing: PING, SETTINGS, WINDOW_UPDATE, DATA without content.
  Each takes from a budget, which time and progress refill.
- It grants no window by itself (`auto_window_update`): `acknowledge` says what was taken.
- After some errors it sends no GOAWAY. Then this file writes one.

Streams are numbers, as in the frames. Fields are pairs of a name in lower case and a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import ngh2
from ngh2 import (
    ConnectionClosed,
    DataReceived,
    DenialOfServiceError,
    ErrorCode,
    NGH2Error,
    RequestReceived,
    Setting,
    StreamClosed,
    TrailersReceived,
)

from reactor_run.native import count_heads

__all__ = [
    "CANCEL",
    "INTERNAL_ERROR",
    "NO_ERROR",
    "PREFACE",
    "PROTOCOL_ERROR",
    "REFUSED_STREAM",
    "Session",
    "SessionHandler",
    "SessionLimits",
    "SessionMaker",
    "count_heads_of",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""

NO_ERROR: Final = int(ErrorCode.NO_ERROR)
PROTOCOL_ERROR: Final = int(ErrorCode.PROTOCOL_ERROR)
INTERNAL_ERROR: Final = int(ErrorCode.INTERNAL_ERROR)
REFUSED_STREAM: Final = int(ErrorCode.REFUSED_STREAM)
CANCEL: Final = int(ErrorCode.CANCEL)
_ENHANCE_YOUR_CALM: Final = int(ErrorCode.ENHANCE_YOUR_CALM)

_HEADERS_MAX: Final = 65536
"""The most bytes of a header list that the library takes, whatever the limit of a head is. Those
between the two limits get 431; a larger one ends the connection."""
_FIELDS_MAX: Final = 1024
"""The most fields that the library takes. A limit below it is answered with 431."""

_CONTINUATIONS: Final = 8
_FRAME: Final = 16384
"""The most CONTINUATION frames of a head. A larger limit allows more: one for so many bytes."""

_READ: Final = 8192
"""The most bytes that the library reads at once. A frame of 30 bytes may become 1 KB of events."""
_HEADS: Final = 16
_READ_OF_HEADS: Final = 512
"""The same if more heads than these have arrived. A frame of 28 bytes may stand for a head of 64
KiB (RFC 7541), and the library makes the fields of all at once."""
_FRAME_HEAD: Final = 9
_HEADERS: Final = 1
"""The bytes before the content of a frame, and the type of one that begins a head (RFC 9113 §4.1,
§6.2)."""

_BUDGET: Final = 1000.0
"""The most frames without progress in a row."""
_BUDGET_PER_SECOND: Final = 50.0
_BUDGET_PER_KIB: Final = 2.0
"""What a KiB of content refills, in either direction. A client sends a WINDOW_UPDATE for 16 KiB."""
_BUDGET_PER_REQUEST: Final = 20.0
_BUDGET_PER_PIECE: Final = 2.0
"""What a piece of an answer refills, however small it is. Some clients send a PING for each."""
_COST_OF_DATA: Final = 0.1
"""What a DATA frame takes. A WebSocket may have many small ones. One without content takes 1."""

_BATCH: Final = 32
"""How many connections of the library are made at once. It takes 6 µs for each."""

_GOAWAY: Final = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"
"""The head of a GOAWAY frame of 8 bytes (RFC 9113 §6.8)."""

Fields = Sequence[tuple[bytes, bytes]]


class SessionLimits(NamedTuple):
    """What a client is told by SETTINGS.

    streams: the most streams at once. head_size: the most bytes of a header list.
    stream_window, connection_window: the most bytes of bodies that a client may send ahead.
    """

    streams: int
    head_size: int
    stream_window: int
    connection_window: int


class SessionHandler(Protocol):
    """Is told what a client does. Calls come from `receive` and from `output`."""

    def on_request(self, stream: int, fields: Fields, ended: bool) -> None:
        """Take a request. `ended`: it has no body."""

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        """Take content of a request. `ended`: it is the last one."""

    def on_closed(self, stream: int, error: int) -> None:
        """Note that a stream has ended in both directions, or was reset by either end."""


def count_heads_of(data: bytes, skip: int) -> tuple[int, int]:
    """Return how many heads begin in the frames of `data`, and where the next frame begins.

    `skip`: bytes before the first frame. The result counts from the end of `data`; less than 0: so
    many bytes of the frame are the last ones of `data`.
    """
    heads = 0
    while skip <= len(data) - _FRAME_HEAD:
        heads += data[skip + 3] == _HEADERS
        skip += _FRAME_HEAD + int.from_bytes(data[skip : skip + 3], "big")
    return heads, skip - len(data)


def _configuration(limits: SessionLimits) -> ngh2.Configuration:
    head_max = max(_HEADERS_MAX, limits.head_size)
    return ngh2.Configuration(
        auto_window_update=False,
        max_inbound_header_list_size=head_max,
        max_continuations=max(_CONTINUATIONS, head_max // _FRAME),
        max_inbound_header_count=_FIELDS_MAX,
    )


_ENDED: Final = ngh2.Connection(ngh2.Role.SERVER)
"""Stands for the library's connection when a session has ended. It refuses all, and has no output.
"""


class SessionMaker:
    """Makes sessions with the same limits.

    The library gives each a buffer of 16 KiB for frames, of which most connections never touch more
    than a few. Made one by one, these buffers would be where the TLS handshake has just had its own
    of the same size, in memory that the process already has. So several are made at once.
    """

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._configuration = _configuration(limits)
        self._made: list[ngh2.Connection] = []

    def make(self, handler: SessionHandler, now: float) -> Session:
        """Return a new session. `handler`, `now`: see `Session`."""
        if not self._made:
            self._made = [
                ngh2.Connection(ngh2.Role.SERVER, self._configuration) for _ in range(_BATCH)
            ]
        return Session(handler, self._limits, now, self._made.pop())


class Session:
    """One connection.

    last: the last stream that the client has begun; 0: none.
    over: it has ended: close it when all output was sent.
    """

    __slots__ = (
        "_begun",
        "_budget",
        "_failure",
        "_h2",
        "_handler",
        "_refilled",
        "_skip",
        "last",
        "over",
    )

    def __init__(
        self,
        handler: SessionHandler,
        limits: SessionLimits,
        now: float,
        h2: ngh2.Connection | None = None,
    ) -> None:
        """`now`: the time in seconds of any steady clock. `h2`: what `SessionMaker` has made."""
        self._handler = handler
        self._h2 = h2 or ngh2.Connection(ngh2.Role.SERVER, _configuration(limits))
        self.over = False
        self._failure = b""
        """What is sent in the place of what the library cannot send any more."""
        self.last = 0
        self._skip = len(PREFACE)
        """The bytes before the next frame; less than 0: as many of it have arrived."""
        self._begun = b""
        """These bytes of a frame."""
        self._budget = _BUDGET
        self._refilled = now
        self._h2.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.streams,
                Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                Setting.MAX_HEADER_LIST_SIZE: limits.head_size,
                Setting.ENABLE_CONNECT_PROTOCOL: 1,
                Setting.NO_RFC7540_PRIORITIES: 1,
            }
        )
        self._h2.set_local_window_size(limits.connection_window)

    # Bytes ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Read what the client has sent. `now`: see the constructor."""
        frames, skip = data, self._skip
        if skip < 0:
            frames, skip = self._begun + data, 0
        heads, self._skip = count_heads(frames, skip) or count_heads_of(frames, skip)
        if self._skip < 0:
            self._begun = frames[self._skip :]
        size = _READ if heads <= _HEADS else _READ_OF_HEADS
        if len(data) <= size:
            self._receive(data, now)
            return
        view = memoryview(data)
        for start in range(0, len(data), size):
            self._receive(view[start : start + size], now)

    def _receive(self, data: bytes | memoryview, now: float) -> None:
        if self.over:
            return
        if self._budget > _BUDGET:
            self._budget = _BUDGET
        error = None
        try:
            self._h2.receive_data(data)
        except NGH2Error as raised:
            error = raised
        self._handle()
        if error is not None:
            flood = isinstance(error, DenialOfServiceError)
            self._fail(_ENHANCE_YOUR_CALM if flood else PROTOCOL_ERROR)
        elif self._budget < 0:
            self._budget += min((now - self._refilled) * _BUDGET_PER_SECOND, _BUDGET)
            self._refilled = now
            if self._budget < 0:
                self._fail(_ENHANCE_YOUR_CALM)

    def output(self, size: int) -> bytes:
        """Return the next bytes for the client, about `size` at most; none: there are none now."""
        data = self._failure
        if data:
            self._failure = b""
            return data
        if self.over:
            return data
        try:
            data = self._h2.data_to_send(size)
        except NGH2Error:
            self._fail(PROTOCOL_ERROR)
            return self.output(size)
        self._budget += len(data) / 1024 * _BUDGET_PER_KIB
        self._handle()
        return data

    @property
    def has_output(self) -> bool:
        """Whether `output` may return something, or may find that the connection is over."""
        try:
            return bool(self._failure) or self._h2.want_write
        except NGH2Error:
            return True

    def _handle(self) -> None:
        """Tell the handler what has happened."""
        handler = self._handler
        for event in self._h2.events():
            if isinstance(event, RequestReceived):
                self.last = stream = event.stream_id
                self._budget += _BUDGET_PER_REQUEST
                handler.on_request(stream, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                handler.on_closed(event.stream_id, event.error_code)
            elif isinstance(event, DataReceived):
                size = len(event.data)
                self._budget += size / 1024 * _BUDGET_PER_KIB - (_COST_OF_DATA if size else 1)
                handler.on_data(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, TrailersReceived):
                # A server may drop those of a request (RFC 9110 §6.5.1), as over HTTP/1.1 here.
                handler.on_data(event.stream_id, b"", True)
            elif isinstance(event, ConnectionClosed):
                self.over = True
            else:
                self._budget -= 1

    def _fail(self, error: int) -> None:
        """End the connection by GOAWAY (RFC 9113 §5.4.1)."""
        self.over = True
        self._failure = _GOAWAY + self.last.to_bytes(4, "big") + error.to_bytes(4, "big")

    # Answers -------------------------------------------------------------------------------------

    # A stream may have ended a moment ago. Then the library raises NGH2Error, and what is said of
    # that stream has no meaning any more.

    def inform(self, stream: int, fields: Fields) -> None:
        """Send an interim answer (1xx)."""
        try:
            self._h2.send_informational_response(stream, fields)
        except NGH2Error:
            pass

    def answer(self, stream: int, fields: Fields, content: bytes) -> None:
        """Send the final answer, and queue all of its content."""
        h2 = self._h2
        try:
            if content:
                h2.send_response(stream, fields)
                h2.send_data(stream, content, end_stream=True)
                self._budget += _BUDGET_PER_PIECE
            else:
                h2.send_response(stream, fields, end_stream=True)
        except NGH2Error:
            pass

    def respond(self, stream: int, fields: Fields, ended: bool) -> None:
        """Send the head of the final answer. `ended`: it has no body."""
        try:
            self._h2.send_response(stream, fields, end_stream=ended)
        except NGH2Error:
            pass

    def send(self, stream: int, data: bytes | memoryview, ended: bool) -> None:
        """Queue content of an answer, of which a copy is made. `ended`: it is the last one."""
        try:
            self._h2.send_data(stream, data, end_stream=ended)
        except NGH2Error:
            return
        self._budget += _BUDGET_PER_PIECE

    def send_trailers(self, stream: int, fields: Fields) -> None:
        """Queue the trailers of an answer, which is complete then."""
        try:
            self._h2.send_trailers(stream, fields)
        except NGH2Error:
            pass

    def reset(self, stream: int, error: int) -> None:
        """Reset a stream. What is queued for it is dropped."""
        try:
            self._h2.reset_stream(stream, error)
        except NGH2Error:
            pass

    def queued(self, stream: int | None = None) -> int:
        """Return how many bytes of content wait in the library: of one stream, or of all."""
        try:
            return self._h2.queued_body_size(stream)
        except NGH2Error:
            return 0

    def window(self, stream: int) -> int:
        """Return how many bytes the client takes of a stream now."""
        try:
            return self._h2.stream_remote_window_size(stream)
        except NGH2Error:
            return 0

    # Requests ------------------------------------------------------------------------------------

    def acknowledge(self, stream: int, size: int) -> None:
        """Let the client send `size` more bytes of content: as many were taken."""
        try:
            self._h2.acknowledge_received_data(size, stream)
        except NGH2Error:
            pass

    # The end -------------------------------------------------------------------------------------

    def announce_end(self) -> None:
        """Announce the end of the connection, without a last stream yet (RFC 9113 §6.8)."""
        try:
            self._h2.send_shutdown_notice()
        except NGH2Error:
            pass

    def end(self) -> None:
        """Take no stream that the client has not begun. `over` follows when all have ended."""
        try:
            self._h2.send_goaway(NO_ERROR)
        except NGH2Error:
            pass

    def close(self) -> None:
        """Free the memory of the session, which is over. All later calls do nothing."""
        self.over = True
        self._h2 = _ENDED
