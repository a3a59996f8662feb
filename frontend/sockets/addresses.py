"""The addresses that an operator may write: `--bind`, `--admin`, `--health`,
`--metrics`.

This file reads and writes their text. `listeners` opens sockets on them.
"""

import os
import re
from typing import NamedTuple

from reactor_run.frontend.errors import OperatorError

__all__ = [
    "DEFAULT_BIND",
    "UNIX_PATH_MAX",
    "AdminBind",
    "Bind",
    "FDBind",
    "SystemdBind",
    "TCPBind",
    "UnixBind",
    "is_number",
    "parse_admin",
    "parse_bind",
    "parse_health",
    "parse_metrics",
    "parse_redirect",
    "split_binds",
    "written",
]


UNIX_PATH_MAX = 107
"""Most bytes of a unix socket's path: `sun_path` holds 108, one of them the final NUL (unix(7))."""


_BIND_FORMS = "HOST:PORT, [IPV6]:PORT, :PORT, unix:/PATH, unix:@NAME, fd:N or fd:NAME"
_LOCAL_FORMS = "127.0.0.1:PORT, [::1]:PORT or unix:/PATH"
_TCP_FORMS = "HOST:PORT, [IPV6]:PORT or :PORT"
_SYSTEMD_NAME = re.compile(r"[A-Za-z_][!-+\--9;-~]{0,254}")
"""A FileDescriptorName= of systemd.socket(5) that begins with a letter. A comma would separate
addresses."""
_PLAIN = ",plain"
"""What follows an address without TLS."""


class TCPBind(NamedTuple):
    """`HOST:PORT`. An empty host means every interface; port 0 lets the kernel choose.

    plain: without TLS, also if the service has a certificate.
    """

    host: str
    port: int
    plain: bool = False


class UnixBind(NamedTuple):
    """`unix:PATH`. A path that begins with `@` is a name in the abstract namespace (unix(7))."""

    path: str


class FDBind(NamedTuple):
    """`fd:N`, a listening socket that the parent process passed.

    plain: without TLS, also if the service has a certificate.
    """

    fd: int
    plain: bool = False


class SystemdBind(NamedTuple):
    """`fd:NAME`, the listening sockets that systemd passes under this name (FileDescriptorName= of
    systemd.socket(5)).

    plain: without TLS, also if the service has a certificate.
    """

    name: str
    plain: bool = False


Bind = TCPBind | UnixBind | FDBind | SystemdBind


AdminBind = TCPBind | UnixBind


DEFAULT_BIND = TCPBind("127.0.0.1", 8000)


def parse_bind(text: str) -> Bind:
    """Read an address to listen on.

    Accepts `HOST:PORT`, `[IPV6]:PORT`, `:PORT` (every interface), `unix:PATH`, `unix:@NAME`
    (abstract namespace), `fd:N` and `fd:NAME` (of systemd). `,plain` may follow, but not a unix
    socket, which never has TLS. Raises OperatorError, which names the text, for anything else.
    """
    if text.endswith(_PLAIN) and not text.startswith("unix:"):
        bind = _parse_address(text.removesuffix(_PLAIN))
        if not isinstance(bind, UnixBind):
            return bind._replace(plain=True)
    return _parse_address(text)


def split_binds(text: str) -> list[str]:
    """Return the addresses in the text of a variable, which commas separate."""
    binds: list[str] = []
    for part in text.split(","):
        word = part.strip()
        if word == _PLAIN[1:] and binds:
            binds[-1] += _PLAIN
        elif word:
            binds.append(word)
    return binds


def _parse_address(text: str, forms: str = _BIND_FORMS) -> Bind:
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        return _parse_unix(text, rest)
    if colon and scheme == "fd":
        if is_number(rest):
            return FDBind(int(rest))
        if not _SYSTEMD_NAME.fullmatch(rest):
            raise OperatorError(
                f"{text!r}: expected the number of a descriptor, as in fd:3, or the name of a "
                "socket of systemd, as in fd:web"
            )
        return SystemdBind(rest)
    if "/" in text:
        hint = "remove the scheme and the path" if "://" in text else f"did you mean unix:{text}"
        raise OperatorError(f"{text!r} is not an address to listen on ({hint}); write {forms}")
    if is_number(text):
        raise OperatorError(
            f"{text!r} is a port without a host; write 127.0.0.1:{text} for this machine only"
            + ("" if forms == _LOCAL_FORMS else f" or :{text} for every interface")
        )
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not bracketed and (":" in host or (colon and "]" in port)):
        raise OperatorError(
            f"{text!r}: write an IPv6 address in brackets, then the port, as in [::1]:8000"
        )
    if not colon or not is_number(port) or int(port) > 65535 or host == "[]":
        raise OperatorError(
            f"{text!r} is not an address to listen on; write {forms} "
            "(a port is a number up to 65535)"
        )
    return TCPBind(host[1:-1] if bracketed else host, int(port))


def parse_admin(text: str) -> AdminBind:
    """Read the address of the admin socket: `unix:PATH` or `HOST:PORT`. Raises OperatorError."""
    bind = _parse_address(text, _LOCAL_FORMS)
    if isinstance(bind, FDBind | SystemdBind) or (
        isinstance(bind, UnixBind) and bind.path.startswith("@")
    ):
        raise OperatorError(
            f"{text!r} has no permissions to protect it; write unix:/PATH or 127.0.0.1:PORT"
        )
    return bind


def parse_health(text: str) -> TCPBind:
    """Read the address for health checks from other machines: `HOST:PORT`. Raises OperatorError."""
    return _parse_tcp(text, "use --admin for this machine")


def parse_metrics(text: str) -> TCPBind:
    """Read the address for scrapes of metrics: `HOST:PORT`. Raises OperatorError."""
    return _parse_tcp(text, "scrape --admin on this machine")


def parse_redirect(text: str) -> TCPBind:
    """Read the address whose requests are redirected to TLS: `HOST:PORT`. Raises OperatorError."""
    return _parse_tcp(text, "remove it")


def _parse_tcp(text: str, instead: str) -> TCPBind:
    bind = _parse_address(text, _TCP_FORMS)
    if not isinstance(bind, TCPBind):
        raise OperatorError(
            f"other machines cannot reach {text!r}; write :PORT or HOST:PORT, or {instead}"
        )
    return bind


def _parse_unix(text: str, path: str) -> UnixBind:
    if path in ("", "@"):
        raise OperatorError(f"{text!r} names no socket; write unix:/PATH or unix:@NAME")
    length = len(os.fsencode(path))
    if length > UNIX_PATH_MAX:
        raise OperatorError(
            f"{text!r}: the path has {length} bytes, Linux allows {UNIX_PATH_MAX}; choose a "
            "shorter one"
        )
    return UnixBind(path)


def written(bind: Bind) -> str:
    match bind:
        case TCPBind(host, port, plain):
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return address + _PLAIN if plain else address
        case UnixBind(path):
            return f"unix:{path}"
        case FDBind(fd, plain):
            return f"fd:{fd}{_PLAIN if plain else ''}"
        case SystemdBind(name, plain):
            return f"fd:{name}{_PLAIN if plain else ''}"


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
