"""The session of a connection, against ngh2's own client. Its budget has a clock of the test."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import ngh2
import pytest
from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.native import NATIVE, count_heads
from reactor_run.protocol.http2 import session as session_module
from reactor_run.protocol.http2.session import (
    CANCEL,
    NO_ERROR,
    PREFACE,
    REFUSED_STREAM,
    Session,
    SessionLimits,
    SessionMaker,
    count_heads_of,
)

LIMITS = SessionLimits(100, 65536, 262144, 1048576)
OUTPUT = 131072
SETTINGS = bytes.fromhex("000000 04 00 00000000")
ACK = bytes.fromhex("000000 04 01 00000000")
PING = bytes.fromhex("000008 06 00 00000000") + bytes(8)
EMPTY_DATA = bytes.fromhex("000000 00 00 00000001")
CALM = 11
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a")]
OK = [(b":status", b"200")]


def window(stream: int, size: int) -> bytes:
    return struct.pack(">HBBBLL", 0, 4, 8, 0, stream, size)


def data(stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + struct.pack(">HL", 0, stream) + content


@dataclass
class Handler:
    requests: list[tuple[int, bool]] = field(default_factory=list)
    content: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    closed: list[tuple[int, int]] = field(default_factory=list)

    def on_request(self, stream: int, fields: object, ended: bool) -> None:
        self.requests.append((stream, ended))

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        self.content[stream] = self.content.get(stream, b"") + data
        if ended:
            self.ended.add(stream)

    def on_closed(self, stream: int, error: int) -> None:
        self.closed.append((stream, error))


class Server:
    """A session, and the clock that it is told."""

    def __init__(self, limits: SessionLimits = LIMITS) -> None:
        self.now = 1000.0
        self.handler = Handler()
        self.session = Session(self.handler, limits, self.now)
        self._encoder = Encoder()
        self._last = -1

    def receive(self, *frames: bytes) -> bytes:
        """Read frames and return all output."""
        self.session.receive(b"".join(frames), self.now)
        return self.output()

    def output(self) -> bytes:
        pieces = []
        while piece := self.session.output(OUTPUT):
            pieces.append(piece)
        return b"".join(pieces)

    def request(self, ended: bool = True) -> tuple[int, bytes]:
        """Return the number of a new stream, and its HEADERS."""
        self._last += 2
        block = self._encoder.encode(GET)
        flags = 5 if ended else 4
        return self._last, struct.pack(">HBBBL", 0, len(block), 1, flags, self._last) + block

    def begin(self, ended: bool = True) -> int:
        stream, frame = self.request(ended)
        self.receive(frame)
        assert self.handler.requests[-1] == (stream, ended)
        return stream


@pytest.fixture
def server() -> Server:
    server = Server()
    server.receive(PREFACE, SETTINGS)
    server.receive(ACK)
    return server


def frames_of(output: bytes) -> list[Any]:
    found: list[Any] = []
    while output:
        frame, size = Frame.parse_frame_header(memoryview(output[:9]))
        frame.parse_body(memoryview(output[9 : 9 + size]))
        found.append(frame)
        output = output[9 + size :]
    return found


def error_of(output: bytes) -> int | None:
    """The code of GOAWAY, which must be the last frame."""
    last = frames_of(output)[-1] if output else None
    return last.error_code if isinstance(last, GoAwayFrame) else None


# Exchanges --------------------------------------------------------------------------------------


def pump(client: ngh2.Connection, server: Server) -> list[ngh2.Event]:
    """Move bytes both ways until there are no more; return what the client has got."""
    events: list[ngh2.Event] = []
    while True:
        sent = client.data_to_send()
        server.session.receive(sent, server.now)
        answer = server.output()
        client.receive_data(answer)
        events += client.events()
        if not sent and not answer:
            return events


def test_an_exchange() -> None:
    client, server = ngh2.Connection(ngh2.Role.CLIENT), Server()
    client.initiate_connection()
    stream = client.send_request([*GET[:-1], (b":authority", b"a"), (b"x", b"y")])
    client.send_data(stream, b"a" * 100_000, end_stream=True)
    pump(client, server)
    assert server.handler.requests == [(stream, False)]
    # That is the window that a client may use before it has read our SETTINGS.
    assert server.handler.content[stream] == b"a" * 100_000
    assert stream in server.handler.ended
    server.session.inform(stream, [(b":status", b"103")])
    server.session.respond(stream, [*OK, (b"x", b"y")], False)
    server.session.send(stream, memoryview(b"hello"), False)
    server.session.send_trailers(stream, [(b"sum", b"1")])
    kinds = [type(event).__name__ for event in pump(client, server)]
    for kind in "InformationalResponseReceived", "ResponseReceived", "DataReceived":
        assert kind in kinds
    assert "TrailersReceived" in kinds
    assert server.handler.closed == [(stream, NO_ERROR)]


def test_windows_are_opened_by_acknowledgement_alone(server: Server) -> None:
    stream = server.begin(ended=False)
    output = b""
    for _ in range(16):
        output += server.receive(data(stream, bytes(16384)))
    assert not output
    server.session.acknowledge(stream, 16 * 16384)
    names = [type(frame).__name__ for frame in frames_of(server.output())]
    assert "WindowUpdateFrame" in names


def test_a_client_that_sends_beyond_the_window(server: Server) -> None:
    stream = server.begin(ended=False)
    output = b""
    for _ in range(17):
        output += server.receive(data(stream, bytes(16384)))
    assert error_of(output) == 3
    assert server.session.over


def test_answers_of_streams_that_are_gone(server: Server) -> None:
    """They have no effect, and raise nothing."""
    stream = server.begin()
    server.receive(struct.pack(">HBBBLL", 0, 4, 3, 0, stream, CANCEL))
    assert server.handler.closed == [(stream, CANCEL)]
    for number in stream, 99:
        server.session.inform(number, [(b":status", b"103")])
        server.session.respond(number, OK, False)
        server.session.send(number, b"x", False)
        server.session.send_trailers(number, [(b"x", b"y")])
        server.session.reset(number, CANCEL)
        assert server.session.queued(number) == 0
        assert server.session.window(number) == 0
    server.output()
    assert not server.session.over


def test_content_of_streams_that_are_gone(server: Server) -> None:
    """Its acknowledgement opens the window of the connection."""
    for _ in range(200):
        stream = server.begin(ended=False)
        server.receive(data(stream, bytes(16384)))
        server.receive(struct.pack(">HBBBLL", 0, 4, 3, 0, stream, CANCEL))
        assert server.handler.closed[-1] == (stream, CANCEL)
        server.session.acknowledge(stream, 16384)
        server.output()
    assert not server.session.over


def test_what_is_queued(server: Server) -> None:
    stream = server.begin()
    server.session.respond(stream, OK, False)
    server.session.send(stream, bytes(100_000), False)
    assert (server.session.queued(stream), server.session.queued()) == (100_000, 100_000)
    assert server.session.window(stream) == 65535
    server.output()
    assert server.session.queued(stream) == 100_000 - 65535
    assert server.session.window(stream) == 0
    server.session.reset(stream, CANCEL)
    server.output()
    assert (server.session.queued(stream), server.session.queued()) == (0, 0)


def test_output_has_a_bound(server: Server) -> None:
    stream = server.begin()
    server.receive(window(0, 1 << 24), window(stream, 1 << 24))
    server.session.respond(stream, OK, False)
    server.session.send(stream, bytes(1 << 20), True)
    sizes = []
    while piece := server.session.output(10_000):
        sizes.append(len(piece))
    assert sum(sizes) > 1 << 20
    # A frame is not cut.
    assert max(sizes) <= 10_000 + 16384 + 9


def test_an_end_in_two_steps(server: Server) -> None:
    stream = server.begin()
    server.session.announce_end()
    assert frames_of(server.output())[-1].last_stream_id == (1 << 31) - 1
    later = server.begin()
    server.session.end()
    assert frames_of(server.output())[-1].last_stream_id == later
    _, ignored = server.request()
    server.receive(ignored)
    assert [number for number, _ in server.handler.requests] == [stream, later]
    for number in stream, later:
        server.session.respond(number, OK, True)
        server.output()
    assert server.session.over
    # Nothing is read any more.
    assert server.receive(PING) == b""


def in_pieces(data: bytes, seed: int) -> list[bytes]:
    """Cut `data` at random; 0: not at all."""
    cuts = sorted(Random(seed).choices(range(len(data)), k=20)) if seed else []
    return [data[i:j] for i, j in pairwise([0, *cuts, len(data)])]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_many_heads_are_read_in_small_parts(
    monkeypatch: pytest.MonkeyPatch, seed: int, native: bool
) -> None:
    """The heads of one part are in memory at once. A few bytes may stand for a large head."""
    if not native:
        monkeypatch.setattr(session_module, "count_heads", lambda data, skip: None)
    read, parts = Session._receive, []

    def receive(session: Session, data: bytes, now: float) -> None:
        parts.append(bytes(data))
        read(session, data, now)

    monkeypatch.setattr(Session, "_receive", receive)
    server = Server()
    begun, head = server.request(ended=False)
    few = [head, *(data(begun, bytes(16_000)) for _ in range(4)), window(0, 1), PING]
    many = [server.request()[1] for _ in range(90)]
    for frames in [PREFACE, SETTINGS, *few], many, few[1:]:
        sent = b"".join(frames)
        parts.clear()
        for piece in in_pieces(sent, seed):
            server.session.receive(piece, server.now)
        assert b"".join(parts) == sent
        # The next frame begins here.
        assert server.session._skip == 0
        if not seed:
            assert max(map(len, parts)) == (512 if frames is many else 8192)
    assert [stream for stream, _ in server.handler.requests] == [*range(1, 182, 2)]


@given(st.binary(max_size=100), st.integers(0, 100))
def test_heads_are_counted_as_python_counts_them(content: bytes, skip: int) -> None:
    counted = count_heads(content, skip)
    assert counted == (count_heads_of(content, skip) if NATIVE else None)


@pytest.mark.parametrize("size", [30_000, 300_000])
def test_a_large_head(size: int) -> None:
    """It takes as many frames as the limit of the server needs."""
    server = Server(LIMITS._replace(head_size=400_000))
    fields = [*GET, *[(b"x-%d" % n, b"~" * 10_000) for n in range(size // 10_000)]]
    block = Encoder().encode(fields, huffman=False)
    parts = [block[i : i + 16384] for i in range(0, len(block), 16384)]
    frames = [
        len(part).to_bytes(3, "big") + struct.pack(">BBL", 9 if n else 1, 0 if n else 1, 1) + part
        for n, part in enumerate(parts)
    ]
    server.receive(PREFACE, SETTINGS, *frames, bytes.fromhex("000000 09 04 00000001"))
    assert server.handler.requests == [(1, True)]
    assert not server.session.over


def test_a_refused_stream(server: Server) -> None:
    stream = server.begin()
    server.session.reset(stream, REFUSED_STREAM)
    assert frames_of(server.output())[-1].error_code == REFUSED_STREAM
    assert server.handler.closed == [(stream, REFUSED_STREAM)]


@pytest.mark.parametrize(
    "sent",
    [b"\0" * 24, b"GET / HTTP/1.1\r\n\r\n" * 2, PREFACE + PING, PREFACE + bytes(100)],
)
def test_no_preface(sent: bytes) -> None:
    server = Server()
    output = server.receive(sent)
    assert error_of(output) == 1
    assert server.session.over
    assert server.output() == b""


# The budget of frames without progress ------------------------------------------------------------


def is_ended_by(server: Server, *frames: bytes, times: int = 5000) -> bool:
    output = b""
    for _ in range(times):
        output = server.receive(*frames)
        if server.session.over:
            assert error_of(output) == CALM
            return True
    return False


@pytest.mark.parametrize(
    "frame",
    [PING, SETTINGS, window(0, 1), bytes.fromhex("000005 02 00 00000001") + bytes(5)],
    ids=["ping", "settings", "window", "priority"],
)
def test_frames_that_bring_nothing(server: Server, frame: bytes) -> None:
    # Those of PRIORITY are counted by the library, which allows 10,000.
    assert is_ended_by(server, frame, times=20_000)


def test_data_that_brings_nothing(server: Server) -> None:
    server.begin(ended=False)
    assert is_ended_by(server, EMPTY_DATA)


def test_data_that_brings_nearly_nothing(server: Server) -> None:
    stream = server.begin(ended=False)
    assert is_ended_by(server, data(stream, b"x"), times=50_000)


def test_windows_byte_by_byte(server: Server) -> None:
    stream = server.begin()
    server.receive(struct.pack(">HBBBLHL", 0, 6, 4, 0, 0, 4, 0))
    server.session.respond(stream, OK, False)
    server.session.send(stream, bytes(100_000), False)
    assert is_ended_by(server, window(stream, 1))


def test_a_ping_each_second_for_a_day(server: Server) -> None:
    for _ in range(24 * 3600):
        server.now += 1
        assert server.receive(PING)
    assert not server.session.over


def test_many_small_requests(server: Server) -> None:
    """A client may acknowledge each answer by two WINDOW_UPDATE frames, and send a PING."""
    for _ in range(10_000):
        stream = server.begin()
        server.session.respond(stream, OK, False)
        server.session.send(stream, b"hello", True)
        server.output()
        server.receive(window(0, 5), window(stream, 5), PING)
    assert not server.session.over


def test_a_large_download_with_small_windows(server: Server) -> None:
    """1 GiB, with two WINDOW_UPDATE frames for each 4 KiB."""
    stream = server.begin()
    server.session.respond(stream, OK, False)
    sent = 0
    while sent < 1 << 30:
        # The library is told of a part only: what counts is how many bytes the session gives.
        if server.session.queued(stream) < 65536:
            server.session.send(stream, bytes(1 << 20), False)
        output = server.receive(window(0, 4096), window(stream, 4096))
        sent += 64 * len(output)
    assert not server.session.over


def test_a_websocket_with_small_messages(server: Server) -> None:
    """100 messages a second in each direction, for some minutes."""
    stream = server.begin(ended=False)
    server.session.respond(stream, OK, False)
    for count in range(100 * 360):
        server.now += 0.01
        server.receive(data(stream, b"message"))
        server.session.acknowledge(stream, 7)
        server.session.send(stream, b"message", False)
        server.output()
        if count % 1000 == 0:
            server.receive(window(0, 7000), window(stream, 7000))
    assert not server.session.over


def test_messages_that_are_confirmed_by_ping(server: Server) -> None:
    """Clients of gRPC measure the network so, for each message."""
    stream = server.begin()
    server.session.respond(stream, OK, False)
    for _ in range(20_000):
        server.session.send(stream, b"message", False)
        server.output()
        server.receive(PING, window(0, 7))
    assert not server.session.over


def test_acknowledgements_that_are_not_read(server: Server) -> None:
    """The client does not read: nothing is taken from the session."""
    for _ in range(5000):
        server.session.receive(PING, server.now)
        if server.session.over:
            break
    assert error_of(server.output()) == CALM


def test_sessions_that_are_made_together_have_nothing_in_common() -> None:
    maker = SessionMaker(LIMITS)
    servers = [Server() for _ in range(40)]
    for server in servers:
        server.session = maker.make(server.handler, server.now)
        server.receive(PREFACE, SETTINGS)
    for server in servers:
        assert server.begin() == 1
    servers[0].session.reset(1, CANCEL)
    servers[0].output()
    assert [server.handler.closed for server in servers] == [[(1, CANCEL)], *[[]] * 39]


def test_a_closed_session_does_nothing(server: Server) -> None:
    stream = server.begin(False)
    session = server.session
    session.close()
    session.receive(data(stream, b"more"), server.now)
    session.inform(stream, [(b":status", b"103")])
    session.answer(stream, OK, b"ok")
    session.respond(stream, OK, False)
    session.send(stream, b"ok", True)
    session.send_trailers(stream, [(b"a", b"b")])
    session.acknowledge(stream, 1)
    session.reset(stream, CANCEL)
    session.announce_end()
    session.end()
    assert (session.queued(), session.queued(stream), session.window(stream)) == (0, 0, 0)
    assert session.output(OUTPUT) == b""
    assert session.over
    assert server.handler.content == {}
    assert server.handler.closed == []
