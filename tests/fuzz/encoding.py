"""Fuzz target: the encoder in C (protocol/_response.c) against those in Python.

What C encodes, Python encodes to the same bytes, with the same framing. The fields of WSGI apps
that C accepts, Python accepts too. C never decides alone what cannot be sent, so nothing else is
compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import Any, Final

from reactor_run.protocol._response import copy_fields, encode_head, encode_text
from reactor_run.protocol.own_fields import ONLY_DATE, OwnFields
from reactor_run.protocol.response import STATUS_LINES, ResponseError, judge_response_head
from reactor_run.reactor.wsgi.head import judge_fields
from tests.fuzz.inputs import WHOLE, split_input
from tests.protocol.streams import Choices

STATUSES: Final = (200, 201, 204, 304, 404, 426, 500, 999, 101, 199, 1000, 0, -1, True, 1 << 70)
METHODS: Final = (b"GET", b"HEAD", b"POST", b"head", b"")
VERSIONS: Final = (1, 0)
LENGTHS: Final = (None, 0, 5, 13, (1 << 63) - 1, 1 << 63, -1)
REASONS: Final = (None, b"", b"All Right", b"a\r\nb: c", b" \t\xff", "text")
DATES: Final = (b"", b"date: Tue, 15 Nov 1994 08:12:31 GMT\r\n")
OWN: Final = (ONLY_DATE, OwnFields(), OwnFields(dated=False))

NAMES: Final = (
    b"content-type", b"Content-Type", b"content-length", b"CONTENT-LENGTH", b"content_length",
    b"date", b"Date", b"server", b"SERVER", b"etag", b"set-cookie", b"X-A", b"trailer",
    b"connection", b"Keep-Alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade",
    b"", b"a b", b"a:", b"x\r\n", b"\xe4", b"!#$%&'*+-.^_`|~09azAZ", b"a(", b"x" * 300, "text",
)  # fmt: skip
VALUES: Final = (
    b"5", b"05", b" 13\t", b"0", b"", b" \t", b"+5", b"5 5", b"9" * 18, b"9" * 19, b"text/plain",
    b"a\rb", b"a\nb", b"a\0b", b"\x7f", b"\x1f", b"a\tb", b"\x80\xff", b"y" * 40, b"z" * 65000,
    bytearray(b"5"), "text", None,
)  # fmt: skip
BETWEEN, WITHIN = b"\x1e", b"\x1f"
"""What separates further fields in an input, and a name from its value."""


def check(data: bytes) -> None:
    control, content = split_input(data)
    choices = Choices(content)
    fields: list[Any] = [(choices.pick(NAMES), choices.pick(VALUES)) for _ in range(control[1] % 5)]
    arguments = (
        choices.pick(STATUSES), choices.pick(METHODS), choices.pick(VERSIONS),
        choices.pick(LENGTHS), choices.pick(DATES), choices.pick(OWN), choices.pick(REASONS),
    )  # fmt: skip
    rest = choices.rest()
    pairs = [each.partition(WITHIN) for each in rest.split(BETWEEN)] if rest else []
    fields += [(name, value) for name, _, value in pairs]
    check_head(fields, *arguments)
    check_fields([tuple(map(as_text, pair)) for pair in fields])


def check_head(
    fields: Any,
    status: Any,
    method: bytes,
    minor_version: int,
    length: Any,
    date: bytes,
    own: OwnFields,
    reason: Any,
) -> bool:
    """Compare what both make of a head; return whether C encodes it."""
    dated = date if own.dated else b""
    encoded = encode_head(
        STATUS_LINES, status, fields, method, minor_version, length, dated, own.server, reason
    )
    if is_raw(fields) and isinstance(reason, bytes):
        text: Any = [tuple(map(as_text, pair)) for pair in fields]
        of_text = encode_text(
            STATUS_LINES, status, text, method, minor_version, length, dated, own.server,
            as_text(reason),
        )  # fmt: skip
        assert of_text == encoded, f"{of_text} of text, not {encoded}"
    if encoded is None:
        return False
    try:
        expected = judge_response_head(
            status, fields, method, minor_version, length, date, own, reason
        )
    except ResponseError as error:
        raise AssertionError(f"C encodes what cannot be sent, {error}: {fields}") from None
    assert encoded == expected, f"{encoded}, not {expected}"
    assert [type(item) for item in encoded] == [type(item) for item in expected]
    return True


def is_raw(fields: Any) -> bool:
    """Whether all of these fields are pairs of bytes."""
    return all(
        isinstance(pair, (tuple, list)) and all(isinstance(item, bytes) for item in pair)
        for pair in fields
    )


def as_text(item: Any) -> Any:
    """Return bytes as a WSGI app has them."""
    return item.decode("latin-1") if isinstance(item, bytes) else item


def check_fields(headers: Any) -> bool:
    """Compare what both make of the fields of a WSGI app; return whether C accepts them."""
    copied = copy_fields(headers)
    if copied is None:
        return False
    try:
        expected = judge_fields(headers)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"C accepts what cannot be sent, {error}: {headers}") from None
    assert copied == expected, f"{copied}, not {expected}"
    return True


def seeds() -> Iterator[bytes]:
    for number in range(len(NAMES) + len(VALUES)):
        control = bytes([number, number, 0, 0])
        yield control + bytes([number % len(NAMES), number % len(VALUES)] * (number % 5))
    for control in (WHOLE, b"\0\1\0\0", b"\0\2\0\0"):
        yield control + bytes(11) + b"x-a\x1fvalue\x1eX-B\x1f \xff\t\x1edate\x1fnow"


# What is made from a seed -------------------------------------------------------------------------


def made_fields(random: Random) -> Any:
    usual = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"13")]
    fields: list[Any] = usual[: random.randrange(3)]
    for _ in range(random.choice((0, 1, 1, 2, 3, 70))):
        name = random.choice(NAMES[:13] if random.random() < 0.9 else NAMES)
        value = random.choice(VALUES[:11] if random.random() < 0.9 else VALUES)
        if random.random() < 0.2:
            value = random.randbytes(random.randrange(4))
        fields.insert(random.randrange(len(fields) + 1), (name, value))
    if fields and random.random() < 0.1:
        odd = [*random.choice(fields)][: random.choice((1, 2, 2))]
        fields.append(random.choice((odd, None, b"ab", (b"a", b"b", b"c"))))
    return random.choice((fields, fields, tuple(fields)))


def compare(seconds: float, count: int, seed: int) -> tuple[int, int]:
    """Compare for so long, but at most `count`; return how many, and how many C encodes."""
    random = Random(seed)
    ends = monotonic() + seconds
    compared = encoded = 0
    while compared < count and (compared % 1000 or monotonic() < ends):
        compared += 1
        if random.random() < 0.3:
            given = [each for each in made_fields(random) if isinstance(each, tuple)]
            encoded += check_fields([tuple(map(as_text, pair)) for pair in given])
            continue
        rare = random.random() < 0.1
        encoded += check_head(
            made_fields(random),
            random.choice(STATUSES if rare else STATUSES[:8]),
            random.choice(METHODS),
            random.choice(VERSIONS),
            random.choice(LENGTHS if rare else LENGTHS[:4]),
            random.choice(DATES),
            random.choice(OWN),
            random.choice(REASONS if rare else REASONS[:3]),
        )
    return compared, encoded


def main(seconds: float, seed: int = 1) -> None:
    compared, encoded = compare(seconds, 1 << 60, seed)
    print(f"{compared} heads of responses, {encoded} encoded by C as by Python")
