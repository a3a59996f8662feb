"""Proxies in front of the service."""

from typing import Literal

from reactor_run.frontend.command.options import SWITCH, Kind, choice
from reactor_run.frontend.command.table import Group, option
from reactor_run.frontend.sockets.networks import LOCAL, NO_NETWORKS, Networks, parse_networks

ForwardedFields = Literal["x-forwarded", "forwarded"]

NETWORKS = Kind("NETWORKS", parse_networks, lambda networks: networks.text)


class ProxiesGroup(Group, key="proxies", title="Proxies in front"):
    """Proxies in front of the service."""

    proxy_protocol: bool = option(
        SWITCH,
        False,
        "Every connection must begin with a PROXY protocol header, version 1 or 2, which names "
        "the client.",
    )
    proxy_allow_from: Networks = option(
        NETWORKS,
        LOCAL,
        "Peers that may connect with --proxy-protocol: addresses, networks such as 10.0.0.0/8, "
        "and unix for clients of unix sockets, separated by commas.",
    )
    forwarded_allow_from: Networks = option(
        NETWORKS,
        NO_NETWORKS,
        "Trusted proxies, whose fields set the client's address and scheme: addresses, networks "
        "and unix, separated by commas.",
    )
    forwarded_fields: ForwardedFields = option(
        choice(ForwardedFields),
        "x-forwarded",
        "What these proxies write. x-forwarded: X-Forwarded-For and X-Forwarded-Proto; "
        "forwarded: Forwarded (RFC 7239).",
    )
