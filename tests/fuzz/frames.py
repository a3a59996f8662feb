"""Fuzz target: frames of the express lane, and control messages.

However the bytes arrive, they give the same messages before the same end. Packed messages are read
back. Only the documented errors are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from reactor_run.native import NATIVE, split_answers, split_requests
from reactor_run.protocol.control import ControlDecoder, ControlError, encode_control
from reactor_run.protocol.express import (
    BUFFERED,
    CREDIT_FOR_BODY,
    EXPRESS_MAX,
    GRANT,
    REQUEST,
    STORED,
    FrameError,
    judge_answers,
    judge_requests,
    pack_count,
    pack_message,
    pack_number,
    pack_request,
    read_answers,
    read_count,
    read_number,
    read_requests,
    request_prefix,
)
from tests.fuzz.inputs import BYTEWISE, WHOLE, check_changed, ends, split_input
from tests.protocol.streams import Choices

PACKED: Final = 0x80
"""A bit of the control: the content is decisions for messages to pack."""

Split = Callable[[bytes], tuple[list[Any], int]]


def check(data: bytes) -> None:
    control, content = split_input(data)
    if control[0] & PACKED:
        check_packed(control, Choices(content))
        return
    check_frames(read_requests, control, content)
    check_frames(read_answers, control, content)
    check_native(split_requests, judge_requests, content)
    check_native(split_answers, judge_answers, content)
    check_control(control, content)


def receive(split: Split, content: bytes, cuts: Iterator[int]) -> tuple[list[Any], bytes, bool]:
    """Return the messages, the bytes that are left, and whether they broke the framing."""
    messages: list[Any] = []
    partial = b""
    begin = 0
    for end in cuts:
        data = partial + content[begin:end]
        try:
            more, consumed = split(data)
        except FrameError:
            return messages, b"", True
        assert 0 <= consumed <= len(data)
        messages += more
        partial = data[consumed:]
        assert len(partial) < 16 + 0xFFFF + EXPRESS_MAX
        begin = end
    return messages, partial, False


def check_frames(split: Split, control: bytes, content: bytes) -> None:
    # Reading byte by byte is the reference: the framing is broken after all good messages.
    messages, partial, broken = receive(split, content, ends(BYTEWISE, len(content)))
    whole = receive(split, content, iter([len(content)]))
    assert whole == (messages, partial, broken) or (broken and whole[2])
    cut = receive(split, content, ends(control, len(content)))
    assert cut[1:] == (partial, broken)
    assert cut[0] == messages[: len(cut[0])]
    for message in messages:
        assert message[0] < 1 << 64
        assert REQUEST <= message[1] <= (BUFFERED if split is read_requests else STORED)
        check_numbers(message[-1])


def check_native(
    split: Callable[[bytes | memoryview], object], judge: Callable[[bytes], object], content: bytes
) -> None:
    """C reads what Python reads, and leaves the rest to Python."""
    try:
        judged: object = judge(content)
    except FrameError:
        judged = None
    if NATIVE:
        assert split(content) == judged
        assert split(memoryview(b"x" + content)[1:]) == judged


def check_numbers(payload: bytes) -> None:
    """A payload is a count, a number or neither."""
    for read, size in (read_count, 4), (read_number, 8):
        try:
            number = read(payload)
        except FrameError:
            assert len(payload) != size
        else:
            assert number.to_bytes(size, "big") == payload


def check_control(control: bytes, content: bytes) -> None:
    numbers = list(range(100, 100 + control[3] % 4))
    outcomes = []
    for cuts in (iter([len(content)]), ends(control, len(content))):
        decoder = ControlDecoder()
        messages: list[dict[str, Any]] = []
        begin = 0
        failed = False
        try:
            for end in cuts:
                messages += decoder.feed(content[begin:end], numbers if begin == 0 else ())
                begin = end
        except ControlError:
            failed = True
        outcomes.append((messages, failed))
    whole, cut = outcomes
    assert whole[1] == cut[1]
    # A piece with a wrong line gives none of its messages. NaN is not equal to itself.
    assert whole[1] or repr(whole[0]) == repr(cut[0])
    for message in cut[0]:
        assert isinstance(message, dict)
        line = encode_control(message)
        assert line.count(b"\n") == 1
        if not message.get("fd"):
            assert repr(ControlDecoder().feed(line)) == repr([message])


def check_packed(control: bytes, choices: Choices) -> None:
    prefix = request_prefix(
        *choices.pick(
            [
                (None, None),
                (("192.0.2.1", 80), ("192.0.2.2", 81)),
                (("::1", 80), ("::2", 65535)),
                (("", None), ("/run/a.sock", None)),
            ]
        )
    )
    requests: list[tuple[int, int, bytes, bytes]] = []
    answers: list[tuple[int, int, bytes]] = []
    to_reactor = to_front_end = b""
    for _ in range(choices.below(6)):
        number = choices.below(65536) << 48 | choices.below(256)
        payload = bytes([choices.below(256)]) * choices.pick([0, 1, 300, EXPRESS_MAX])
        kind = REQUEST + choices.below(STORED - REQUEST + 1)
        if choices.below(2):
            frame = pack_message(number, kind, len(payload)) + payload
        elif choices.below(2):
            frame = pack_count(number, kind, len(payload))
            payload = frame[-4:]
        else:
            frame = pack_number(number, kind, len(payload))
            payload = frame[-8:]
        answers.append((number, kind, payload))
        to_front_end += frame
        if kind == REQUEST:
            requests.append((number, kind, prefix, payload))
            to_reactor += pack_request(prefix, number, len(payload)) + payload
        elif kind <= BUFFERED:
            requests.append((number, kind, frame[:16], payload))
            to_reactor += frame
    # Reading byte by byte would take too long.
    cuts = control if len(to_reactor) < 2000 else WHOLE[:1] + control[1:]
    assert receive(read_requests, to_reactor, ends(cuts, len(to_reactor))) == (requests, b"", False)
    assert receive(read_answers, to_front_end, ends(cuts, len(to_front_end))) == (
        answers,
        b"",
        False,
    )


def seeds() -> Iterator[bytes]:
    prefix = request_prefix(("192.0.2.1", 80), ("192.0.2.2", 81))
    request = pack_request(prefix, 7, 18) + b"GET / HTTP/1.1\r\n\r\n"
    frames = [
        request * 3,
        pack_message(7, 0xE1) + pack_message(8, 0xE2) + request[:30],
        pack_message(7, 0xE0, 5) + b"hello" + pack_message(7, 0xE2),
        pack_message(7, 0xE0, (1 << 20) + 1),
        pack_number(7, GRANT, 3)
        + pack_message(7, 0xE5, 4)
        + b"body"
        + pack_count(7, CREDIT_FOR_BODY, 9),
        pack_message(7, STORED, 3) + b"bad" + pack_message(7, STORED + 1),
        request + b"no frame at all, but long enough to be seen as none",
    ]
    messages: list[dict[str, Any]] = [
        {"ready": {"interface": "asgi", "capacity": 1000}},
        {"lane": 1, "fd": True},
        {"done": [1, 2], "drop": [3]},
        {"client": 7, "fd": True},
        {"closed": [7]},
        {"stop": 5.5},
    ]
    lines = b"".join([encode_control(message) for message in messages])
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for frame in frames:
            yield control + frame
        for text in (
            lines,
            b"[]\n",
            b"{\n",
            b'{"fd":1}\n{"fd":true}\n{"fd":[]}\n',
            b"\xff\n",
            b"[" * 99,
        ):
            yield control + text
        yield bytes([control[0] | PACKED]) + control[1:] + bytes(range(1, 200, 7))


def main(seconds: float, seed: int = 1) -> None:
    """Check seeds with random changes for so long, without a fuzzer."""
    marked = bytes((0, 1, 4, 5, 8, 18, 0x20, 0x21, 0xE0, 0xEE, 0xFF))
    count = check_changed(check, seeds(), marked, seconds, seed)
    print(f"{count} inputs of frames, no difference")
