"""Fuzz target: X-Forwarded-For, X-Forwarded-Proto and Forwarded, with lines of a client.

A proxy appends a hop after the client's text. In a line of its own, this hop is always the client.
At the end of the client's line, this hop is the client, or the client is unknown. A client is
always an address or unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from reactor_run.protocol.forwarded import (
    UNKNOWN,
    Forwarded,
    read_forwarded,
    read_x_forwarded,
)
from tests.fuzz.inputs import WHOLE, ends, split_input

PROXY = bytes([10, 0, 0, 1])
CLIENT = bytes([203, 0, 113, 7])
ADDED = (
    (b"for=203.0.113.7", None),
    (b'for="203.0.113.7:80";proto=https', "https"),
    (b"for=203.0.113.7;by=_us, for=10.0.0.1;proto=https", None),
)


def check(data: bytes) -> None:
    control, content = split_input(data)
    # The characters that a field line can hold (RFC 9110 §5.5).
    content = bytes([byte for byte in content if byte >= 32 and byte != 127])
    lines: list[bytes] = []
    start = 0
    for end in ends(control, len(content)):
        lines.append(content[start:end])
        start = end
    for judge in trusts, trusts_all:
        check_shape(read_x_forwarded(lines, lines, judge))
        check_shape(read_forwarded(lines, judge))

    last = lines.pop()
    for added, scheme in ADDED:
        assert read_forwarded([*lines, last, added], trusts) == (CLIENT, scheme)
        told = read_forwarded([*lines, last + b", " + added], trusts)
        assert told in ((CLIENT, scheme), (UNKNOWN, None)), told
    for x_added in b"203.0.113.7", b"203.0.113.7:80, 10.0.0.1":
        assert read_x_forwarded([*lines, last, x_added], [], trusts) == (CLIENT, None)
        assert read_x_forwarded([*lines, last + b"," + x_added], [], trusts) == (CLIENT, None)


def trusts(packed: bytes) -> bool:
    return packed == PROXY


def trusts_all(packed: bytes) -> bool:
    return len(packed) in (4, 16)


def check_shape(told: Forwarded) -> None:
    assert told.client is None or len(told.client) in (len(UNKNOWN), 4, 16)
    assert told.scheme in (None, "http", "https")


def seeds() -> Iterator[bytes]:
    lines = [
        b"",
        b"192.0.2.1, [2001:db8::1]:80,unknown,_x,, ::ffff:1.2.3.4",
        b"10.0.0.1," * 40,
        b"for=192.0.2.1;proto=https;by=_us;host=a.example",
        b'For="[2001:db8:cafe::17]:4711", for=unknown ; proto="htt\\ps"',
        b'for="',
        b'for=127.0.0.1;x="\\',
        b'for=127.0.0.1;x="\\"',
        b"for=127.0.0.1;for=127.0.0.1",
        b" ;, ,for=,=;",
        b"https",
        b"HTTP",
    ]
    for control in (WHOLE, b"\0\x40\x80\xff", b"\0\x80\0\0"):
        for line in lines:
            yield control + line
