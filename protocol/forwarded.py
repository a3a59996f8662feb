"""Whom proxies name as their client: X-Forwarded-For and -Proto, and Forwarded (RFC 7239).

Each proxy on the way adds, at the end, the address of whoever connected to it. So the fields are
read from their end, as far as they were written by proxies that are trusted:

1. The peer is trusted, else nobody asks. The last hop that it names is who connected to it.
2. As long as that hop is a trusted proxy too, the hop before it is who connected to *that*.
3. The first hop that is not trusted is the client. What stands before it is the client's own words
   and is not even read: neither a forged address nor garbage in it changes anything.
4. If all hops are trusted, the first is the client.
5. A hop that is reached and is no address (`unknown`, an obfuscated name, garbage) means that
   nobody knows the client. It does not mean the proxy: else a client could pass for it.

The lines of a repeated field are one list, in order (RFC 9110 §5.3). Only the grammar of Forwarded
lets an element reach beyond its line; such a line is garbage, like any other that breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from socket import AF_INET, AF_INET6, AddressFamily, inet_pton
from typing import Final, NamedTuple

from reactor_run.protocol.fields import TOKEN

__all__ = ["HOPS_MAX", "LINE_MAX", "UNKNOWN", "Forwarded", "read_forwarded", "read_x_forwarded"]

HOPS_MAX: Final = 32
"""Hops that are looked at; a client behind more trusted proxies is not known."""

LINE_MAX: Final = 2048
"""Bytes of one line of Forwarded; a longer one is garbage."""

UNKNOWN: Final = b""
"""Somebody of whom nobody knows the address."""

Trusts = Callable[[bytes], bool]
"""Whether a packed address is that of a proxy whose word counts."""

Hop = tuple[bytes, str | None]
"""A packed address, or UNKNOWN, and the scheme that was told with it."""


class Forwarded(NamedTuple):
    """What the fields of one request say.

    client: its packed address, of 4 or 16 bytes, or UNKNOWN; None if no hop is named.
    scheme: http or https, as the client used it; None if it is not told.
    """

    client: bytes | None
    scheme: str | None


_SCHEMES: Final = {b"http": "http", b"https": "https"}


def read_x_forwarded(
    for_lines: Sequence[bytes], proto_lines: Sequence[bytes], trusts: Trusts
) -> Forwarded:
    """Read the values of X-Forwarded-For and X-Forwarded-Proto, a value for each line.

    X-Forwarded-Proto does not say whose scheme it tells, so it counts only if it is one word: with
    several, some may be the client's.
    """
    hops = (
        element
        for line in reversed(for_lines)
        for element in reversed(line.split(b","))
        if element.strip(b" \t")
    )
    client, _ = _walk(((_x_node(hop), None) for hop in hops), trusts)
    scheme = _SCHEMES.get(proto_lines[0].strip(b" \t").lower()) if len(proto_lines) == 1 else None
    return Forwarded(client, scheme)


def read_forwarded(lines: Sequence[bytes], trusts: Trusts) -> Forwarded:
    """Read the values of Forwarded, one for each line (RFC 7239 §4).

    The scheme is what the proxy that names the client says of it.
    """
    hops = (hop for line in reversed(lines) for hop in reversed(_elements(line)))
    return Forwarded(*_walk(hops, trusts))


def _walk(hops: Iterator[Hop], trusts: Trusts) -> tuple[bytes | None, str | None]:
    """The client and what was said of its scheme, given the hops from the last to the first."""
    client: bytes | None = None
    scheme: str | None = None
    for count, (address, told) in enumerate(hops):
        if count == HOPS_MAX:
            return UNKNOWN, None
        client, scheme = address, told
        if not address or not trusts(address):
            break
    return client, scheme


# Nodes --------------------------------------------------------------------------------------------

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_PORT: Final = rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._\-]++))?+"
_NODE: Final = re.compile(rb"(?:([0-9.]++)|\[([0-9A-Fa-f:.]++)\])" + _PORT)
"""RFC 7239 §6: an address, and perhaps a port or something in its place. Others are UNKNOWN."""


def _node(node: bytes) -> bytes:
    """The packed address of a node of Forwarded; UNKNOWN if it has none."""
    match = _NODE.fullmatch(node)
    if match is None:
        return UNKNOWN
    return _pack(AF_INET, match[1]) if match[1] else _pack(AF_INET6, match[2])


def _x_node(element: bytes) -> bytes:
    """The same for X-Forwarded-For, in which IPv6 addresses mostly stand without brackets."""
    element = element.strip(b" \t")
    return _pack(AF_INET6, element) or _node(element)


def _pack(family: AddressFamily, address: bytes) -> bytes:
    """UNKNOWN if it is no address; 4 bytes also for IPv4 in IPv6 form (RFC 4291 §2.5.5.2)."""
    try:
        packed = inet_pton(family, address.decode("ascii"))
    except (OSError, ValueError):
        return UNKNOWN
    return packed[12:] if packed.startswith(_V4_MAPPED) else packed


# The elements of Forwarded ------------------------------------------------------------------------

_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PIECE: Final = re.compile(
    rb"[ \t;]*+(?:(" + TOKEN + rb")=(" + TOKEN + rb"|" + _QUOTED + rb")[ \t]*+)?+(;|,|\Z)"
)
"""A pair, or none, and what ends it."""
_GARBAGE: Final[tuple[Hop, ...]] = ((UNKNOWN, None),)


def _elements(line: bytes) -> Sequence[Hop]:
    """The hops of one line, in order; one that nobody knows if the line breaks the grammar.

    Empty elements are skipped (RFC 9110 §5.6.1.2). White space around `;` is let pass: some
    proxies write it.
    """
    if len(line) > LINE_MAX:
        return _GARBAGE
    hops: list[Hop] = []
    pairs: dict[bytes, bytes] = {}
    at = 0
    while True:
        piece = _PIECE.match(line, at)
        if piece is None:
            return _GARBAGE
        name, value, end = piece.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:
                return _GARBAGE
            pairs[name] = _unquote(value)
        if end != b";":
            if pairs:
                scheme = _SCHEMES.get(pairs.get(b"proto", b"").lower())
                hops.append((_node(pairs.get(b"for", b"")), scheme))
                pairs = {}
            if not end:
                return hops
        at = piece.end()


def _unquote(value: bytes) -> bytes:
    if value.startswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", value[1:-1], flags=re.DOTALL)
    return value
