"""The PROXY protocol, versions 1 and 2: headers to bytes and back, incrementally and strictly.

This file owns the codec alone. The caller knows who may send a header, and which version to expect:
`decode_v1` and `decode_v2` take one version each, and only `decode_either` chooses by the first
byte. All section numbers are those of HAProxy's "The PROXY protocol, versions 1 & 2"
(doc/proxy-protocol.txt).

How the decoders judge:

1. They are given everything that has arrived from `start` on. They return None while the header is
   incomplete and still possibly valid.
2. They raise `Rejected` as soon as a complete part is wrong, without waiting for the rest of the
   header. A part is a field of the v1 line, one of the fixed bytes of v2, or the type and length
   of a TLV. A field of the v1 line is complete when the byte after it has arrived; before that
   only its characters are checked. Parts are judged in the order of the wire, so the rule does not
   depend on how the bytes were cut into pieces.
3. A header without addresses (UNKNOWN, LOCAL, UNSPEC) is valid whatever it holds in their place: a
   receiver must skip those bytes (§2.1, §2.2). In v2 they are taken for TLVs, and checked, only if
   they are TLVs from the first byte to the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Only conversions between text and bytes: no socket is opened here.
from socket import AF_INET, AF_INET6, AddressFamily, inet_ntop, inet_pton
from struct import Struct
from typing import NamedTuple, TypeAlias

from reactor_run.protocol import policy
from reactor_run.protocol.crc32c import crc32c as checksum_of
from reactor_run.protocol.policy import Rejected

__all__ = [
    "PP2_TYPE_ALPN",
    "PP2_TYPE_CRC32C",
    "PP2_TYPE_MIN_CUSTOM",
    "PP2_TYPE_NOOP",
    "PP2_TYPE_SSL",
    "PP2_TYPE_UNIQUE_ID",
    "SIGNATURE",
    "SSL_SIZE",
    "UNIQUE_ID_SIZE",
    "Address",
    "Buffer",
    "Endpoint",
    "ProxyHeader",
    "decode_either",
    "decode_v1",
    "decode_v2",
    "encode_v1",
    "encode_v2",
]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

PP2_TYPE_ALPN = 0x01
PP2_TYPE_CRC32C = 0x03
PP2_TYPE_NOOP = 0x04
PP2_TYPE_UNIQUE_ID = 0x05
PP2_TYPE_SSL = 0x20
PP2_TYPE_MIN_CUSTOM = 0xE0

SSL_SIZE = 5
"""Fewest bytes in a PP2_TYPE_SSL: one of flags, four of the certificate's verification (§2.2.6)."""

UNIQUE_ID_SIZE = 128
"""Most bytes in a PP2_TYPE_UNIQUE_ID (§2.2.5)."""

Address: TypeAlias = tuple[str, int]
"""A TCP endpoint: host and port. An IPv6 host has neither brackets nor scope."""

Endpoint: TypeAlias = tuple[str, int | None]
"""An `Address`, or `(path, None)` for AF_UNIX. An abstract name begins with NUL. The path of an
unnamed socket is empty."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_Endpoints: TypeAlias = tuple[Endpoint, Endpoint]


class ProxyHeader(NamedTuple):
    """One decoded header.

    `source` and `destination` are the ends of the original connection. Both are None if the header
    tells no addresses (UNKNOWN, LOCAL, UNSPEC); then the connection's own ends count. `local` is
    true only for the LOCAL command. `tlvs` are (type, value) in the order of the wire, without NOOP
    (to be ignored, §2.2.4) and CRC32C (verified here). `size` is the header's length in bytes.
    """

    source: Endpoint | None
    destination: Endpoint | None
    local: bool
    tlvs: tuple[tuple[int, bytes], ...]
    size: int


def decode_either(data: Buffer, start: int = 0) -> ProxyHeader | None:
    """Decode a header by `decode_v1` or `decode_v2`, whichever its first byte announces (§2.2)."""
    if len(data) == start:
        return None
    if data[start] == SIGNATURE[0]:
        return decode_v2(data, start)
    return decode_v1(data, start)


# Version 1: one line of text (§2.1).

_LINE_SIZE = 107  # with its CRLF
_PROTOCOLS = {b"TCP4": AF_INET, b"TCP6": AF_INET6}
_KEYWORDS = ((b"PROXY",), (b"TCP4", b"TCP6", b"UNKNOWN"))
_HOST_ALPHABET = re.compile(rb"[0-9A-Fa-f:.]*")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


def encode_v1(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """Return the v1 line of a TCP connection (§2.1).

    It is `PROXY UNKNOWN` for other connections, and for ends of two families. Raises ValueError as
    `encode_v2` does.
    """
    family, block = _pack_endpoints(source, destination)
    if family not in (_TCP4, _TCP6):
        return b"PROXY UNKNOWN\r\n"
    (source_host, source_port), (host, port) = _unpack_endpoints(family, block)
    protocol = "TCP4" if family == _TCP4 else "TCP6"
    return f"PROXY {protocol} {source_host} {host} {source_port} {port}\r\n".encode("ascii")


def decode_v1(data: Buffer, start: int = 0) -> ProxyHeader | None:
    """Decode the v1 line at `start`; return None while it is incomplete (§2.1).

    An IPv6 host is returned in the form of `inet_ntop`, whatever form was sent. Raises `Rejected`
    with PROXY_TOO_LONG, PROXY_FAMILY (a host of the other family) or PROXY_MALFORMED.
    """
    head = bytes(data[start : start + _LINE_SIZE])
    line, cr, _ = head[: _LINE_SIZE - 1].partition(b"\r")
    endpoints = _decode_line(line, ended=bool(cr))
    if not cr:
        if len(line) > _LINE_SIZE - 2:
            raise Rejected(policy.PROXY_TOO_LONG)
        return None
    end = len(line) + 2
    if len(head) < end:
        return None
    if head[end - 1 : end] != b"\n":
        raise Rejected(policy.PROXY_MALFORMED)
    source, destination = endpoints or (None, None)
    return ProxyHeader(source, destination, local=False, tlvs=(), size=end)


def _decode_line(line: bytes, *, ended: bool) -> _Endpoints | None:
    """Return the ends that a line tells; None if it tells none (UNKNOWN) or is incomplete."""
    fields = line.split(b" ")
    arriving = None if ended else fields.pop()
    for position, words in enumerate(_KEYWORDS):
        if position < len(fields):
            if fields[position] not in words:
                raise Rejected(policy.PROXY_MALFORMED)
        elif arriving is not None and any(word.startswith(arriving) for word in words):
            return None
        else:
            raise Rejected(policy.PROXY_MALFORMED)
    if fields[1] == b"UNKNOWN":
        if b"\n" in line:
            raise Rejected(policy.PROXY_MALFORMED)
        return None
    family = _PROTOCOLS[fields[1]]
    hosts = [_decode_host(field, family) for field in fields[2:4]]
    ports = [_decode_port(field) for field in fields[4:6]]
    if arriving is None:
        if len(fields) != 6:
            raise Rejected(policy.PROXY_MALFORMED)
        return (hosts[0], ports[0]), (hosts[1], ports[1])
    if len(fields) < 4:
        possible = _HOST_ALPHABET.fullmatch(arriving) is not None
    else:
        possible = len(fields) < 6 and (not arriving or _is_port(arriving))
    if not possible:
        raise Rejected(policy.PROXY_MALFORMED)
    return None


def _decode_host(field: bytes, family: AddressFamily) -> str:
    try:
        text = field.decode("ascii")
        return inet_ntop(family, inet_pton(family, text))
    except (OSError, ValueError):
        pass
    try:
        inet_pton(AF_INET if family == AF_INET6 else AF_INET6, field.decode("ascii"))
    except (OSError, ValueError):
        raise Rejected(policy.PROXY_MALFORMED) from None
    raise Rejected(policy.PROXY_FAMILY)


def _is_port(field: bytes) -> bool:
    return _PORT.fullmatch(field) is not None and int(field) <= 0xFFFF


def _decode_port(field: bytes) -> int:
    if not _is_port(field):
        raise Rejected(policy.PROXY_MALFORMED)
    return int(field)


# Version 2: sixteen fixed bytes, addresses, TLVs (§2.2).

_FIXED_SIZE = 16
_VERSION = 2
_LOCAL, _PROXY = 0x0, 0x1
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESSES_SIZE = {_TCP4: 12, 0x12: 12, _TCP6: 36, 0x22: 36, _UNIX: 216, 0x32: 216}
# AF_UNSPEC, or a family with transport UNSPEC: valid, and the addresses are ignored. Any DGRAM is
# rejected: a header precedes a stream.
_WITHOUT_ADDRESSES = frozenset({_UNSPEC, 0x01, 0x10, 0x20, 0x30})
_WITH_ADDRESSES = frozenset({_TCP4, _TCP6, _UNIX})

_FIXED = Struct("!12sBBH")
_TLV = Struct("!BH")
_IPV4 = Struct("!4s4sHH")
_IPV6 = Struct("!16s16sHH")
_PATHS = Struct("!108s108s")
_CRC32C = Struct("!I")


def encode_v2(
    source: Endpoint | None,
    destination: Endpoint | None,
    tlvs: Iterable[tuple[int, bytes]] = (),
    *,
    crc32c: bool = False,
    local: bool = False,
) -> bytes:
    """Return the v2 header with both ends, or with UNSPEC if one is missing or the families differ
    (§2.2).

    `local`: the command is LOCAL, which tells no ends. `crc32c`: add the checksum as the last TLV
    (§2.2.3). An abstract AF_UNIX name loses trailing NULs: on the wire they are padding.

    Raises ValueError for ends together with `local`, a host that is no IP address, a port above
    65535, a path of more than 108 bytes or with a NUL inside, a PP2_TYPE_CRC32C among `tlvs`, a
    unique ID of more than 128 bytes, a PP2_TYPE_SSL of fewer than 5, and more than 65535 bytes in
    all, the most that the length field can tell.
    """
    if local and not (source is None and destination is None):
        raise ValueError("a LOCAL header tells no source and destination")
    family, addresses = _pack_endpoints(source, destination)
    values = [*tlvs]
    for kind, value in values:
        if kind == PP2_TYPE_CRC32C:
            raise ValueError("the checksum is made here: pass crc32c=True")
        if kind == PP2_TYPE_UNIQUE_ID and len(value) > UNIQUE_ID_SIZE:
            raise ValueError(f"a unique ID of {len(value)} bytes, more than {UNIQUE_ID_SIZE}")
        if kind == PP2_TYPE_SSL and len(value) < SSL_SIZE:
            raise ValueError(f"a PP2_TYPE_SSL of {len(value)} bytes, fewer than {SSL_SIZE}")
        if not 0 <= kind <= 0xFF:
            raise ValueError(f"a TLV type that is not one byte: {kind}")
    if crc32c:
        values.append((PP2_TYPE_CRC32C, bytes(_CRC32C.size)))
    length = len(addresses) + sum(_TLV.size + len(value) for _, value in values)
    if length > 0xFFFF:
        raise ValueError(f"{length} bytes of addresses and TLVs, more than 65535")
    command = _LOCAL if local else _PROXY
    header = _FIXED.pack(SIGNATURE, _VERSION << 4 | command, family, length) + addresses
    header += b"".join([_TLV.pack(kind, len(value)) + value for kind, value in values])
    if crc32c:
        header = header[: -_CRC32C.size] + _CRC32C.pack(checksum_of(header))
    return header


def decode_v2(data: Buffer, start: int = 0) -> ProxyHeader | None:
    """Decode the v2 header at `start`; return None while it is incomplete (§2.2).

    Raises `Rejected` with PROXY_VERSION (or for an unknown command), PROXY_FAMILY (an unsupported
    family, or too few bytes for its addresses), PROXY_CRC or PROXY_MALFORMED.
    """
    fixed = bytes(data[start : start + _FIXED_SIZE])
    arrived = len(fixed)
    if not SIGNATURE.startswith(fixed[: len(SIGNATURE)]):
        raise Rejected(policy.PROXY_MALFORMED)
    if arrived < 13:
        return None
    version, command = fixed[12] >> 4, fixed[12] & 0xF
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise Rejected(policy.PROXY_VERSION)
    if arrived < 14:
        return None
    family = fixed[13]
    addressed = command == _PROXY and family in _WITH_ADDRESSES
    if command == _PROXY and not addressed and family not in _WITHOUT_ADDRESSES:
        raise Rejected(policy.PROXY_FAMILY)
    if arrived < _FIXED_SIZE:
        return None

    addresses = start + _FIXED_SIZE
    end = addresses + (fixed[14] << 8 | fixed[15])
    tlvs = addresses + _ADDRESSES_SIZE.get(family, 0)
    if addressed and tlvs > end:
        raise Rejected(policy.PROXY_FAMILY)
    complete = len(data) >= end
    if not addressed and not complete:
        return None
    bounds, whole = _tlv_bounds(data, tlvs, end)
    if not addressed and not whole:
        bounds = []
    checksum = _judge_tlvs(bounds)
    if addressed and not whole:
        raise Rejected(policy.PROXY_MALFORMED)
    if not complete:
        return None
    if checksum is not None:
        _verify_checksum(bytes(data[start:end]), checksum - start)
    source: Endpoint | None = None
    destination: Endpoint | None = None
    if addressed:
        source, destination = _unpack_endpoints(family, bytes(data[addresses:tlvs]))
    values = tuple(
        [
            (kind, bytes(data[value:value_end]))
            for kind, value, value_end in bounds
            if kind != PP2_TYPE_NOOP and kind != PP2_TYPE_CRC32C
        ]
    )
    return ProxyHeader(source, destination, command == _LOCAL, values, end - start)


def _tlv_bounds(data: Buffer, at: int, end: int) -> tuple[list[tuple[int, int, int]], bool]:
    """Return (type, first offset, end offset) of each TLV so far, and whether all of them fit.

    A TLV is listed as soon as its type and length have arrived. The list ends with the first TLV
    that goes beyond `end`.
    """
    bounds: list[tuple[int, int, int]] = []
    arrived = min(len(data), end)
    while at + _TLV.size <= arrived:
        kind, length = _TLV.unpack_from(data, at)
        value = at + _TLV.size
        at = value + length
        if at > end:
            return bounds, False
        bounds.append((kind, value, at))
    return bounds, not at < end < at + _TLV.size


def _judge_tlvs(bounds: list[tuple[int, int, int]]) -> int | None:
    """Return the offset of the checksum, or None. Raises `Rejected` for a second one and wrong
    lengths."""
    checksum = None
    for kind, value, value_end in bounds:
        if kind == PP2_TYPE_CRC32C:
            if checksum is not None or value_end - value != _CRC32C.size:
                raise Rejected(policy.PROXY_CRC)
            checksum = value
        elif kind == PP2_TYPE_UNIQUE_ID:
            if value_end - value > UNIQUE_ID_SIZE:
                raise Rejected(policy.PROXY_MALFORMED)
        elif kind == PP2_TYPE_SSL and value_end - value < SSL_SIZE:
            raise Rejected(policy.PROXY_MALFORMED)
    return checksum


def _verify_checksum(header: bytes, at: int) -> None:
    after = at + _CRC32C.size
    zeroed = header[:at] + bytes(_CRC32C.size) + header[after:]
    if _CRC32C.pack(checksum_of(zeroed)) != header[at:after]:
        raise Rejected(policy.PROXY_CRC)


# Endpoints, and the block of addresses in which v2 carries them (§2.2).


def _pack_endpoints(source: Endpoint | None, destination: Endpoint | None) -> tuple[int, bytes]:
    """Return the protocol byte and the address block; UNSPEC and b"" for ends that cannot be
    told."""
    if source is None or destination is None:
        return _UNSPEC, b""
    family = _family_of(source)
    if family != _family_of(destination):
        return _UNSPEC, b""
    if family == _UNIX:
        return family, _PATHS.pack(_pack_path(source[0]), _pack_path(destination[0]))
    block, internet = (_IPV4, AF_INET) if family == _TCP4 else (_IPV6, AF_INET6)
    hosts = [_pack_host(internet, host) for host, _ in (source, destination)]
    ports = source[1], destination[1]
    if any(port is None or not 0 <= port <= 0xFFFF for port in ports):
        raise ValueError(f"a port outside 0..65535: {ports}")
    return family, block.pack(*hosts, *ports)


def _family_of(endpoint: Endpoint) -> int:
    host, port = endpoint
    if port is None:
        return _UNIX
    return _TCP6 if ":" in host else _TCP4


def _pack_host(internet: AddressFamily, host: str) -> bytes:
    try:
        return inet_pton(internet, host)
    except OSError:
        raise ValueError(f"not an IP address: {host!r}") from None


def _pack_path(path: str) -> bytes:
    packed = path.encode("utf-8", "surrogateescape")
    if len(packed) > 108:
        raise ValueError(f"a socket path of {len(packed)} bytes, more than 108")
    if not packed.startswith(b"\0") and b"\0" in packed:
        raise ValueError(f"a socket path with a NUL inside: {path!r}")
    return packed


def _unpack_endpoints(family: int, block: bytes) -> _Endpoints:
    if family == _UNIX:
        source_path, path = _PATHS.unpack(block)
        return (_unpack_path(source_path), None), (_unpack_path(path), None)
    layout, internet = (_IPV4, AF_INET) if family == _TCP4 else (_IPV6, AF_INET6)
    source_host, host, source_port, port = layout.unpack(block)
    return (inet_ntop(internet, source_host), source_port), (inet_ntop(internet, host), port)


def _unpack_path(padded: bytes) -> str:
    path = padded.rstrip(b"\0") if padded.startswith(b"\0") else padded.partition(b"\0")[0]
    return path.decode("utf-8", "surrogateescape")
