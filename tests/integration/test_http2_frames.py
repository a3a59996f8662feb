"""Each MUST of RFC 9113 §3 to §8 that a server can break, by the number of its section.

A case sends something on a connection of its own. Then one of these must follow: an answer, a
stream error, or a connection error. After a stream error the connection goes on. Whatever follows,
other connections are served. docs/http2.md lists where the library differs from the RFC.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hpack import Encoder

from tests.integration.certificates import Authority
from tests.integration.client import Client
from tests.integration.conftest import Config, Gate, Start
from tests.integration.frames import (
    ACK,
    CODES,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    UPDATE,
    WITH_PRIORITY,
    Frames,
    data,
    get,
    post,
    raw,
    reset,
    settings,
    window,
)
from tests.integration.server import Server

CONFIG = Config()
MAX = (1 << 31) - 1
MAX_FRAME = 16384
TABLE_SIZE, ENABLE_PUSH, STREAMS_MAX, INITIAL_WINDOW, FRAME_MAX, LIST_MAX = range(1, 7)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9


@dataclass(frozen=True)
class Stream:
    """A stream error: RST_STREAM with one of these codes. The connection goes on."""

    codes: tuple[int, ...]
    stream: int = 1


@dataclass(frozen=True)
class Ends:
    """A connection error: GOAWAY with one of these codes, and the end."""

    codes: tuple[int, ...]


@dataclass(frozen=True)
class Answers:
    """An answer on this stream; 0: nothing was asked for. The connection goes on."""

    stream: int = 0
    status: int = 200


Outcome = Stream | Ends | Answers
Send = Callable[[Frames], None]
Case = tuple[str, str, Send, Outcome]


def stream_error(*codes: int, stream: int = 1) -> Stream:
    return Stream(codes, stream)


def ends(*codes: int) -> Ends:
    return Ends(codes)


def frames(*sent: bytes) -> Send:
    """Send these frames on a new connection."""
    return lambda client: client.send(*sent)


def request(*fields: tuple[Any, Any]) -> Send:
    """Send a request with these fields, and no others."""
    return lambda client: client.send(client.headers(1, list(fields)))


def more(*fields: tuple[Any, Any]) -> Send:
    """Send a correct request with these fields behind it."""
    return request(*get("/hello", *fields))


def open_stream(*then: bytes) -> Send:
    """Begin an upload on stream 1, and send frames."""
    return lambda client: client.send(client.headers(1, post(), False), *then)


def half_closed(*then: bytes) -> Send:
    """Ask for an answer that does not come to an end, and send frames."""

    def send(client: Frames) -> None:
        client.send(client.headers(1, get("/endless")), *then)

    return send


def answered(*then: bytes) -> Send:
    """Send frames when stream 1 has ended in both directions."""

    def send(client: Frames) -> None:
        client.get()
        client.send(*then)

    return send


def again(client: Frames) -> None:
    """Send the same HEADERS again when the answer has come."""
    client.get()
    client.send(client.headers(1, get()))


def twice(client: Frames) -> None:
    """Send the same HEADERS again while the answer comes."""
    client.send(client.headers(1, get("/endless")), client.headers(1, get()))


def reset_then(*then: bytes) -> Send:
    """Send frames on a stream that the client has reset."""
    return open_stream(reset(1), *then)


def padded(kind: int, padding: int, flags: int = 0) -> bytes:
    """Return a frame on stream 1 that says it has so much padding, with no content."""
    return raw(kind, PADDED | flags, 1, bytes([padding]) + bytes(4))


def split_block(first: int, *between: bytes, last: int = 1) -> Send:
    """Send a header block in two frames, of stream `first` and `last`, and frames between them."""

    def send(client: Frames) -> None:
        block = client.block(get())
        client.send(
            raw(HEADERS, END_STREAM, first, block[:5]),
            *between,
            raw(CONTINUATION, END_HEADERS, last, block[5:]),
        )

    return send


def many_continuations(client: Frames) -> None:
    block = client.block(get())
    parts = [block[i : i + 20] for i in range(0, len(block), 20)]
    client.send(
        raw(HEADERS, END_STREAM, 1, parts[0]),
        *(raw(CONTINUATION, 0, 1, part) for part in parts[1:]),
        raw(CONTINUATION, END_HEADERS, 1),
    )


def with_flags(flags: int, before: bytes = b"", after: bytes = b"") -> Send:
    def send(client: Frames) -> None:
        block = before + client.block(get()) + after
        client.send(raw(HEADERS, flags | END_HEADERS | END_STREAM, 1, block))

    return send


def trailers(*fields: tuple[Any, Any], end: bool = True) -> Send:
    def send(client: Frames) -> None:
        client.send(
            client.headers(1, post(), False),
            data(1, b"abc"),
            client.headers(1, list(fields), end),
        )

    return send


def streams(*numbers: int) -> Send:
    def send(client: Frames) -> None:
        client.send(*(client.headers(number, get()) for number in numbers))

    return send


def greedy(client: Frames) -> None:
    """Open more streams than the server allows, which wait for their bodies."""
    client.wait(lambda: client.settings and client.acks)
    client.ping()
    for number in range(1, 2 * client.settings[STREAMS_MAX] + 3, 2):
        client.send(client.headers(number, post(), False))


def overflow(stream: int) -> Send:
    return half_closed(window(stream, MAX))


def table_update(size: int) -> bytes:
    """Return a change of the size of the dynamic table (RFC 7541 §6.3)."""
    encoder = Encoder()
    encoder.header_table_size = size
    return encoder.encode(get())


SELF = struct.pack(">LB", 1, 10)
"""The stream depends on itself, with a weight (RFC 7540 §5.3.1)."""
OVER = (STREAM_CLOSED, PROTOCOL_ERROR)
PSEUDO = get()
METHOD, SCHEME, PATH, AUTHORITY = PSEUDO
MALFORMED = stream_error(PROTOCOL_ERROR)
GOES_ON = Answers()
ANSWERED = Answers(1)

CASES: list[Case] = [
    # 3.4 Connection preface
    ("3.4", "empty SETTINGS", more(), ANSWERED),
    # 4.1 Frame format
    ("4.1", "unknown type", frames(raw(0x7A, 0xFF, 1, b"any")), GOES_ON),
    ("4.1", "unknown type on stream 0", frames(raw(0xFF, 0, 0, bytes(100))), GOES_ON),
    ("4.1", "unknown flags", with_flags(0xD2), ANSWERED),
    ("4.1", "reserved bit", lambda c: c.send(raw(PING, 0, 1 << 31, bytes(8))), GOES_ON),
    # 4.2 Frame size
    ("4.2", "DATA too large", open_stream(data(1, bytes(MAX_FRAME + 1))), ends(FRAME_SIZE_ERROR)),
    (
        "4.2",
        "HEADERS too large",
        frames(raw(HEADERS, END_HEADERS, 1, bytes(MAX_FRAME + 1))),
        ends(FRAME_SIZE_ERROR),
    ),
    ("4.2", "only its head", frames(raw(DATA, 0, 1, length=MAX_FRAME + 1)), ends(FRAME_SIZE_ERROR)),
    ("4.2", "as large as allowed", open_stream(data(1, bytes(MAX_FRAME), True)), ANSWERED),
    # 4.3 Field section compression
    ("4.3", "index 0", frames(raw(HEADERS, 5, 1, b"\x80")), ends(COMPRESSION_ERROR)),
    ("4.3", "unknown index", frames(raw(HEADERS, 5, 1, b"\xff\x7f")), ends(COMPRESSION_ERROR)),
    ("4.3", "endless integer", frames(raw(HEADERS, 5, 1, b"\xff" * 20)), ends(COMPRESSION_ERROR)),
    ("4.3", "cut string", frames(raw(HEADERS, 5, 1, b"\x00\x7f\x09a")), ends(COMPRESSION_ERROR)),
    (
        "4.3",
        "Huffman code with EOS",
        frames(raw(HEADERS, 5, 1, b"\x00\x84\xff\xff\xff\xff\x00")),
        ends(COMPRESSION_ERROR),
    ),
    (
        "4.3",
        "table larger than allowed",
        frames(raw(HEADERS, 5, 1, b"\x3f\xe2\x1f\x82")),
        ends(COMPRESSION_ERROR),
    ),
    (
        "4.3",
        "table size after a field",
        frames(raw(HEADERS, 5, 1, b"\x82\x20\x84\x86")),
        ends(COMPRESSION_ERROR),
    ),
    ("4.3", "smaller table", frames(raw(HEADERS, 5, 1, table_update(100))), ANSWERED),
    (
        "4.3",
        "frame within a block",
        split_block(1, raw(PING, 0, 0, bytes(8))),
        ends(PROTOCOL_ERROR),
    ),
    ("4.3", "DATA within a block", split_block(1, data(1, b"x")), ends(PROTOCOL_ERROR)),
    ("4.3", "unknown frame within a block", split_block(1, raw(0x7A, 0, 1)), ends(PROTOCOL_ERROR)),
    # 5.1 Stream states
    ("5.1", "idle: DATA", frames(data(1, b"x")), ends(*OVER)),
    ("5.1", "idle: RST_STREAM", frames(reset(1)), ends(PROTOCOL_ERROR)),
    ("5.1", "idle: WINDOW_UPDATE", frames(window(1, 1)), ends(PROTOCOL_ERROR)),
    ("5.1", "idle: CONTINUATION", frames(raw(CONTINUATION, 4, 1)), ends(PROTOCOL_ERROR)),
    ("5.1", "idle: PRIORITY", frames(raw(PRIORITY, 0, 1, bytes(4) + b"\x10")), GOES_ON),
    ("5.1", "half-closed: DATA", half_closed(data(1, b"x")), ends(STREAM_CLOSED)),
    ("5.1", "half-closed: HEADERS", twice, ends(STREAM_CLOSED)),
    ("5.1", "half-closed: WINDOW_UPDATE", half_closed(window(1, 1), reset(1)), GOES_ON),
    ("5.1", "closed: DATA", answered(data(1, b"x")), GOES_ON),
    ("5.1", "closed: HEADERS", again, GOES_ON),
    ("5.1", "closed: CONTINUATION", answered(raw(CONTINUATION, 4, 1)), ends(*OVER)),
    ("5.1", "closed: WINDOW_UPDATE", answered(window(1, 1)), GOES_ON),
    ("5.1", "closed: RST_STREAM", answered(reset(1)), GOES_ON),
    ("5.1", "closed: PRIORITY", answered(raw(PRIORITY, 0, 1, bytes(5))), GOES_ON),
    ("5.1", "reset: DATA", reset_then(data(1, b"x")), GOES_ON),
    ("5.1", "reset: WINDOW_UPDATE", reset_then(window(1, 1)), GOES_ON),
    ("5.1", "reset: RST_STREAM", reset_then(reset(1)), GOES_ON),
    # 5.1.1 Stream identifiers
    ("5.1.1", "even", streams(2), ends(PROTOCOL_ERROR)),
    ("5.1.1", "lower than before", streams(5, 3), Answers(5)),
    ("5.1.1", "gaps", streams(101, 201), Answers(201)),
    (
        "5.1.1",
        "skipped ones are closed",
        lambda c: c.send(c.headers(5, get()), window(3, 1)),
        Answers(5),
    ),
    ("5.1.1", "stream 0", streams(0), ends(PROTOCOL_ERROR)),
    # 5.1.2 Stream concurrency
    ("5.1.2", "too many", greedy, ends(PROTOCOL_ERROR)),
    # 5.3 Prioritization, which is deprecated
    ("5.3", "depends on itself", frames(raw(PRIORITY, 0, 1, SELF)), GOES_ON),
    (
        "5.3",
        "HEADERS that depend on themselves",
        with_flags(WITH_PRIORITY, SELF),
        ends(PROTOCOL_ERROR),
    ),
    # 5.5 Extending HTTP/2
    (
        "5.5",
        "unknown frame between",
        open_stream(raw(0x40, 0, 1, b"x"), data(1, b"", True)),
        ANSWERED,
    ),
    ("5.5", "unknown setting", frames(settings({0xFFFF: 7})), GOES_ON),
    # 6.1 DATA
    ("6.1", "stream 0", frames(data(0, b"x")), ends(PROTOCOL_ERROR)),
    ("6.1", "too much padding", open_stream(padded(DATA, 5)), ends(PROTOCOL_ERROR)),
    (
        "6.1",
        "no padding length",
        open_stream(raw(DATA, PADDED, 1)),
        ends(FRAME_SIZE_ERROR, PROTOCOL_ERROR),
    ),
    ("6.1", "only padding", open_stream(padded(DATA, 4, END_STREAM)), ANSWERED),
    # 6.2 HEADERS
    ("6.2", "too much padding", frames(padded(HEADERS, 5, 5)), ends(PROTOCOL_ERROR)),
    ("6.2", "padding", with_flags(PADDED, b"\x03", bytes(3)), ANSWERED),
    ("6.2", "priority cut short", frames(raw(HEADERS, 0x25, 1, b"\0\0\0")), ends(FRAME_SIZE_ERROR)),
    ("6.2", "priority", with_flags(WITH_PRIORITY, bytes(4) + b"\xff"), ANSWERED),
    # 6.3 PRIORITY
    ("6.3", "stream 0", frames(raw(PRIORITY, 0, 0, bytes(5))), GOES_ON),
    ("6.3", "length", open_stream(raw(PRIORITY, 0, 1, bytes(4))), ends(FRAME_SIZE_ERROR)),
    # 6.4 RST_STREAM
    ("6.4", "stream 0", frames(reset(0)), ends(PROTOCOL_ERROR)),
    ("6.4", "length", open_stream(raw(RST_STREAM, 0, 1, bytes(3))), ends(FRAME_SIZE_ERROR)),
    ("6.4", "too long", open_stream(raw(RST_STREAM, 0, 1, bytes(5))), ends(FRAME_SIZE_ERROR)),
    # 6.5 SETTINGS
    ("6.5", "stream 1", frames(raw(SETTINGS, 0, 1)), ends(PROTOCOL_ERROR)),
    (
        "6.5",
        "acknowledgement with content",
        frames(raw(SETTINGS, ACK, 0, bytes(6))),
        ends(FRAME_SIZE_ERROR),
    ),
    ("6.5", "length", frames(raw(SETTINGS, 0, 0, bytes(5))), ends(FRAME_SIZE_ERROR)),
    ("6.5.2", "ENABLE_PUSH 2", frames(settings({ENABLE_PUSH: 2})), ends(PROTOCOL_ERROR)),
    (
        "6.5.2",
        "window too large",
        frames(settings({INITIAL_WINDOW: MAX + 1})),
        ends(FLOW_CONTROL_ERROR),
    ),
    (
        "6.5.2",
        "frame size too small",
        frames(settings({FRAME_MAX: MAX_FRAME - 1})),
        ends(PROTOCOL_ERROR),
    ),
    ("6.5.2", "frame size too large", frames(settings({FRAME_MAX: 1 << 24})), ends(PROTOCOL_ERROR)),
    (
        "6.5.2",
        "all at their bounds",
        frames(
            settings({TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW: MAX, FRAME_MAX: (1 << 24) - 1})
        ),
        GOES_ON,
    ),
    # 6.6 PUSH_PROMISE
    (
        "6.6",
        "from a client",
        open_stream(raw(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82")),
        ends(PROTOCOL_ERROR),
    ),
    # 6.7 PING
    ("6.7", "stream 1", frames(raw(PING, 0, 1, bytes(8))), ends(PROTOCOL_ERROR)),
    ("6.7", "length", frames(raw(PING, 0, 0, bytes(7))), ends(FRAME_SIZE_ERROR)),
    ("6.7", "acknowledgement unasked for", frames(raw(PING, ACK, 0, bytes(8))), GOES_ON),
    # 6.8 GOAWAY
    ("6.8", "stream 1", frames(raw(GOAWAY, 0, 1, bytes(8))), ends(PROTOCOL_ERROR)),
    ("6.8", "length", frames(raw(GOAWAY, 0, 0, bytes(7))), ends(FRAME_SIZE_ERROR)),
    # 6.9 WINDOW_UPDATE
    ("6.9", "0 for a stream", half_closed(window(1, 0)), ends(PROTOCOL_ERROR)),
    ("6.9", "0 for the connection", frames(window(0, 0)), ends(PROTOCOL_ERROR)),
    ("6.9", "length", frames(raw(UPDATE, 0, 0, bytes(3))), ends(FRAME_SIZE_ERROR)),
    ("6.9", "reserved bit", frames(window(0, 1 | 1 << 31)), GOES_ON),
    ("6.9.1", "overflow of a stream", overflow(1), ends(FLOW_CONTROL_ERROR)),
    ("6.9.1", "overflow of the connection", overflow(0), ends(FLOW_CONTROL_ERROR)),
    (
        "6.9.2",
        "overflow by SETTINGS",
        half_closed(window(1, MAX - 70000), settings({INITIAL_WINDOW: 80000})),
        ends(FLOW_CONTROL_ERROR),
    ),
    # 6.10 CONTINUATION
    ("6.10", "stream 0", split_block(1, last=0), ends(PROTOCOL_ERROR)),
    ("6.10", "another stream", split_block(1, last=3), ends(PROTOCOL_ERROR)),
    ("6.10", "after the last one", half_closed(raw(CONTINUATION, 4, 1)), ends(PROTOCOL_ERROR)),
    ("6.10", "two in place", split_block(1, raw(CONTINUATION, 0, 1)), ANSWERED),
    ("6.10", "several", many_continuations, ANSWERED),
    # 7 Error codes
    ("7", "unknown code", open_stream(reset(1, 0xFFFFFFFF)), GOES_ON),
    # 8.1 HTTP message framing
    ("8.1", "trailers", trailers(("x-sum", "1")), ANSWERED),
    ("8.1", "trailers without END_STREAM", trailers(("x-sum", "1"), end=False), MALFORMED),
    ("8.1", "pseudo-header field in trailers", trailers((":path", "/")), MALFORMED),
    # 8.2 HTTP fields
    ("8.2", "upper case", more(("X-Name", "b")), MALFORMED),
    ("8.2.1", "space in a name", more(("x a", "b")), MALFORMED),
    ("8.2.1", "empty name", more(("", "b")), MALFORMED),
    ("8.2.1", "colon in a name", more(("x:a", "b")), MALFORMED),
    ("8.2.1", "control character in a name", more((b"x\x01", "b")), MALFORMED),
    ("8.2.1", "name beyond ASCII", more((b"x\xff", "b")), MALFORMED),
    ("8.2.1", "CR LF in a value", more(("x", "a\r\nb: c")), MALFORMED),
    ("8.2.1", "CR in a value", more(("x", "a\rb")), MALFORMED),
    ("8.2.1", "LF in a value", more(("x", "a\nb")), MALFORMED),
    ("8.2.1", "NUL in a value", more(("x", "a\0b")), MALFORMED),
    ("8.2.1", "space before a value", more(("x", " a")), MALFORMED),
    ("8.2.1", "tab after a value", more(("x", "a\t")), MALFORMED),
    ("8.2.1", "empty value", more(("x", "")), ANSWERED),
    ("8.2.1", "value beyond ASCII", more(("x", b"\xe4\xff")), ANSWERED),
    *(
        ("8.2.2", name, more((name, value)), MALFORMED)
        for name, value in (
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
        )
    ),
    ("8.2.2", "te with trailers", more(("te", "trailers")), ANSWERED),
    ("8.2.3", "cookies", more(("cookie", "a=b"), ("cookie", "c=d")), ANSWERED),
    # 8.3 HTTP control data
    (
        "8.3",
        "pseudo-header field after another",
        request(METHOD, SCHEME, ("x", "y"), PATH),
        MALFORMED,
    ),
    ("8.3", "pseudo-header field of a response", request(*PSEUDO, (":status", "200")), MALFORMED),
    ("8.3", "unknown pseudo-header field", request(*PSEUDO, (":x", "y")), MALFORMED),
    ("8.3", "repeated :method", request(METHOD, *PSEUDO), MALFORMED),
    ("8.3", "repeated :path", request(PATH, *PSEUDO), MALFORMED),
    ("8.3", "repeated :scheme", request(SCHEME, *PSEUDO), MALFORMED),
    ("8.3", "repeated :authority", request(AUTHORITY, *PSEUDO), MALFORMED),
    ("8.3.1", "no :method", request(SCHEME, PATH, AUTHORITY), MALFORMED),
    ("8.3.1", "no :scheme", request(METHOD, PATH, AUTHORITY), MALFORMED),
    ("8.3.1", "no :path", request(METHOD, SCHEME, AUTHORITY), MALFORMED),
    ("8.3.1", "empty :path", request(METHOD, SCHEME, (":path", ""), AUTHORITY), MALFORMED),
    ("8.3.1", "relative :path", request(METHOD, SCHEME, (":path", "a"), AUTHORITY), MALFORMED),
    (
        "8.3.1",
        "absolute :path",
        request(METHOD, SCHEME, (":path", "http://a/"), AUTHORITY),
        MALFORMED,
    ),
    ("8.3.1", "space in :path", request(METHOD, SCHEME, (":path", "/ a"), AUTHORITY), MALFORMED),
    (
        "8.3.1",
        "asterisk without OPTIONS",
        request(METHOD, SCHEME, (":path", "*"), AUTHORITY),
        MALFORMED,
    ),
    ("8.3.1", "host that differs", more(("host", "b.example")), MALFORMED),
    ("8.3.1", "host that is the same", more(("host", "a.example")), ANSWERED),
    ("8.3.1", "host alone", request(METHOD, SCHEME, PATH, ("host", "a.example")), ANSWERED),
    (
        "8.3.1",
        "user in :authority",
        request(METHOD, SCHEME, PATH, (":authority", "u@a")),
        MALFORMED,
    ),
    # 8.5 The CONNECT method
    ("8.5", "CONNECT", request((":method", "CONNECT"), (":authority", "a:80")), Answers(1, 501)),
    ("8.5", "CONNECT with a path", request((":method", "CONNECT"), *PSEUDO[1:]), MALFORMED),
    ("8.5", "CONNECT without authority", request((":method", "CONNECT")), MALFORMED),
]


def sized(length: object, *sent: bytes) -> Send:
    """Send an upload with this Content-Length, and frames."""

    def send(client: Frames) -> None:
        client.send(client.headers(1, post("/hash", ("content-length", str(length))), False), *sent)

    return send


CASES += [
    ("8.1.1", "more than content-length", sized(2, data(1, b"abc", True)), MALFORMED),
    ("8.1.1", "less than content-length", sized(4, data(1, b"abc", True)), MALFORMED),
    ("8.1.1", "more than content-length, no end", sized(2, data(1, b"abc")), MALFORMED),
    ("8.1.1", "as content-length says", sized(3, data(1, b"a"), data(1, b"bc", True)), ANSWERED),
    ("8.1.1", "content-length is no number", sized("3x", data(1, b"abc", True)), MALFORMED),
    ("8.1.1", "content-length without content", more(("content-length", "3")), MALFORMED),
    ("8.1.1", "two of content-length", more(*[("content-length", "0")] * 2), MALFORMED),
]


def name_of(case: Case) -> str:
    return f"{case[0]}-{re.sub('[^A-Za-z0-9.]+', '-', case[1]).lower()}"


@pytest.fixture
def server(shared: Start) -> Server:
    return shared(CONFIG.app, *CONFIG.options)


@pytest.fixture
def client(server: Server) -> Iterator[Frames]:
    with Frames(server, grants=True) as client:
        yield client
    with Frames(server) as other:
        other.get()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_case(client: Frames, case: Case) -> None:
    _, _, send, outcome = case
    try:
        send(client)
    except ConnectionError:
        # The server did not wait for all of it.
        assert isinstance(outcome, Ends)
    if isinstance(outcome, Ends):
        client.wait_for_end()
        assert client.error in outcome.codes, [CODES[code] for _, code in client.goaways]
        return
    if outcome.stream:
        answer = client.answer(outcome.stream)
        if isinstance(outcome, Stream):
            assert answer.reset in outcome.codes
        else:
            assert (answer.status, answer.ended, answer.reset) == (outcome.status, True, None)
    follow_up = client.headers(301, get())
    client.send(follow_up)
    assert client.answer(301).body == b"hello"
    assert not client.goaways


# What no case of the table shows ------------------------------------------------------------------


def test_3_4_the_server_begins_with_settings(server: Server) -> None:
    with Frames(server, begin=False) as client:
        client.send(PREFACE, settings())
        client.wait(lambda: client.frames)
        assert client.frames[0] == "SETTINGS"
        client.get()
        assert client.acks == 1


def test_3_2_inside_tls(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = start(CONFIG.app, *CONFIG.options, *authority.options("localhost", "127.0.0.1"))
    with Frames(server, tls=authority.client(), grants=True) as client:
        assert client.request(get("/download?size=300000")).size == 300_000
        stream = client.begin(post(), False)
        for _ in range(100):
            client.send(data(stream, b"x"))
        client.send(data(stream, b"", True))
        assert b'"size": 100}' in client.answer(stream).body
        client.send(raw(PING, 0, 1, bytes(8)))
        client.wait_for_end()
        assert client.error == PROTOCOL_ERROR
    for chosen in [], ["http/1.1"]:
        context = authority.client()
        context.set_alpn_protocols(chosen)
        with Client(server.address, tls=context) as client_1:
            # ALPN has not chosen HTTP/2, so the preface is a wrong request of HTTP/1.1.
            client_1.send(PREFACE + settings())
            assert client_1.response().status == 505
    with Frames(server, tls=authority.client(), begin=False) as client:
        # ALPN has chosen HTTP/2, so it is not a request of HTTP/1.1.
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        client.wait_for_end()
        assert client.error == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "sent",
    [PREFACE + raw(PING, 0, 0, bytes(8)), PREFACE + data(1, b"x"), PREFACE + raw(SETTINGS, ACK, 0)],
    ids=["ping", "data", "acknowledgement"],
)
def test_3_4_a_client_begins_with_settings(server: Server, sent: bytes) -> None:
    with Frames(server, begin=False) as client:
        client.send(sent)
        client.wait_for_end()
        assert client.error == PROTOCOL_ERROR


def test_3_4_a_wrong_preface_is_a_request_of_http_1(server: Server) -> None:
    with Frames(server, begin=False) as client:
        client.send(PREFACE.replace(b"2.0", b"2.1"))
        assert client.sock.recv(1000).startswith(b"HTTP/1.1 ")
    with Frames(server, begin=False) as client:
        # It ends with the wrong bytes.
        client.send(PREFACE.replace(b"SM", b"SN"))
        client.wait_for_end()
        assert client.error in (None, PROTOCOL_ERROR)


def test_3_4_a_preface_byte_by_byte(server: Server) -> None:
    with Frames(server, begin=False) as client:
        first = PREFACE + settings() + client.headers(1, get())
        for position in range(len(first)):
            client.send(first[position : position + 1])
        assert client.answer(1).body == b"hello"


def test_4_3_the_table_of_the_client_bounds_that_of_the_server(server: Server) -> None:
    with Frames(server) as client:
        client.get()
        client.send(settings({TABLE_SIZE: 0}))
        client.wait(lambda: client.acks == 2)
        # It fails if the server does not say so at the start of its next block.
        client.decoder.max_allowed_table_size = 0
        client.get()
        client.get()
        assert client.decoder.header_table_size == 0


def test_5_1_content_on_closed_streams_is_counted(server: Server) -> None:
    """Else they would use up the window of the connection (RFC 9113 §5.1, §6.9)."""
    with Frames(server) as client:
        client.get()
        client.wait(lambda: client.granted[0])
        # Beyond the window that the connection has at first.
        begin, room = client.granted[0], 65535 + client.granted[0]
        for _ in range(3 * room // MAX_FRAME):
            client.send(data(1, bytes(MAX_FRAME)))
            room -= MAX_FRAME
            client.wait(lambda: room + client.granted[0] - begin >= MAX_FRAME)  # noqa: B023
        client.get()


def test_5_4_2_a_reset_is_not_answered(client: Frames) -> None:
    client.send(client.headers(1, post(), False), reset(1))
    client.ping()
    client.send(reset(1))
    client.ping()
    assert client.answers[1].reset is None


def test_6_5_2_what_the_client_may_do(client: Frames) -> None:
    """100 streams, 256 KiB for each and 1 MiB for all, heads of 64 KiB, WebSockets (RFC 8441 §3).
    Priorities are those of RFC 9218 (§2.1)."""
    client.get()
    assert client.settings == {
        STREAMS_MAX: 100,
        INITIAL_WINDOW: 1 << 18,
        LIST_MAX: 1 << 16,
        ENABLE_CONNECT_PROTOCOL: 1,
        NO_RFC7540_PRIORITIES: 1,
    }
    assert client.granted == {0: (1 << 20) - 65535}


def test_6_5_3_settings_are_acknowledged(client: Frames) -> None:
    client.send(settings({STREAMS_MAX: 1}), settings(), settings({LIST_MAX: 100}))
    client.wait(lambda: client.acks == 4)


def test_6_5_2_frames_are_as_large_as_the_client_allows(client: Frames) -> None:
    client.send(window(0, 1 << 20), settings({INITIAL_WINDOW: 1 << 20, FRAME_MAX: MAX_FRAME}))
    client.request(get("/download?size=500000"))
    assert max(client.sizes) <= MAX_FRAME


def test_6_7_a_pong_has_what_the_ping_had(client: Frames) -> None:
    client.send(raw(PING, 0, 0, b"12345678"), raw(PING, ACK, 0, b"not this"))
    client.send(raw(PING, 0, 0, b"87654321"))
    client.wait(lambda: len(client.pongs) == 2)
    assert client.pongs == [b"12345678", b"87654321"]


def test_6_8_a_client_that_leaves_gets_its_answers(client: Frames) -> None:
    client.send(client.headers(1, post(), False), raw(GOAWAY, 0, 0, bytes(8)))
    client.send(data(1, b"abc", True))
    assert client.answer(1).status == 200


@pytest.mark.parametrize("uploads", [1, 6])
def test_6_9_1_content_beyond_a_window(server: Server, gate: Gate, uploads: int) -> None:
    """That of a stream, or that of the connection: no app takes anything."""
    numbers = range(1, 2 * uploads + 1, 2)
    fields = post(f"/wait?gate={gate}")
    with Frames(server) as client:
        client.send(*(client.headers(number, fields, False) for number in numbers))
        try:
            for _ in range(64):
                client.send(*(data(number, bytes(MAX_FRAME)) for number in numbers))
        except ConnectionError:
            # The server did not wait for all of it.
            pass
        client.wait_for_end()
        assert client.error == FLOW_CONTROL_ERROR
    gate.open()


def test_6_9_1_windows_are_kept(server: Server) -> None:
    with Frames(server, ours={INITIAL_WINDOW: 1000}) as client:
        stream = client.begin(get("/download?size=3000"))
        answer = client.answers[stream]
        client.wait(lambda: answer.size == 1000)
        client.ping()
        assert answer.size == 1000
        client.send(window(stream, 1))
        client.wait(lambda: answer.size == 1001)
        # That of the connection.
        client.send(window(stream, 1 << 20))
        client.wait(lambda: answer.ended)
        large = client.begin(get("/download?size=100000"))
        client.send(window(large, 1 << 20))
        rest = 65535 - 3000
        client.wait(lambda: client.answers[large].size == rest)
        client.ping()
        assert client.answers[large].size == rest
        client.send(window(0, 1 << 20))
        assert client.answer(large).size == 100000


def test_6_9_2_a_window_can_become_negative(server: Server) -> None:
    with Frames(server, ours={INITIAL_WINDOW: 1000}) as client:
        stream = client.begin(get("/download?size=3000"))
        answer = client.answers[stream]
        client.wait(lambda: answer.size == 1000)
        client.send(settings({INITIAL_WINDOW: 0}), window(stream, 1000))
        client.ping()
        assert answer.size == 1000
        client.send(window(stream, 1))
        client.wait(lambda: answer.size == 1001)
        client.send(settings({INITIAL_WINDOW: 100}))
        client.wait(lambda: answer.size == 1101)
        client.send(settings({INITIAL_WINDOW: 5000}))
        assert client.answer(stream).size == 3000


def test_8_1_an_answer_to_head_has_no_content(client: Frames) -> None:
    answer = client.request(get("/hello", method="HEAD"))
    assert (answer.status, answer.field(b"content-length"), answer.body) == (200, b"5", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_8_1_answers_without_content(client: Frames, status: int) -> None:
    answer = client.request(get(f"/status?code={status}"))
    assert (answer.status, answer.ended, answer.body) == (status, True, b"")
    assert "DATA" not in client.frames


def test_8_2_2_answers_have_no_fields_of_a_connection(client: Frames) -> None:
    names = {name for name, _ in client.request(get("/hop-by-hop")).fields}
    assert b"x-mine" in names
    assert not names & {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
