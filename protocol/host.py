"""The grammar of a host with a port, as in Host and in a target: uri-host [ ":" port ].

RFC 9110 §7.2, RFC 3986 §3.2. An empty value is legal (RFC 9112 §3.2). Names are not looked up, and
percent-escapes are not decoded.
"""

from __future__ import annotations

import re
from socket import AF_INET6, inet_pton
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.policy import Rejected

__all__ = ["accept_host", "is_host"]

_PORT_MAX: Final = 65535
# RFC 3986 §3.2.2: IP-literal or reg-name. An IPv4 address has the form of a reg-name.
_HOST: Final = re.compile(
    rb"""(?: \[ (?P<ipv6> [0-9A-Fa-f:.]++ ) \]
           | \[ v [0-9A-Fa-f]++ \. [A-Za-z0-9\-._~!$&'()*+,;=:]++ \]
           | (?: [A-Za-z0-9\-._~!$&'()*+,;=] | %[0-9A-Fa-f]{2} )*+
         ) (?: : (?P<port> [0-9]{0,5} ) )?""",
    re.VERBOSE,
)


def is_host(value: bytes) -> bool:
    """Whether `value` is uri-host [ ":" port ]; it may be empty."""
    parts = _HOST.fullmatch(value)
    if parts is None:
        return False
    ipv6, port = parts["ipv6"], parts["port"]
    if ipv6 is not None:
        try:
            inet_pton(AF_INET6, ipv6.decode("ascii"))
        except OSError:
            return False
    return not port or int(port) <= _PORT_MAX


def accept_host(value: bytes) -> None:
    """Check the value of a Host field. Raises `Rejected`."""
    if not is_host(value):
        raise Rejected(policy.HOST_MALFORMED)
