"""Host, and the authority of a target: uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2).

An empty value is legal where the target names no authority (RFC 9112 §3.2), and nowhere else. The
name is not looked up, and percent-escapes in it are not undone: names are compared as they came.
"""

from __future__ import annotations

import re
from socket import AF_INET6, inet_pton
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.policy import Refused
from reactor_run.protocol.seen import remember

__all__ = ["HOSTS_SEEN", "accept_host", "same_host", "split_host"]

HOSTS_SEEN: Final[set[bytes]] = set()
"""Values of Host that were accepted lately."""

_PORT_MAX: Final = 65535
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}
# RFC 3986 §3.2.2: IP-literal, or reg-name, which an IPv4 address is one of.
_HOST: Final = re.compile(
    rb"""(?: \[ (?P<ipv6> [0-9A-Fa-f:.]++ ) \]
           | \[ v [0-9A-Fa-f]++ \. [A-Za-z0-9\-._~!$&'()*+,;=:]++ \]
           | (?: [A-Za-z0-9\-._~!$&'()*+,;=] | %[0-9A-Fa-f]{2} )*+
         ) (?: : (?P<port> [0-9]{0,5} ) )?""",
    re.VERBOSE,
)


def split_host(value: bytes) -> tuple[bytes, int | None] | None:
    """The host in lower case and the port, None for one that is left out or empty.

    None altogether if `value` is no uri-host [ ":" port ].
    """
    parts = _HOST.fullmatch(value)
    if parts is None:
        return None
    ipv6, port = parts["ipv6"], parts["port"]
    if ipv6 is not None:
        try:
            inet_pton(AF_INET6, ipv6.decode("ascii"))
        except OSError:
            return None
    if not port:
        return value.removesuffix(b":").lower(), None
    if int(port) > _PORT_MAX:
        return None
    return value[: -len(port) - 1].lower(), int(port)


def accept_host(value: bytes) -> None:
    """Check a Host field. Raises `Refused`."""
    if split_host(value) is None:
        raise Refused(policy.HOST_MALFORMED)
    remember(HOSTS_SEEN, value)


def same_host(one: bytes, other: bytes, scheme: bytes) -> bool:
    """Whether two authorities name one host and port; `scheme` is in lower case.

    A port that is left out is the scheme's own (RFC 9110 §4.2.3).
    """
    default = _DEFAULT_PORTS.get(scheme)
    reduced = [
        parts and (parts[0], default if parts[1] is None else parts[1])
        for parts in (split_host(one), split_host(other))
    ]
    return reduced[0] is not None and reduced[0] == reduced[1]
