"""Fuzz target: the translator in C (protocol/_http2.c) against the one in Python.

What C translates, Python translates with the same result. C never decides alone what is malformed,
so nothing else is compared. Both count the same heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import Final

from reactor_run.protocol._http2 import count_heads, split_answer, write_request
from reactor_run.protocol.http2.answer import AnswerTranslator, Fields
from reactor_run.protocol.http2.request_head import Malformed, translate_fields
from reactor_run.protocol.http2.session import count_heads_of
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.response_head import BadResponse
from tests.fuzz.inputs import WHOLE, split_input
from tests.protocol.http2.fields import CONNECT, GET, NAMES, PIECES, VALUES

ANSWER: Final = 0x40
"""A bit of the control: the content is an answer. Otherwise it is a field list."""
ENDED: Final = 0x80
"""A bit of the control of a field list: no more content follows."""
BETWEEN, WITHIN = b"\x1e", b"\x1f"
"""What separates the fields of a list, and a name from its value."""

Pairs = list[tuple[bytes, bytes]]


def check(data: bytes) -> None:
    control, content = split_input(data)
    skip = control[1] % 30
    assert count_heads(content, skip) == count_heads_of(content, skip)
    if control[0] & ANSWER:
        check_answer(content)
        return
    start = [[], GET, GET[:3], CONNECT][control[1] % 4]
    pairs = [each.partition(WITHIN) for each in content.split(BETWEEN)] if content else []
    fields = [*start, *((name, value) for name, _, value in pairs)]
    check_request(fields, bool(control[0] & ENDED), control[2] % 10 or None)


def check_request(fields: Pairs, ended: bool, size: int | None) -> bool:
    """Compare what both make of a request; return whether C translates it."""
    head = write_request(tuple(fields), ended, size)
    if head is None:
        return False
    try:
        expected = translate_fields(fields, ended, size)
    except Malformed as malformed:
        raise AssertionError(f"C translates what is malformed, {malformed}: {fields}") from None
    assert head == tuple(expected), f"{head}, not {expected}"
    assert [type(item) for item in head] == [type(item) for item in expected]
    return True


class WholeAnswer:
    """Takes one answer, and knows whether it came as a whole."""

    def __init__(self) -> None:
        self.found: tuple[Pairs, bytes] | None = None

    def inform(self, fields: Fields) -> None:
        """Take an interim answer."""

    def answer(self, fields: Fields, content: bytes) -> None:
        self.found = list(fields), content

    def respond(self, fields: Fields, ended: bool) -> None:
        """Take a part of an answer."""

    def content(self, data: bytes | memoryview, ended: bool) -> None:
        """Take a part of an answer."""

    def trailers(self, fields: Fields) -> None:
        """Take a part of an answer."""


def check_answer(data: bytes) -> bool:
    """Compare what both make of an answer; return whether C splits it."""
    answer = split_answer(data)
    if answer is None:
        return False
    sink = WholeAnswer()
    try:
        # C is not asked about a view.
        AnswerTranslator(sink, b"GET").feed(memoryview(data))
    except (BadResponse, Rejected) as error:
        raise AssertionError(f"C splits what is no answer, {error}: {data!r}") from None
    assert answer == sink.found, f"{answer}, not {sink.found}: {data!r}"
    return True


ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n"
    b"date: Tue, 01 Dec 2026 04:56:21 GMT\r\nserver: reactor-run\r\n\r\nHello, world!",
    b"HTTP/1.1 404 Not Found\r\nContent-Length:\t 0 \r\nSet-Cookie: a=b\r\nX-Empty:\r\n\r\n",
    b"HTTP/1.1 500 \r\nConnection: close\r\nKeep-Alive: x\r\nContent-Length: 2\r\n\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSec-WebSocket-Accept: x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n!",
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
)
LINES: Final = (
    b"X: y\r\n", b"Content-Length: 0\r\n", b"Content-Length: 13\r\n", b"content-length: 013\r\n",
    b"Content-Length: +13\r\n", b"Content-Length:\r\n", b"Content-Length: 1 3\r\n",
    b"Content-Length : 13\r\n", b"Content-Length: 9999999999999999999\r\n", b"Connection: a\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b" fold\r\n", b": x\r\n",
    b"X: \t v \t\r\n", b"X: \xff\x80\r\n", b"X: a\rb\r\n", b"X: a\nb\r\n", b"X: \0\r\n",
    b"X: \x7f\r\n", b"X: \x01\r\n", b"\xe4: y\r\n", b"x(y: z\r\n", b"\r\n",
)  # fmt: skip
"""Lines to be put into an answer, good and bad."""

FIELDS: Final = (
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"), (b"accept", b"*/*"), (b"x", b""),
    (b"cookie", b"a=b"), (b"cookie", b"c=d"), (b"te", b"trailers"), (b"te", b"gzip"),
    (b"content-length", b"5"), (b"content-length", b"0"), (b"content-length", b"05"),
    (b"content-length", b"9" * 19), (b"host", b"a.example"), (b"host", b"A.example"),
    (b"X", b"y"), (b"a b", b"c"), (b"a:", b"c"), (b"", b"c"), (b"\xe4", b"c"), (b"a(", b"c"),
    (b"connection", b"close"), (b"keep-alive", b"1"), (b"proxy-connection", b"x"),
    (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b":path", b"/"), (b":x", b"y"),
    (b":protocol", b"websocket"), (b":scheme", b"http"), (b"x", b" y\t"), (b"x", b"\xff"),
    (b"x", b"a\rb"), (b"x", b"a\nb"), (b"x", b"a\0b"), (b"x", b"\x01\x7f"),
)  # fmt: skip
"""Fields to be put into a list, good and bad."""


def seeds() -> Iterator[bytes]:
    for answer in ANSWERS:
        yield bytes([ANSWER]) + WHOLE[1:] + answer
    lists = [[], *([name + WITHIN + value] for name, value in FIELDS)]
    lists += [[name + WITHIN + value] for name in NAMES for value in VALUES[:4]]
    lists.append([b"x" + WITHIN + piece for piece in PIECES])
    for number, each in enumerate(lists):
        yield bytes([ENDED if number % 2 else 0, number % 4, number % 3, 0]) + BETWEEN.join(each)


# What is made from a seed -------------------------------------------------------------------------


def changed(random: Random, data: bytes, pieces: tuple[bytes, ...]) -> bytes:
    """Return `data` with one change."""
    at = random.randrange(len(data) + 1)
    line = data.find(b"\r\n", at) + 2
    match random.randrange(5):
        case 0:
            return data[:at] + random.randbytes(1) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + random.randrange(1, 4) :]
        case 2:
            return data[:at] + data[at : at + 9].swapcase() + data[at + 9 :]
        case 3:
            return data[:at] + random.choice(PIECES) + data[at:]
        case _:
            return data[:line] + random.choice(pieces) + data[line:] if line > 1 else data


def made_answer(random: Random) -> bytes:
    data = random.choice(ANSWERS)
    for _ in range(random.choice((0, 1, 1, 2))):
        data = changed(random, data, LINES)
    return data


def made_fields(random: Random) -> Pairs:
    fields = list(random.choice((GET, GET, GET, GET[:3], CONNECT)))
    for _ in range(random.randrange(4)):
        at = random.choice((len(fields), len(fields), random.randrange(len(fields) + 1)))
        fields.insert(at, random.choice(FIELDS))
    if random.random() < 0.5:
        at, part = random.randrange(len(fields)), random.randrange(2)
        pair = list(fields[at])
        pair[part] = changed(random, pair[part], ())
        fields[at] = (pair[0], pair[1])
    return fields


def compare(seconds: float, count: int, seed: int) -> tuple[int, int]:
    """Compare for so long, but at most `count`; return how many, and how many C translates."""
    random = Random(seed)
    ends = monotonic() + seconds
    compared = translated = 0
    while compared < count and (compared % 1000 or monotonic() < ends):
        compared += 1
        if random.random() < 0.5:
            translated += check_answer(made_answer(random))
        else:
            size = random.choice((None, None, 0, 5, 7))
            translated += check_request(made_fields(random), random.random() < 0.5, size)
    return compared, translated


def main(seconds: float, seed: int = 1) -> None:
    compared, translated = compare(seconds, 1 << 60, seed)
    print(f"{compared} requests and answers of HTTP/2, {translated} translated by C as by Python")
