"""Fuzz target: PROXY headers of both versions, read and written.

A header that was read, or rejected by a rule, is judged the same whatever follows. A header that
was read or made up is unchanged after it is written and read again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Final

from reactor_run.protocol.policy import Rejected, Rule
from reactor_run.protocol.proxy import (
    PP2_TYPE_CRC32C,
    PP2_TYPE_NOOP,
    PP2_TYPE_SSL,
    PP2_TYPE_UNIQUE_ID,
    SIGNATURE,
    SSL_SIZE,
    UNIQUE_ID_SIZE,
    Endpoint,
    ProxyHeader,
    decode_either,
    decode_v1,
    decode_v2,
    encode_v1,
    encode_v2,
)
from tests.fuzz.inputs import BYTEWISE, WHOLE, ends, split_input
from tests.protocol.streams import Choices

MADE_UP: Final = 0x80
"""A bit of the control: the content is decisions for a header to encode."""
LENGTH_MAX: Final = 0xFFFF

Decode = Callable[[bytes, int], ProxyHeader | None]
Outcome = ProxyHeader | Rule | None


def check(data: bytes) -> None:
    control, content = split_input(data)
    if control[0] & MADE_UP:
        content = make_up(control, Choices(content))
    of_v1, of_v2 = (check_pieces(decode, control, content) for decode in (decode_v1, decode_v2))
    expected = of_v2 if content.startswith(SIGNATURE[:1]) else of_v1
    assert check_pieces(decode_either, control, content) == (expected if content else None)
    if isinstance(of_v1, ProxyHeader):
        line = encode_v1(of_v1.source, of_v1.destination)
        assert decode_v1(line) == of_v1._replace(size=len(line))
    if isinstance(of_v2, ProxyHeader):
        check_encoded(of_v2, crc32c=False)
        check_encoded(of_v2, crc32c=True)


def decode_by(decode: Decode, data: bytes, start: int = 0) -> Outcome:
    try:
        return decode(data, start)
    except Rejected as rejected:
        return rejected.rule


def check_pieces(decode: Decode, control: bytes, content: bytes) -> Outcome:
    whole = decode_by(decode, content)
    assert decode_by(decode, b"before" + content, 6) == whole
    for end in ends(control, len(content)):
        outcome = decode_by(decode, content[:end])
        if outcome is not None:
            break
    if isinstance(outcome, ProxyHeader):
        assert outcome.size <= end
    assert outcome == whole, "the cuts decide what is read"
    return whole


def check_encoded(header: ProxyHeader, *, crc32c: bool) -> None:
    try:
        data = encode_v2(
            header.source, header.destination, header.tlvs, crc32c=crc32c, local=header.local
        )
    except ValueError:
        # A header of full length has no room for the checksum.
        assert crc32c
        assert header.size > 16 + LENGTH_MAX - 7
        return
    assert decode_v2(data + b"more") == header._replace(size=len(data))


def make_up(control: bytes, choices: Choices) -> bytes:
    """Encode the header that `choices` describe, and check that it is read back."""
    source, destination = endpoints(choices)
    tlvs = [tlv(choices) for _ in range(choices.below(4))]
    local = source is None and choices.rarely(2)
    crc32c = choices.rarely(2)
    data = encode_v2(source, destination, tlvs, crc32c=crc32c, local=local)
    told = tuple([each for each in tlvs if each[0] != PP2_TYPE_NOOP])
    assert decode_v2(data) == ProxyHeader(source, destination, local, told, len(data))
    line = encode_v1(source, destination)
    is_tcp = source is not None and source[1] is not None
    ends_told = (source, destination) if is_tcp else (None, None)
    assert decode_v1(line) == ProxyHeader(*ends_told, False, (), len(line))
    return line if control[0] & 0x40 else data


def endpoints(choices: Choices) -> tuple[Endpoint | None, Endpoint | None]:
    kind = choices.below(4)
    if kind == 0:
        return None, None
    if kind == 3:
        return path(choices), path(choices)
    family, size = ((socket.AF_INET, 4), (socket.AF_INET6, 16))[kind - 1]
    both: list[Endpoint] = []
    for _ in range(2):
        packed = bytes([choices.below(256) for _ in range(size)])
        both.append((socket.inet_ntop(family, packed), choices.below(65536)))
    return both[0], both[1]


def path(choices: Choices) -> Endpoint:
    name = bytes([1 + choices.below(255) for _ in range(choices.below(108))])
    if name and choices.rarely(3):
        name = b"\0" + name
    return name.decode("utf-8", "surrogateescape"), None


def tlv(choices: Choices) -> tuple[int, bytes]:
    kind = choices.below(256)
    if kind == PP2_TYPE_CRC32C:
        kind = PP2_TYPE_NOOP
    size = choices.below(UNIQUE_ID_SIZE + 1 if kind == PP2_TYPE_UNIQUE_ID else 300)
    if kind == PP2_TYPE_SSL:
        size += SSL_SIZE
    return kind, bytes([choices.below(256)]) * size


def seeds() -> Iterator[bytes]:
    tcp4: Endpoint = ("192.0.2.7", 65535)
    tcp6: Endpoint = ("2001:db8::7", 0)
    unix: Endpoint = ("/run/a.sock", None)
    tlvs = ((0x01, b"h2"), (0x04, b""), (0x05, b"id"), (0xE0, b"\0\0\0\1"))
    headers = [encode_v1(None, None), encode_v2(None, None, tlvs, local=True)]
    for end in (tcp4, tcp6, unix):
        headers += [
            encode_v1(end, end),
            encode_v2(end, end),
            encode_v2(end, end, tlvs, crc32c=True),
        ]
    headers += [
        b"PROXY UNKNOWN ffff::1 what ever\r\n",
        b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 65536\r\n",
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    ]
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for header in headers:
            yield control + header + b"GET / HTTP/1.1\r\n"
        for bits in (MADE_UP, MADE_UP | 0x40):
            yield bytes([control[0] | bits]) + control[1:] + bytes(range(1, 200, 7))
