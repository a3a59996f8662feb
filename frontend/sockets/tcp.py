"""Opens TCP sockets on all addresses of a host.

Every error here is for the operator to correct, and raises `OperatorError`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import TCPBind
from reactor_run.frontend.sockets.listener import Listener

__all__ = ["addresses_of", "open_tcp"]


def open_tcp(bind: TCPBind, backlog: int, listeners: list[Listener], option: str) -> None:
    """Open one listener for each address of `bind` and append them to `listeners`.

    Every interface, or a name with an IPv4 and an IPv6 address, gives one listener for each family.
    IPv6 sockets accept IPv6 only, so a client's address never reads `::ffff:192.0.2.1`. An address
    that this machine lacks is left out if there is another. With port 0 all get the port of the
    first.

    `option`: the flag that an error tells the operator to change.
    """
    port = bind.port
    missing: OperatorError | None = None
    opened = False
    for family, host, scope in addresses_of(bind):
        address = (host, port) if family == socket.AF_INET else (host, port, 0, scope)
        try:
            sock = _listen_tcp(family, address, backlog)
        except OSError as error:
            refusal = OperatorError(_trouble(error, host, port, option))
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise refusal from error
            missing = missing or refusal
            continue
        listeners.append(Listener(sock, plain=bind.plain))
        port = sock.getsockname()[1]
        opened = True
    if missing is not None and not opened:
        raise missing


def _listen_tcp(
    family: int, address: tuple[str, int] | tuple[str, int, int, int], backlog: int
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)  # with SO_REUSEADDR a busy port may show only here
    except BaseException:
        sock.close()
        raise
    return sock


def addresses_of(bind: TCPBind) -> Iterator[tuple[int, str, int]]:
    """Yield (family, numeric host, IPv6 scope) for each address of a host, IPv4 first."""
    if not bind.host:
        yield socket.AF_INET, "0.0.0.0", 0
        yield socket.AF_INET6, "::", 0
        return
    if _is_ipv4(bind.host):
        # The resolver would return the same, after importing Python's codec for foreign names.
        yield socket.AF_INET, bind.host, 0
        return
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise OperatorError(
            f"host {bind.host} cannot be resolved ({why}); check its spelling or give an IP address"
        ) from error
    unique = {(family, *address) for family, _type, _protocol, _name, address in found}
    for family, host, _port, *rest in sorted(unique):  # AF_INET is the smaller number
        yield family, str(host), int(rest[1]) if rest else 0


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def _trouble(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} on {host} is in use; stop the other server or choose another {option}"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"port {port} on {host} needs a privilege; choose a port from 1024 up, grant "
                "CAP_NET_BIND_SERVICE or let systemd pass the socket"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{host} is not an address of this machine; choose another {option} (`ip address`)"
            )
        case errno.EAFNOSUPPORT:
            return (
                f"this machine does not support the address family of {host}; choose another "
                f"{option}"
            )
    return f"cannot listen on port {port} of {host}: {error.strerror}"
