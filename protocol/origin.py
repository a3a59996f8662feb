"""The origin of a request, which the front end tells reactors in a PROXY v2 header with TLVs.

    addresses           the source and destination of the client's connection, or those that a
                        balancer told in a PROXY header of its own
    20 PP2_TYPE_SSL     present with PP2_CLIENT_SSL: the scheme is https; absent: http
    01 PP2_TYPE_ALPN    h2: the client speaks HTTP/2. With TLS, it is there as below
    01, 20, E4, E5      if the client speaks TLS to the front end: see tls.py
    E3 FORWARDED_FOR    replaces the source: the client that a trusted proxy named in a field of
                        this request. 4 or 16 bytes of IP address; empty if the client is unknown

The front end writes these headers, and reactors read them. A version 1 header has no TLVs.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple

from reactor_run.protocol import policy
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.proxy import PP2_TYPE_ALPN, PP2_TYPE_SSL, Address, Endpoint, ProxyHeader
from reactor_run.protocol.tls import Tls, Tlvs, read_tls

__all__ = [
    "FORWARDED_FOR",
    "NOWHERE",
    "Origin",
    "origin_tlvs",
    "over_tls",
    "read_origin",
    "unpack_address",
]

FORWARDED_FOR: Final = 0xE3
"""The TLV type for a client that a proxy named, from the range for custom types."""

_HTTP2: Final = b"h2"
_PP2_CLIENT_SSL: Final = 0x01
_SSL: Final = bytes([_PP2_CLIENT_SSL]) + (1).to_bytes(4, "big")
"""The value of PP2_TYPE_SSL: TLS, without a verified client certificate (PROXY protocol §2.2.6)."""


class Origin(NamedTuple):
    """The connection that a request came on, as an app is told.

    client: host and port; None if unknown, as for a client of a unix socket. The port is 0 if a
    proxy named the client.
    server: host and port, or path and None; None if unknown.
    scheme: http or https.
    tls: the TLS that the client speaks to the front end; None: it does not.
    http2: the client speaks HTTP/2.
    """

    client: Address | None = None
    server: Endpoint | None = None
    scheme: str = "http"
    tls: Tls | None = None
    http2: bool = False

    @property
    def relayed(self) -> bool:
        """Whether only the front end can write to the client: it has the keys, or the streams."""
        return self.tls is not None or self.http2


NOWHERE: Final = Origin()
"""The origin of a request that has no header before it."""


def origin_tlvs(
    *, https: bool, client: bytes | None = None, tls: Tlvs = (), http2: bool = False
) -> Tlvs:
    """Return the TLVs for a scheme, and for a client that a proxy named (its packed address).

    `tls`: what `tls_tlvs` tells of the client's TLS; empty: it is unknown. `http2`: the client
    speaks HTTP/2.
    """
    tlvs: Tlvs = ()
    if http2 and not (https and tls):
        tlvs += ((PP2_TYPE_ALPN, _HTTP2),)
    if https:
        tlvs += tls or ((PP2_TYPE_SSL, _SSL),)
    if client is not None:
        tlvs += ((FORWARDED_FOR, client),)
    return tlvs


def over_tls(header: ProxyHeader) -> bool:
    """Whether a header says that the client used TLS."""
    return any(
        kind == PP2_TYPE_SSL and bool(value[0] & _PP2_CLIENT_SSL) for kind, value in header.tlvs
    )


def read_origin(header: ProxyHeader) -> Origin:
    """Return the origin that a header of the front end tells.

    Raises `Rejected` if FORWARDED_FOR holds neither 0, 4 nor 16 bytes.
    """
    source = header.source
    client: Address | None = None
    if source is not None and source[1] is not None:
        client = (source[0], source[1])
    for kind, value in header.tlvs:
        if kind == FORWARDED_FOR:
            host = unpack_address(value)
            client = (host, 0) if host else None
    scheme = "https" if over_tls(header) else "http"
    http2 = (PP2_TYPE_ALPN, _HTTP2) in header.tlvs
    return Origin(client, header.destination, scheme, read_tls(header.tlvs), http2)


def unpack_address(packed: bytes) -> str:
    """Return the text of a packed address; empty if it is empty, as for an unknown client.

    Raises `Rejected` if it holds neither 0, 4 nor 16 bytes.
    """
    if not packed:
        return ""
    if len(packed) not in (4, 16):
        raise Rejected(policy.PROXY_MALFORMED)
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)
