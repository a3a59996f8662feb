"""Fuzz target: the frames of a WebSocket's client, by `WebSocket`, and ours, by `FrameFollower`.

A stream means the same however it is cut, and whether C takes its messages or Python does.
`websockets` reads what we accept as we do, and rejects what we reject with the same code, but for
the rules that it does not have. It reads back what we send.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from reactor_run.protocol.websocket import connection, rules
from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.deflate import DeflateParameters, PerMessageDeflate
from reactor_run.protocol.websocket.follower import FrameFollower
from reactor_run.protocol.websocket.rules import Close
from tests.fuzz.inputs import BYTEWISE, WHOLE, check_changed, ends, split_input
from tests.protocol.websocket.frames import frame

MAX: Final = 300
"""Bytes of the largest message. It is small, so that a fuzzer finds it."""
DEFLATED: Final = 0x40
"""A bit of the control: the client may compress its messages."""
PARAMETERS: Final = DeflateParameters(False, False, 10, 10, 2)
KEPT_MAX: Final = 131
"""Most bytes that wait to be decoded: a control frame without its last byte."""
OURS_ALONE: Final = (
    rules.LENGTH,
    rules.CONTROL_LENGTH,
    rules.TEXT,
    rules.TOO_BIG,
    rules.DEFLATE,
)
"""Rules that `websockets` does not have, or that it counts in another way."""


class Outcome(NamedTuple):
    messages: list[str | bytes]
    out: list[bytes]
    close: Close | None
    failed: Close | None
    pongs: int
    at_rest: bool


def check(data: bytes) -> None:
    control, content = split_input(data)
    deflated = bool(control[0] & DEFLATED)
    whole = read(content, [len(content)], deflated)
    cut = read(content, list(ends(control, len(content))), deflated)
    if deflated and whole.failed in OURS_ALONE:
        # Of several faults in a compressed message the cuts decide which one is found first.
        assert cut.failed in OURS_ALONE
        assert cut.messages == whole.messages
    else:
        assert cut == whole, "the cuts decide what a stream means"
    with mock.patch.object(connection, "take_messages", return_value=0):
        assert read(content, [len(content)], deflated) == whole, "C and Python differ"
    compare(content, whole, deflated)
    send_back(control, whole.messages)
    follow(control, content)


def read(content: bytes, cuts: list[int], deflated: bool) -> Outcome:
    websocket = WebSocket(
        message_max=MAX, deflate=PerMessageDeflate(PARAMETERS) if deflated else None
    )
    begin = 0
    for end in cuts:
        websocket.receive(content[begin:end])
        while websocket.pending:
            assert websocket.failed is None
            websocket.go_on()
        assert len(websocket._rest) <= KEPT_MAX, "an incomplete frame is kept"
        begin = end
    for message in websocket.messages:
        assert len(message.encode() if isinstance(message, str) else message) <= MAX
    ended = websocket.failed is not None or websocket.closed_by_peer is not None
    assert websocket.close_sent is ended
    if ended:
        assert websocket.at_rest
    return Outcome(
        list(websocket.messages),
        websocket.out,
        websocket.closed_by_peer,
        websocket.failed,
        websocket.pongs,
        websocket.at_rest,
    )


class Deflate(TheirDeflate):
    """`websockets`' end of the compression.

    ended: a final block has ended the stream. It reads nothing after that, and RFC 7692 §7.2.3.5
    says that a new stream follows.
    """

    ended = False

    def decode(self, *arguments: Any, **options: Any) -> Any:
        frame = super().decode(*arguments, **options)
        self.ended = self.ended or self.decoder.eof
        return frame


def their_extension() -> Deflate:
    """Return `websockets`' end of the compression."""
    return Deflate(False, False, 10, 10)


def compare(content: bytes, ours: Outcome, deflated: bool) -> None:
    """Check that `websockets` reads the stream as we did."""
    protocol = Protocol(SERVER, state=OPEN, max_size=MAX)
    extension = their_extension()
    if deflated:
        protocol.extensions = [extension]
    protocol.receive_data(content)
    if extension.ended:
        return
    messages, pongs, closed = read_events(protocol.events_received())
    failure = protocol.parser_exc
    if "incomplete fragmented message" in str(failure):
        # It rejects a close frame between two fragments, which RFC 6455 §5.4 allows.
        assert ours.close is not None or ours.failed is not None
    elif isinstance(failure, PayloadTooBig):
        # It counts the compressed bytes, too, and a ping within a message.
        both = zip(messages, ours.messages, strict=False)
        assert all(theirs == as_bytes(message) for theirs, message in both)
    elif ours.failed is None:
        assert failure is None or isinstance(failure, EOFError), "websockets rejects it"
        assert messages == [as_bytes(message) for message in ours.messages]
        assert pongs == ours.pongs
        assert closed == (None if ours.close is None else ours.close.code)
    else:
        got = [as_bytes(message) for message in ours.messages]
        assert messages[: len(got)] == got
        if ours.failed in OURS_ALONE:
            return
        if failure is None:
            # It waits for the end of a frame whose header is wrong.
            protocol.receive_data(bytes(MAX + 14))
            assert protocol.parser_exc is not None, "websockets accepts it"
        elif ours.failed is rules.CLOSE_CODE:
            # A reason that is not UTF-8 takes precedence there.
            assert isinstance(failure, ProtocolError | UnicodeDecodeError)
        else:
            assert protocol.close_sent is not None
            # It looks at the length first.
            assert protocol.close_sent.code in (ours.failed.code, rules.TOO_BIG.code)


def read_events(events: list[Any]) -> tuple[list[bytes], int, int | None]:
    messages: list[bytes] = []
    parts: list[bytes] = []
    pongs = 0
    closed = None
    for event in events:
        assert isinstance(event, Frame)
        if event.opcode == Opcode.CLOSE:
            closed = int.from_bytes(event.data[:2], "big") if event.data else rules.NO_CODE
        elif event.opcode == Opcode.PONG:
            pongs += 1
        elif event.opcode != Opcode.PING:
            assert bool(parts) is (event.opcode == Opcode.CONT)
            parts.append(bytes(event.data))
            if event.fin:
                messages.append(b"".join(parts))
                parts = []
    return messages, pongs, closed


def as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def send_back(control: bytes, messages: list[str | bytes]) -> None:
    """Check that a client reads what we send, and that its frames can be followed."""
    deflated = bool(control[0] & DEFLATED)
    websocket = WebSocket(
        message_max=0, deflate=PerMessageDeflate(PARAMETERS) if deflated else None
    )
    frames = [websocket.send(message) for message in messages]
    frames += [websocket.ping(control), websocket.close(1000 + control[3] % 4, "é" * control[2])]
    client = Protocol(CLIENT, state=OPEN)
    if deflated:
        client.extensions = [their_extension()]
    stream = b"".join(frames)
    client.receive_data(stream)
    received, _, closed = read_events(client.events_received())
    assert received == [as_bytes(message) for message in messages]
    assert closed == 1000 + control[3] % 4
    starts = {0}
    for each in frames:
        starts.add(max(starts) + len(each))
    follower = FrameFollower()
    begin = 0
    for end in ends(control, len(stream)):
        follower.feed(stream[begin:end])
        assert follower.at_boundary is (end in starts)
        begin = end
    assert follower.closed


def follow(control: bytes, content: bytes) -> None:
    """Check that any stream is followed alike however it is cut."""
    whole = FrameFollower()
    whole.feed(content)
    cut = FrameFollower()
    begin = 0
    for end in ends(control, len(content)):
        cut.feed(memoryview(content)[begin:end])
        begin = end
    assert (whole.at_boundary, whole.closed) == (cut.at_boundary, cut.closed)


def deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-10)
    return (deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def seeds() -> Iterator[bytes]:
    # Without a mask a fuzzer sees the payload.
    mask = bytes(4)

    def plain(first: int, payload: bytes = b"", wide: int | None = None) -> bytes:
        return frame(first, payload, mask=mask, wide=wide)

    streams = (
        frame(0x81, b"masked") * 2,
        plain(0x81, "κόσμε".encode()) + plain(0x82, b"\xff\0") + plain(0x89, b"ping") + plain(0x8A),
        plain(0x01, b"\xce") + plain(0x89) + plain(0x00, b"\xba") + plain(0x80),
        plain(0x02, b"a") * 2,
        plain(0x80) + plain(0x00),
        plain(0x82, b"a" * 126) + plain(0x82, b"a" * 300) + plain(0x82, b"a" * 301),
        plain(0x82, b"a" * 5, 2),
        plain(0x82, b"a" * 5, 8),
        plain(0x82, b"a" * 65536),
        plain(0x02, b"a" * 200) + plain(0x80, b"a" * 101),
        plain(0x88) + plain(0x81, b"ignored"),
        plain(0x88, b"\x03"),
        plain(0x88, b"\x03\xe8bye"),
        plain(0x88, b"\x03\xed"),
        plain(0x88, b"\x0b\xb8\xff"),
        plain(0x89, b"a" * 125) + plain(0x89, b"a" * 126),
        plain(0x09) + plain(0x83) + plain(0x8B) + plain(0xF1),
        frame(0x81, b"a", mask=None),
        plain(0x81, b"\xed\xa0\x80"),
        plain(0xC1, deflate(b"Hello")) + plain(0xC1, deflate(b"Hello" * 60)),
        plain(0x41, deflate(b"Hello")[:3]) + plain(0x80, deflate(b"Hello")[3:]),
        plain(0xC1, deflate(b"Hello" * 61)),
        plain(0xC1, bytes.fromhex("f248cdc9c90700")) + plain(0xC1, bytes.fromhex("f200110000")),
        plain(0xC2, b"\x03\x00") + plain(0xC1, b"\xff\xff"),
        plain(0x81, b"a") * 70,
    )
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for stream in streams:
            yield control + stream
            yield bytes([control[0] | DEFLATED]) + control[1:] + stream


def main(seconds: float, seed: int = 1) -> None:
    """Check seeds with random changes for so long, without a fuzzer."""
    marked = bytes((0, 1, 2, 0x7E, 0x7F, 0x80, 0x81, 0x82, 0x85, 0x88, 0x89, 0xC1, 0xFE, 0xFF))
    count = check_changed(check, seeds(), marked, seconds, seed)
    print(f"{count} inputs of WebSockets, no difference")
