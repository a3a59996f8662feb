"""Networks that an operator trusts: IP networks, and the clients of unix sockets."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from reactor_run.frontend.errors import OperatorError
from reactor_run.protocol.proxy import Endpoint

__all__ = ["LOCAL", "NO_NETWORKS", "Networks", "pack_address", "parse_networks"]

_V4_MAPPED = bytes(10) + b"\xff\xff"


class Networks(NamedTuple):
    """A list of networks.

    text: as the operator wrote it. unix: whether clients of unix sockets are in it.
    blocks: (bytes of an address, its network's value, the network mask) of each IP network.
    """

    text: str
    unix: bool
    blocks: tuple[tuple[int, int, int], ...]

    def cover(self, endpoint: Endpoint) -> bool:
        """Whether an end of a connection is in one of the networks."""
        host, port = endpoint
        if port is None:
            return self.unix
        return bool(self.blocks) and self.cover_address(pack_address(host))

    def cover_address(self, packed: bytes) -> bool:
        """Whether a packed address, of 4 or 16 bytes, is in one of the networks."""
        size = len(packed)
        value = int.from_bytes(packed, "big")
        return any(size == bits and value & mask == block for bits, block, mask in self.blocks)


def pack_address(host: str) -> bytes:
    """Return the bytes of an IP address: 4 also for IPv4 in IPv6 form (RFC 4291 §2.5.5.2).

    A zone may follow, which is not part of the address. Raises OSError for anything else.
    """
    if ":" not in host:
        return inet_pton(AF_INET, host)
    packed = inet_pton(AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_V4_MAPPED) else packed


def parse_networks(text: str) -> Networks:
    """Read addresses, networks and the word unix, separated by commas, or the word none.

    Raises OperatorError, which names the item that is none of these.
    """
    from ipaddress import ip_network  # imported here, because few services name networks

    unix = False
    blocks: list[tuple[int, int, int]] = []
    if text == "none":
        return Networks(text, unix, ())
    for item in filter(None, map(str.strip, text.split(","))):
        if item == "unix":
            unix = True
            continue
        try:
            network = ip_network(item)
        except ValueError as error:
            why = "has bits beyond its mask" if "host bits" in str(error) else "is not one of these"
            raise OperatorError(
                f"expected addresses, networks such as 10.0.0.0/8, or unix, separated by commas; "
                f"{item!r} {why}"
            ) from None
        size = network.max_prefixlen // 8
        blocks.append((size, int(network.network_address), int(network.netmask)))
    if not unix and not blocks:
        raise OperatorError("the list is empty; write none for an empty list")
    return Networks(text, unix, tuple(blocks))


NO_NETWORKS = Networks("none", False, ())
LOCAL = Networks(
    "127.0.0.0/8,::1,unix", True, ((4, 0x7F000000, 0xFF000000), (16, 1, (1 << 128) - 1))
)
"""The loopback addresses and the unix sockets of this machine."""
