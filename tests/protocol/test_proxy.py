"""PROXY headers: vectors of the specification, round trips, every cut and every rejection."""

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET6, inet_ntop
from typing import TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reactor_run.protocol import policy
from reactor_run.protocol.crc32c import crc32c
from reactor_run.protocol.policy import Rejected, Rule
from reactor_run.protocol.proxy import (
    SIGNATURE,
    Endpoint,
    ProxyHeader,
    decode_either,
    decode_v1,
    decode_v2,
    encode_v1,
    encode_v2,
)

Decode: TypeAlias = Callable[[bytes], ProxyHeader | None]
Arguments: TypeAlias = tuple[
    tuple[Endpoint | None, Endpoint | None], tuple[tuple[int, bytes], ...], bool, bool
]

V4 = ("192.168.0.1", 56324), ("192.168.0.11", 443)
V6 = ("2001:db8::1", 1), ("2001:db8::2", 65535)
UNIX = ("", None), ("/run/app.sock", None)
V4_BLOCK = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + struct.pack("!HH", 56324, 443)


def v2(
    payload: bytes = b"", *, version_command: int = 0x21, family: int = 0x11, length: int = -1
) -> bytes:
    length = len(payload) if length < 0 else length
    return SIGNATURE + struct.pack("!BBH", version_command, family, length) + payload


def tlv(kind: int, value: bytes, *, length: int = -1) -> bytes:
    return struct.pack("!BH", kind, len(value) if length < 0 else length) + value


def with_checksum(before: bytes, after: bytes = b"", *, family: int = 0x11) -> bytes:
    """Return a v2 header whose checksum stands between two parts of its payload."""
    zeroed = v2(before + tlv(3, bytes(4)) + after, family=family)
    at = 16 + len(before) + 3
    return zeroed[:at] + crc32c(zeroed).to_bytes(4, "big") + zeroed[at + 4 :]


def rule_of(decode: Decode, data: bytes) -> Rule:
    with pytest.raises(Rejected) as refusal:
        decode(data)
    return refusal.value.rule


# CRC32C


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720 Appendix B.4, which writes them least significant byte first
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c_vectors(data: bytes, value: int) -> None:
    assert crc32c(data) == value


# Version 1


def test_v1_example_of_the_specification() -> None:
    line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    request = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
    assert encode_v1(*V4) == line
    assert decode_v1(line + request) == ProxyHeader(*V4, local=False, tlvs=(), size=len(line))


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0), ("0.0.0.0", 0)),
        (b"PROXY TCP6 ::1 :: 1 2\r\n", ("::1", 1), ("::", 2)),
        (
            b"PROXY TCP6 " + b" ".join([b"FFFF:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
            ("ffff:" * 7 + "ffff", 65535),
            ("ffff:" * 7 + "ffff", 65535),
        ),
        (
            b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::ffff:192.0.2.1 1 2\r\n",
            ("2001:db8::1", 1),
            ("::ffff:192.0.2.1", 2),
        ),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN \r\n", None, None),
        (b"PROXY UNKNOWN whatever \x00\xff comes\r\n", None, None),
        (
            b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
            None,
            None,
        ),
    ],
)
def test_v1_accepts(line: bytes, source: Endpoint | None, destination: Endpoint | None) -> None:
    assert decode_v1(line) == ProxyHeader(source, destination, False, (), len(line))


@pytest.mark.parametrize(
    "ends",
    [
        (None, None),
        (V4[0], None),
        (None, V4[1]),
        (V4[0], V6[1]),
        (V6[0], V4[1]),
        (("::ffff:192.0.2.1", 1), V4[1]),
        UNIX,
        (V4[0], UNIX[1]),
    ],
)
def test_v1_encodes_anything_but_tcp_as_unknown(
    ends: tuple[Endpoint | None, Endpoint | None],
) -> None:
    assert encode_v1(*ends) == b"PROXY UNKNOWN\r\n"


# Each ends with the byte that makes it impossible.
V1_REFUSED = {
    "first byte": (b"G", policy.PROXY_MALFORMED),
    "other signature": (b"PROXZ", policy.PROXY_MALFORMED),
    "request line": (b"PROXY /", policy.PROXY_MALFORMED),
    "lower case": (b"p", policy.PROXY_MALFORMED),
    "version 2": (SIGNATURE[:1], policy.PROXY_MALFORMED),
    "no fields": (b"PROXY\r", policy.PROXY_MALFORMED),
    "two spaces": (b"PROXY  ", policy.PROXY_MALFORMED),
    "tab": (b"PROXY\t", policy.PROXY_MALFORMED),
    "protocol": (b"PROXY TCP5", policy.PROXY_MALFORMED),
    "protocol cut": (b"PROXY TCP\r", policy.PROXY_MALFORMED),
    "protocol prolonged": (b"PROXY TCP44", policy.PROXY_MALFORMED),
    "unknown prolonged": (b"PROXY UNKNOWNS", policy.PROXY_MALFORMED),
    "protocol alone": (b"PROXY TCP4\r", policy.PROXY_MALFORMED),
    "no ports": (b"PROXY TCP4 1.2.3.4 5.6.7.8\r", policy.PROXY_MALFORMED),
    "one port": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r", policy.PROXY_MALFORMED),
    "empty port": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \r", policy.PROXY_MALFORMED),
    "a field more": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ", policy.PROXY_MALFORMED),
    "empty host": (b"PROXY TCP4  ", policy.PROXY_MALFORMED),
    "octet zero": (b"PROXY TCP4 01.2.3.4 ", policy.PROXY_MALFORMED),
    "octet range": (b"PROXY TCP4 256.2.3.4 ", policy.PROXY_MALFORMED),
    "three octets": (b"PROXY TCP4 1.2.3 ", policy.PROXY_MALFORMED),
    "number as host": (b"PROXY TCP4 16909060 ", policy.PROXY_MALFORMED),
    "name as host": (b"PROXY TCP4 l", policy.PROXY_MALFORMED),
    "host not ASCII": (b"PROXY TCP4 \xd9", policy.PROXY_MALFORMED),
    "host with NUL": (b"PROXY TCP4 1.2.3.4\x00", policy.PROXY_MALFORMED),
    "destination": (b"PROXY TCP4 1.2.3.4 1.2.3.4.5 ", policy.PROXY_MALFORMED),
    "group of five": (b"PROXY TCP6 12345::1 ", policy.PROXY_MALFORMED),
    "two elisions": (b"PROXY TCP6 1::2::3 ", policy.PROXY_MALFORMED),
    "scope": (b"PROXY TCP6 fe80::1%", policy.PROXY_MALFORMED),
    "brackets": (b"PROXY TCP6 [", policy.PROXY_MALFORMED),
    "v6 in TCP4": (b"PROXY TCP4 ::1 ", policy.PROXY_FAMILY),
    "v6 in TCP4, second": (b"PROXY TCP4 1.2.3.4 ::1 ", policy.PROXY_FAMILY),
    "v4 in TCP6": (b"PROXY TCP6 1.2.3.4 ", policy.PROXY_FAMILY),
    "v4 in TCP6, second": (b"PROXY TCP6 ::1 1.2.3.4 ", policy.PROXY_FAMILY),
    "port zero": (b"PROXY TCP4 1.2.3.4 5.6.7.8 01", policy.PROXY_MALFORMED),
    "port plus": (b"PROXY TCP4 1.2.3.4 5.6.7.8 +", policy.PROXY_MALFORMED),
    "port minus": (b"PROXY TCP4 1.2.3.4 5.6.7.8 -", policy.PROXY_MALFORMED),
    "port range": (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536", policy.PROXY_MALFORMED),
    "port digits": (b"PROXY TCP4 1.2.3.4 5.6.7.8 655350", policy.PROXY_MALFORMED),
    "port underscore": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1_", policy.PROXY_MALFORMED),
    "second port": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536", policy.PROXY_MALFORMED),
    "LF alone": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", policy.PROXY_MALFORMED),
    "LF alone, unknown": (b"PROXY UNKNOWN\n", policy.PROXY_MALFORMED),
    "LF inside unknown": (b"PROXY UNKNOWN a\n", policy.PROXY_MALFORMED),
    "CR alone": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rG", policy.PROXY_MALFORMED),
    "CR CR LF": (b"PROXY UNKNOWN\r\r", policy.PROXY_MALFORMED),
    "no end": (b"PROXY UNKNOWN " + b"x" * 92, policy.PROXY_TOO_LONG),
    "no end of TCP": (b"PROXY TCP6 " + b"1" * 95, policy.PROXY_TOO_LONG),
}


@pytest.mark.parametrize(("data", "rule"), V1_REFUSED.values(), ids=V1_REFUSED)
def test_v1_rejects_at_the_byte_that_is_wrong(data: bytes, rule: Rule) -> None:
    assert all(decode_v1(data[:length]) is None for length in range(len(data)))
    assert rule_of(decode_v1, data) == rule
    assert rule_of(decode_v1, data + b"1 2\r\n" + b"x" * 107) == rule


def test_v1_line_may_take_107_bytes_and_no_more() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    decoded = decode_v1(line + b"GET")
    assert decoded is not None
    assert decoded.size == len(line) == 107
    assert rule_of(decode_v1, line.replace(b"\r", b"x\r")) == policy.PROXY_TOO_LONG


# Version 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v2(V4_BLOCK), ProxyHeader(*V4, False, (), 28)),
        (
            v2(
                IPv6Address("2001:db8::1").packed
                + IPv6Address("2001:db8::2").packed
                + struct.pack("!HH", 1, 65535),
                family=0x21,
            ),
            ProxyHeader(*V6, False, (), 52),
        ),
        (
            v2(bytes(108) + b"/run/app.sock".ljust(108, b"\0"), family=0x31),
            ProxyHeader(*UNIX, False, (), 232),
        ),
        (
            v2(b"\0name".ljust(108, b"\0") + b"p" * 108, family=0x31),
            ProxyHeader(("\0name", None), ("p" * 108, None), False, (), 232),
        ),
        (v2(family=0), ProxyHeader(None, None, False, (), 16)),
        (v2(version_command=0x20, family=0), ProxyHeader(None, None, True, (), 16)),
        (
            v2(V4_BLOCK + tlv(1, b"h2") + tlv(0xE0, b"")),
            ProxyHeader(*V4, False, ((1, b"h2"), (0xE0, b"")), 36),
        ),
        (
            v2(tlv(5, b"id"), version_command=0x20, family=0),
            ProxyHeader(None, None, True, ((5, b"id"),), 21),
        ),
    ],
)
def test_v2_layout(header: bytes, expected: ProxyHeader) -> None:
    assert decode_v2(header) == expected
    assert (
        encode_v2(expected.source, expected.destination, expected.tlvs, local=expected.local)
        == header
    )


def test_v2_checksum_of_another_implementation() -> None:
    """The checksum is taken over the header with four zeros in its place, wherever it stands."""
    plain = encode_v2(*V4, ((1, b"h2"),), crc32c=True)
    assert plain == with_checksum(V4_BLOCK + tlv(1, b"h2"))
    header = with_checksum(V4_BLOCK + tlv(1, b"h2"), tlv(2, b"example.org"))
    assert decode_v2(header) == ProxyHeader(
        *V4, False, ((1, b"h2"), (2, b"example.org")), len(header)
    )


def test_v2_ignores_padding_that_is_a_noop() -> None:
    header = encode_v2(*V4, ((4, b"\0" * 5), (1, b"h2"), (4, b"")))
    decoded = decode_v2(header)
    assert decoded is not None
    assert decoded.tlvs == ((1, b"h2"),)


def test_v2_path_ends_at_its_first_nul() -> None:
    decoded = decode_v2(v2(b"/a\0junk".ljust(108, b"\0") + bytes(108), family=0x31))
    assert decoded is not None
    assert (decoded.source, decoded.destination) == (("/a", None), ("", None))


@pytest.mark.parametrize(
    "ends",
    [
        (None, None),
        (V4[0], None),
        (None, V6[1]),
        (V4[0], V6[1]),
        (("::ffff:192.0.2.1", 1), V4[1]),
        (V4[0], ("::ffff:192.0.2.1", 1)),
        (UNIX[0], V4[1]),
    ],
)
def test_v2_tells_no_ends_of_two_families(
    ends: tuple[Endpoint | None, Endpoint | None],
) -> None:
    assert encode_v2(*ends) == v2(family=0)


def test_v2_keeps_mapped_addresses_of_one_family() -> None:
    ends = ("::ffff:192.0.2.1", 1), ("::ffff:192.0.2.2", 2)
    decoded = decode_v2(encode_v2(*ends))
    assert decoded is not None
    assert (decoded.source, decoded.destination) == ends


# Some begin like TLVs. The last would be rejected if it were TLVs.
NO_TLVS = [b"", b"\x7f", V4_BLOCK, b"\xff" * 300, tlv(1, b"h2") + b"\x7f", tlv(3, b"") + b"\x7f"]


@pytest.mark.parametrize("family", [0x00, 0x01, 0x10, 0x20, 0x30])
@pytest.mark.parametrize("payload", NO_TLVS)
def test_v2_skips_the_bytes_in_place_of_unspecified_addresses(family: int, payload: bytes) -> None:
    header = v2(payload, family=family)
    assert decode_v2(header + b"GET") == ProxyHeader(None, None, False, (), len(header))


@pytest.mark.parametrize("family", [0x00, 0x11, 0x12, 0x21, 0x31, 0x41, 0xFF])
@pytest.mark.parametrize("payload", NO_TLVS)
def test_v2_local_is_valid_whatever_it_holds(family: int, payload: bytes) -> None:
    header = v2(payload, version_command=0x20, family=family)
    assert decode_v2(header + b"GET") == ProxyHeader(None, None, True, (), len(header))


def test_v2_local_with_addresses_has_its_tlvs_after_them() -> None:
    header = v2(V4_BLOCK + tlv(5, b"id"), version_command=0x20)
    assert decode_v2(header) == ProxyHeader(None, None, True, ((5, b"id"),), len(header))


def damaged(header: bytes, at: int) -> bytes:
    return header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]


CHECKED = with_checksum(V4_BLOCK + tlv(1, b"h2"))

V2_REFUSED = {
    "first byte": (b"P", policy.PROXY_MALFORMED),
    "empty line": (b"\r\n\r\nG", policy.PROXY_MALFORMED),
    "last of the signature": (SIGNATURE[:-1] + b"\r", policy.PROXY_MALFORMED),
    "version 1": (SIGNATURE + b"\x11", policy.PROXY_VERSION),
    "version 3": (SIGNATURE + b"\x31", policy.PROXY_VERSION),
    "command": (SIGNATURE + b"\x22", policy.PROXY_VERSION),
    "command 15": (SIGNATURE + b"\x2f", policy.PROXY_VERSION),
    "UDP4": (SIGNATURE + b"\x21\x12", policy.PROXY_FAMILY),
    "UDP6": (SIGNATURE + b"\x21\x22", policy.PROXY_FAMILY),
    "UNIX datagram": (SIGNATURE + b"\x21\x32", policy.PROXY_FAMILY),
    "unspecified datagram": (SIGNATURE + b"\x21\x02", policy.PROXY_FAMILY),
    "family 4": (SIGNATURE + b"\x21\x41", policy.PROXY_FAMILY),
    "transport 3": (SIGNATURE + b"\x21\x13", policy.PROXY_FAMILY),
    "transport 3 of no family": (SIGNATURE + b"\x21\x03", policy.PROXY_FAMILY),
    "family 4 of no transport": (SIGNATURE + b"\x21\x40", policy.PROXY_FAMILY),
    "v4 without addresses": (v2(length=0), policy.PROXY_FAMILY),
    "v4 too short": (v2(length=11), policy.PROXY_FAMILY),
    "v6 too short": (v2(family=0x21, length=35), policy.PROXY_FAMILY),
    "UNIX too short": (v2(family=0x31, length=215), policy.PROXY_FAMILY),
    "one byte more": (v2(length=13), policy.PROXY_MALFORMED),
    "two bytes more": (v2(length=14), policy.PROXY_MALFORMED),
    "TLV overruns": (v2(V4_BLOCK + b"\x01\x00\x02", length=16), policy.PROXY_MALFORMED),
    "second TLV overruns": (
        v2(V4_BLOCK + tlv(1, b"h2") + b"\x02\x00\x04", length=12 + 5 + 6),
        policy.PROXY_MALFORMED,
    ),
    "TLVs leave two bytes": (
        v2(V4_BLOCK + b"\x01\x00\x02", length=12 + 5 + 2),
        policy.PROXY_MALFORMED,
    ),
    "unique ID": (v2(V4_BLOCK + b"\x05\x00\x81", length=200), policy.PROXY_MALFORMED),
    "TLS": (v2(V4_BLOCK + b"\x20\x00\x04", length=200), policy.PROXY_MALFORMED),
    "checksum of three bytes": (v2(V4_BLOCK + b"\x03\x00\x03", length=18), policy.PROXY_CRC),
    "checksum of five bytes": (v2(V4_BLOCK + b"\x03\x00\x05", length=20), policy.PROXY_CRC),
    "checksum empty": (v2(V4_BLOCK + b"\x03\x00\x00"), policy.PROXY_CRC),
    "two checksums": (
        v2(V4_BLOCK + tlv(3, bytes(4)) + b"\x03\x00\x04", length=26),
        policy.PROXY_CRC,
    ),
    "checksum damaged": (damaged(CHECKED, len(CHECKED) - 1), policy.PROXY_CRC),
    "address damaged": (damaged(CHECKED, 17), policy.PROXY_CRC),
    "TLV damaged": (damaged(CHECKED, 32), policy.PROXY_CRC),
    "unspecified damaged": (
        damaged(with_checksum(tlv(1, b"h2"), family=0), 20),
        policy.PROXY_CRC,
    ),
}


@pytest.mark.parametrize(("data", "rule"), V2_REFUSED.values(), ids=V2_REFUSED)
def test_v2_rejects_at_the_byte_that_is_wrong(data: bytes, rule: Rule) -> None:
    assert all(decode_v2(data[:length]) is None for length in range(len(data)))
    assert rule_of(decode_v2, data) == rule
    assert rule_of(decode_v2, data + b"\0" * 300) == rule


# Encoding what cannot be told


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
@pytest.mark.parametrize(
    "source",
    [
        ("localhost", 1),
        ("192.168.0.1\r\n", 1),
        ("192.168.000.1", 1),
        ("192.168.0.1", 65536),
        ("192.168.0.1", -1),
        ("192.168.0.1\0", 1),
        ("\udc80", 1),
    ],
)
def test_encoding_rejects_a_host_that_is_no_address(
    encode: Callable[[Endpoint, Endpoint], bytes], source: Endpoint
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode(source, V4[1])


def test_encoding_rejects_a_scope() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        encode_v2(("fe80::1%eth0", 1), V6[1])


@pytest.mark.parametrize("path", ["p" * 109, "\0" + "n" * 108, "é" * 55, "/run/a\0b"])
def test_v2_does_not_encode_a_bad_path(path: str) -> None:
    with pytest.raises(ValueError, match="a socket path"):
        encode_v2((path, None), UNIX[1])


def test_v2_length_is_sixteen_bits() -> None:
    room = 0xFFFF - 12 - 3
    header = encode_v2(*V4, ((0xE0, bytes(room)),))
    assert len(header) == 16 + 0xFFFF
    decoded = decode_v2(header)
    assert decoded is not None
    assert decoded.tlvs == ((0xE0, bytes(room)),)
    with pytest.raises(ValueError, match="more than 65535"):
        encode_v2(*V4, ((0xE0, bytes(room + 1)),))
    with pytest.raises(ValueError, match="more than 65535"):
        encode_v2(*V4, ((0xE0, bytes(room)),), crc32c=True)


@pytest.mark.parametrize(
    ("tlvs", "message"),
    [
        (((3, bytes(4)),), "crc32c=True"),
        (((5, bytes(129)),), "a unique ID"),
        (((0x20, bytes(4)),), "a PP2_TYPE_SSL of 4 bytes"),
        (((256, b""),), "not one byte"),
        (((-1, b""),), "not one byte"),
    ],
)
def test_v2_does_not_encode_a_bad_tlv(tlvs: tuple[tuple[int, bytes], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_v2(*V4, tlvs)


def test_v2_local_tells_no_ends() -> None:
    with pytest.raises(ValueError, match="LOCAL"):
        encode_v2(*V4, local=True)


# Either version


@pytest.mark.parametrize("header", [encode_v1(*V6), encode_v2(*V6, ((1, b"h2"),))])
def test_either_decides_by_the_first_byte(header: bytes) -> None:
    decoded = decode_either(header)
    assert decoded is not None
    assert (decoded.source, decoded.destination) == V6
    assert all(decode_either(header[:length]) is None for length in range(len(header)))


@pytest.mark.parametrize("data", [b"G", b"\n", b"\x16\x03", b"PRI", b"\r\nG"])
def test_either_rejects_bytes_of_neither_version(data: bytes) -> None:
    assert rule_of(decode_either, data) == policy.PROXY_MALFORMED


def test_each_version_rejects_the_other() -> None:
    assert rule_of(decode_v1, encode_v2(*V4)) == policy.PROXY_MALFORMED
    assert rule_of(decode_v2, encode_v1(*V4)) == policy.PROXY_MALFORMED


# Properties

ports = st.integers(0, 0xFFFF)
v4_ends = st.tuples(st.integers(0, 2**32 - 1).map(lambda n: str(IPv4Address(n))), ports)
v6_ends = st.tuples(
    st.one_of(
        st.binary(min_size=16, max_size=16),
        st.lists(st.sampled_from([b"\0\0", b"\xff\xff"]), min_size=8, max_size=8).map(b"".join),
    ).map(lambda packed: inet_ntop(AF_INET6, packed)),
    ports,
)
paths = st.one_of(
    st.just(b""),
    st.binary(min_size=1, max_size=108).filter(lambda path: 0 not in path),
    st.binary(min_size=1, max_size=107).filter(lambda name: name[-1] != 0).map(b"\0".__add__),
)
unix_ends = st.tuples(paths.map(lambda path: path.decode("utf-8", "surrogateescape")), st.none())
tcp = st.one_of(st.tuples(v4_ends, v4_ends), st.tuples(v6_ends, v6_ends))
any_ends = st.one_of(tcp, st.tuples(unix_ends, unix_ends), st.just((None, None)))
kinds = st.integers(0, 255).filter(lambda kind: kind not in (3, 4))
tlvs = st.tuples(kinds, st.binary(max_size=128)).filter(
    lambda tlv: tlv[0] != 0x20 or len(tlv[1]) >= 5
)
tlv_lists = st.lists(tlvs, max_size=4).map(tuple)
v2_arguments = st.tuples(any_ends, tlv_lists, st.booleans(), st.booleans())
payloads = st.binary(max_size=20)


def made(
    arguments: Arguments,
) -> tuple[bytes, ProxyHeader]:
    (source, destination), tlvs, checked, wants_local = arguments
    local = wants_local and source is None
    header = encode_v2(source, destination, tlvs, crc32c=checked, local=local)
    return header, ProxyHeader(source, destination, local, tlvs, len(header))


@given(ends=tcp, before=payloads, after=payloads)
def test_v1_round_trip(ends: tuple[Endpoint, Endpoint], before: bytes, after: bytes) -> None:
    header = encode_v1(*ends)
    assert len(header) <= 107
    expected = ProxyHeader(*ends, False, (), len(header))
    for decode in (decode_v1, decode_either):
        assert decode(before + header + after, len(before)) == expected


@given(arguments=v2_arguments, before=payloads, after=payloads)
@example(arguments=(UNIX, (), True, False), before=b"", after=SIGNATURE)
def test_v2_round_trip(
    arguments: Arguments,
    before: bytes,
    after: bytes,
) -> None:
    header, expected = made(arguments)
    for decode in (decode_v2, decode_either):
        assert decode(before + header + after, len(before)) == expected


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("decode", "header"),
    [(decode_v1, encode_v1(*V4)), (decode_v2, encode_v2(*V4, ((1, b"h2"),), crc32c=True))],
)
def test_any_buffer_is_read_and_not_kept(
    decode: Decode, header: bytes, kind: Callable[[bytes], bytes]
) -> None:
    decoded = decode(kind(b"xx" + header)[2:])
    assert decoded == decode(header)
    assert decoded is not None
    assert all(type(value) is bytes for _, value in decoded.tlvs)


def every_prefix(decode: Decode, data: bytes) -> list[ProxyHeader | Rule | None]:
    """Return what the decoder says as the bytes arrive one by one."""
    said: list[ProxyHeader | Rule | None] = []
    for length in range(len(data) + 1):
        try:
            said.append(decode(data[:length]))
        except Rejected as refusal:
            said.append(refusal.rule)
    return said


@given(ends=tcp)
def test_v1_is_incomplete_at_every_cut(ends: tuple[Endpoint, Endpoint]) -> None:
    *cut, whole = every_prefix(decode_v1, encode_v1(*ends))
    assert isinstance(whole, ProxyHeader)
    assert set(cut) == {None}


@settings(max_examples=50)
@given(arguments=v2_arguments)
def test_v2_is_incomplete_at_every_cut(
    arguments: Arguments,
) -> None:
    header, expected = made(arguments)
    *cut, whole = every_prefix(decode_v2, header)
    assert whole == expected
    assert set(cut) == {None}


SEEDS = [
    encode_v1(*V4),
    encode_v1(*V6),
    encode_v1(None, None) + b"GET / HTTP/1.1",
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n\r\n",
    encode_v2(*V4, ((1, b"h2"), (5, b"id")), crc32c=True),
    encode_v2(*V6, ((0xE0, bytes(3)),)),
    encode_v2(None, None, ((5, b"12345678"), (4, b"")), crc32c=True, local=True),
    v2(V4_BLOCK + tlv(3, bytes(3)) + b"\x01\x00\xff"),
    v2(tlv(3, bytes(3)) + b"\x01\x00\xff", family=0),
]
notable = st.sampled_from(list(b"\r\n \x00\x01\x03\x04\x05\x12\x20\x21\x22\xff:.+059%aP"))
edits = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete"]), st.integers(0, 120), notable),
    max_size=3,
)


@settings(max_examples=300)
@given(header=st.sampled_from(SEEDS), edits=edits)
def test_a_verdict_does_not_depend_on_the_cuts(
    header: bytes, edits: list[tuple[str, int, int]]
) -> None:
    """For a damaged header the decoder says nothing at first, then one verdict, and never
    another."""
    data = bytearray(header)
    for edit, position, byte in edits:
        at = position % len(data)
        if edit == "insert":
            data.insert(at, byte)
        elif edit == "replace":
            data[at] = byte
        else:
            del data[at]
    said = every_prefix(decode_either, bytes(data))
    first = next((at for at, verdict in enumerate(said) if verdict is not None), len(said))
    assert all(verdict == said[first] for verdict in said[first:])
    if first < len(said) and isinstance(verdict := said[first], ProxyHeader):
        assert verdict.size == first
