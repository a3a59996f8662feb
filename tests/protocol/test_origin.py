"""The origin of a request (protocol/origin.py): a reactor reads what the front end has written."""

from __future__ import annotations

import struct

import pytest

from reactor_run.protocol import policy
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import FORWARDED_FOR, NOWHERE, Origin, origin_tlvs, read_origin
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.proxy import PP2_TYPE_SSL, Endpoint, decode_v2, encode_v2
from reactor_run.protocol.request import read_relayed_head
from reactor_run.protocol.scope import ScopeBuilder

V4 = ("192.0.2.7", 4711), ("127.0.0.1", 8000)
V6 = ("2001:db8::7", 4711), ("::1", 8000)
UNIX: tuple[Endpoint, Endpoint] = (("", None), ("/run/app.sock", None))
MIXED = V4[0], V6[1]
V4_PACKED = bytes([203, 0, 113, 9])
V6_PACKED = bytes.fromhex("20010db8") + bytes(11) + b"\x09"


def read(
    ends: tuple[Endpoint | None, Endpoint | None], *tlvs: tuple[int, bytes], local: bool = False
) -> Origin:
    header = decode_v2(encode_v2(*ends, tlvs, local=local))
    assert header is not None
    return read_origin(header)


@pytest.mark.parametrize(
    ("ends", "client", "server"),
    [
        (V4, *V4),
        (V6, *V6),
        (UNIX, None, UNIX[1]),
        (MIXED, None, None),
        ((None, None), None, None),
    ],
)
@pytest.mark.parametrize("https", [False, True])
@pytest.mark.parametrize(
    ("named", "instead"),
    [
        (None, ()),
        (b"", (None,)),
        (V4_PACKED, (("203.0.113.9", 0),)),
        (V6_PACKED, (("2001:db8::9", 0),)),
    ],
)
def test_round_trip(
    ends: tuple[Endpoint, Endpoint],
    client: Endpoint | None,
    server: Endpoint | None,
    https: bool,
    named: bytes | None,
    instead: tuple[tuple[str, int] | None, ...],
) -> None:
    origin = read(ends, *origin_tlvs(https=https, client=named))
    expected = instead[0] if instead else client
    assert origin[:3] == (expected, server, "https" if https else "http")


def test_without_tlvs_the_origin_is_unknown_and_http() -> None:
    assert origin_tlvs(https=False) == ()
    assert read((None, None), local=True) == NOWHERE == Origin(None, None, "http")


@pytest.mark.parametrize("flags", range(8))
def test_only_the_bit_of_the_connection_means_tls(flags: int) -> None:
    """PROXY protocol §2.2.6: 1 is PP2_CLIENT_SSL, 2 and 4 are about certificates."""
    tlv = PP2_TYPE_SSL, struct.pack("!BI", flags, 0) + b"\x21\0\x07TLSv1.3"
    assert read(V4, tlv).scheme == ("https" if flags & 1 else "http")


@pytest.mark.parametrize("size", [1, 3, 5, 15, 17])
def test_a_client_that_is_no_address_is_rejected(size: int) -> None:
    with pytest.raises(Rejected) as refusal:
        read(V4, (FORWARDED_FOR, bytes(size)))
    assert refusal.value.rule is policy.PROXY_MALFORMED


def test_one_head_comes_from_elsewhere_each_time() -> None:
    head = read_relayed_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert head is not None
    scopes = ScopeBuilder()
    environs = EnvironBuilder(multithread=False, multiprocess=False)
    origins: list[Origin] = [
        Origin(*V4, "https"),
        Origin(*V6),
        Origin(None, UNIX[1], "https"),
        Origin(*V4),
    ]
    for origin in origins:
        scope = scopes.build(head, origin)
        assert Origin(scope["client"], scope["server"], scope["scheme"]) == origin
        environ = environs.build(head, origin)
        client = origin.client
        assert environ["REMOTE_ADDR"] == (client[0] if client else "")
        assert ("REMOTE_PORT" in environ) is (client is not None)
        assert environ["wsgi.url_scheme"] == origin.scheme
        if origin.server == UNIX[1]:
            assert environ["SERVER_PORT"] == "443"
