"""Where a request comes from, as reactors are told: PROXY v2 headers, two of their TLVs included.

    addresses           both ends of the client's connection. Where a balancer in front told by a
                        PROXY header of its own whose connection it passes on, those ends
    20 PP2_TYPE_SSL     with PP2_CLIENT_SSL set: the client's scheme is https, else http
    E3 FORWARDED_FOR    in the place of the source: whom a trusted proxy named in a field of this
                        request. 4 or 16 bytes of IP address; none if nobody knows who it is

The front end writes them, reactors read them. A version 1 header has no TLVs.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple

from reactor_run.protocol import policy
from reactor_run.protocol.policy import Refused
from reactor_run.protocol.proxy import PP2_TYPE_SSL, Address, Endpoint, ProxyHeader

__all__ = ["FORWARDED_FOR", "NOWHERE", "Origin", "origin_tlvs", "over_tls", "read_origin"]

FORWARDED_FOR: Final = 0xE3
"""A TLV type of the custom range."""

_PP2_CLIENT_SSL: Final = 0x01
_SSL: Final = bytes([_PP2_CLIENT_SSL]) + (1).to_bytes(4, "big")
"""The client used TLS, and presented no certificate that was verified (PROXY protocol §2.2.6)."""


class Origin(NamedTuple):
    """What an app is told of the connection that a request came on.

    client: host and port; None if there is none to tell, as for a client of a unix socket. The port
    is 0 if a proxy named the client.
    server: host and port, or path and None; None if it was not told.
    scheme: http or https.
    """

    client: Address | None = None
    server: Endpoint | None = None
    scheme: str = "http"


NOWHERE: Final = Origin()
"""What is known of a request without a header before it."""


def origin_tlvs(*, https: bool, client: bytes | None = None) -> tuple[tuple[int, bytes], ...]:
    """The TLVs for a scheme, and for a client that a proxy named, as packed address."""
    tlvs: tuple[tuple[int, bytes], ...] = ()
    if https:
        tlvs += ((PP2_TYPE_SSL, _SSL),)
    if client is not None:
        tlvs += ((FORWARDED_FOR, client),)
    return tlvs


def over_tls(header: ProxyHeader) -> bool:
    """Whether a header says that the client used TLS."""
    return any(
        kind == PP2_TYPE_SSL and bool(value[0] & _PP2_CLIENT_SSL) for kind, value in header.tlvs
    )


def read_origin(header: ProxyHeader) -> Origin:
    """What a header of the front end says. Raises Refused for a client that is no address."""
    source = header.source
    client: Address | None = None
    if source is not None and source[1] is not None:
        client = (source[0], source[1])
    for kind, value in header.tlvs:
        if kind == FORWARDED_FOR:
            client = _unpack(value)
    return Origin(client, header.destination, "https" if over_tls(header) else "http")


def _unpack(packed: bytes) -> Address | None:
    if not packed:
        return None
    if len(packed) not in (4, 16):
        raise Refused(policy.PROXY_MALFORMED)
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed), 0
