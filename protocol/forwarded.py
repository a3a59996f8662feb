"""The client that proxies name: X-Forwarded-For and -Proto, and Forwarded (RFC 7239).

Each proxy appends the address of its own client. So the fields are read from the end, and only as
far as trusted proxies wrote them:

1. If the peer is not trusted, the fields are not read. Otherwise the last hop is the peer's client.
2. While a hop is a trusted proxy too, the hop before it is that proxy's client.
3. The first hop that is not trusted is the client. The hops before it are the client's own words
   and are not read: neither a forged address nor garbage there changes anything.
4. If all hops are trusted, the first is the client.
5. If a hop that is read is no address (`unknown`, an obfuscated name, garbage), the client is
   unknown. The proxy does not take its place: otherwise a client could pass for the proxy.

The lines of a repeated field form one list, in order (RFC 9110 §5.3). By its grammar an element of
Forwarded could reach beyond its line. Such a line is garbage, as is any line that breaks the
grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from socket import AF_INET, AF_INET6, AddressFamily, inet_pton
from typing import Final, NamedTuple

from reactor_run.protocol.fields import TOKEN

__all__ = ["HOPS_MAX", "LINE_MAX", "UNKNOWN", "Forwarded", "read_forwarded", "read_x_forwarded"]

HOPS_MAX: Final = 32
"""Most hops that are read. The client behind more trusted proxies is unknown."""

LINE_MAX: Final = 2048
"""Most bytes of one line of Forwarded. A longer one is garbage."""

UNKNOWN: Final = b""
"""The packed address of a client or proxy whose address is unknown."""

Trusts = Callable[[bytes], bool]
"""Whether a packed address is that of a trusted proxy."""

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
    """Read the values of X-Forwarded-For and X-Forwarded-Proto, one value for each line.

    X-Forwarded-Proto does not say whose scheme it tells. So it counts only if it has one value: of
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

    The scheme is the one in the element that names the client.
    """
    hops = (hop for line in reversed(lines) for hop in reversed(_elements(line)))
    return Forwarded(*_walk(hops, trusts))


def _walk(hops: Iterator[Hop], trusts: Trusts) -> tuple[bytes | None, str | None]:
    """Return the client and its scheme, given the hops from the last to the first."""
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
"""An address, and perhaps a port or an obfuscated port (RFC 7239 §6). Other nodes are UNKNOWN."""


def _node(node: bytes) -> bytes:
    """Return the packed address of a node of Forwarded; UNKNOWN if it has none."""
    match = _NODE.fullmatch(node)
    if match is None:
        return UNKNOWN
    return _pack(AF_INET, match[1]) if match[1] else _pack(AF_INET6, match[2])


def _x_node(element: bytes) -> bytes:
    """Return the packed address of an element of X-Forwarded-For; UNKNOWN if it has none.

    IPv6 addresses mostly stand without brackets there.
    """
    element = element.strip(b" \t")
    return _pack(AF_INET6, element) or _node(element)


def _pack(family: AddressFamily, address: bytes) -> bytes:
    """Return the packed address, 4 bytes also for IPv4 in IPv6 form (RFC 4291 §2.5.5.2), or
    UNKNOWN."""
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
"""A pair, or none, and the delimiter after it."""
_GARBAGE: Final[tuple[Hop, ...]] = ((UNKNOWN, None),)


def _elements(line: bytes) -> Sequence[Hop]:
    """Return the hops of one line, in order. A line that breaks the grammar is one UNKNOWN hop.

    Empty elements are skipped (RFC 9110 §5.6.1.2). White space around `;` is allowed, because some
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
