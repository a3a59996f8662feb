"""The sockets on which the front end accepts clients: opened here, or passed by a parent.

All of them are opened, or none. This file never accepts connections. Every error here is for the
operator to correct, and raises `OperatorError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import (
    DEFAULT_BIND,
    AdminBind,
    Bind,
    FDBind,
    SystemdBind,
    TCPBind,
    UnixBind,
    written,
)
from reactor_run.frontend.sockets.listener import Listener
from reactor_run.frontend.sockets.passed import adopt, take_systemd_sockets
from reactor_run.frontend.sockets.tcp import addresses_of, open_tcp
from reactor_run.frontend.sockets.unix import open_unix

__all__ = [
    "all_or_none",
    "open_admin",
    "open_health",
    "open_listeners",
    "open_metrics",
    "open_redirect",
]

_ADMIN_BACKLOG: Final = 64
_PLAIN_NAME: Final = "plain"
"""The FileDescriptorName= of a systemd socket without TLS (systemd.socket(5))."""


@contextmanager
def all_or_none() -> Iterator[list[Listener]]:
    """Yield a list for the listeners that the block opens. If the block raises, close them."""
    listeners: list[Listener] = []
    try:
        yield listeners
    except BaseException:
        for listener in listeners:
            listener.close()
        raise


def open_listeners(
    binds: Sequence[Bind],
    environ: MutableMapping[str, str],
    *,
    backlog: int,
    unix_mode: int,
    own: Mapping[str, Sequence[Bind]] | None = None,
    default: bool = True,
) -> list[Listener]:
    """Open a listener for each of `binds` and `own`, and adopt those that systemd passes.

    `backlog`: connections that the kernel holds ready. `unix_mode`: permissions of unix sockets.
    `own`: the listeners of single apps, by name. `default`: without other listeners, those of apps
    aside, the default address is opened.

    Sockets passed by systemd replace the default address and come before those of `--bind`. The
    variables that announce them are removed from `environ`. The umask of the process changes for a
    moment, so call this before any thread starts. Raises OperatorError; then no socket stays open.
    """
    wanted = [("--bind", "", bind) for bind in binds]
    wanted += [
        (f"bind of [app.{app}]", app, bind)
        for app, app_binds in (own or {}).items()
        for bind in app_binds
    ]
    with all_or_none() as listeners:
        for fd, name in take_systemd_sockets(environ):
            listeners.append(adopt(fd, f"systemd:{name}", plain=name == _PLAIN_NAME))
        passed = listeners.copy()
        _claim(wanted, passed)
        if default and not binds and all(listener.app for listener in passed):
            wanted.insert(0, ("--bind", "", DEFAULT_BIND))
        descriptors = {listener.socket.fileno() for listener in passed}
        seen: set[Bind] = set()
        for option, app, bind in wanted:
            if bind in seen and not (isinstance(bind, TCPBind) and not bind.port):
                raise OperatorError(f"{option} names {written(bind)} twice; remove one")
            seen.add(bind)
            before = len(listeners)
            match bind:
                case TCPBind():
                    open_tcp(bind, backlog, listeners, option)
                case UnixBind():
                    listeners.append(open_unix(bind, unix_mode, backlog, option))
                case FDBind(fd) if fd in descriptors:
                    raise OperatorError(f"systemd already passes fd {fd}; remove {option} fd:{fd}")
                case FDBind(fd, plain):
                    listeners.append(adopt(fd, f"fd:{fd}", plain=plain))
            for listener in listeners[before:]:
                listener.app = app
    return listeners


def _claim(wanted: Sequence[tuple[str, str, Bind]], passed: Sequence[Listener]) -> None:
    """Give apps the sockets that systemd passes for them. Raises OperatorError if there is none.

    `wanted`: the option, the app and the address of each listener.
    """
    for option, app, bind in wanted:
        if isinstance(bind, SystemdBind):
            found = [each for each in passed if each.origin == f"systemd:{bind.name}"]
            if not found:
                names = [each.origin.removeprefix("systemd:") for each in passed]
                raise OperatorError(
                    f"{option} {written(bind)}: systemd passes no socket of this name "
                    f"(FileDescriptorName=), but {', '.join(names) or 'none at all'}"
                )
            for listener in found:
                listener.app = app
                listener.plain = listener.plain or bind.plain


def open_admin(bind: AdminBind, mode: int) -> list[Listener]:
    """Open the admin socket, on every address of its host name.

    `mode`: permissions of a unix socket. Raises OperatorError, also if other machines can reach a
    TCP address; then no socket stays open.
    """
    from ipaddress import ip_address  # imported here, because most services do not need it

    option = "--admin"
    with all_or_none() as listeners:
        if isinstance(bind, UnixBind):
            listeners.append(open_unix(bind, mode, _ADMIN_BACKLOG, option))
            return listeners
        for _family, host, _scope in addresses_of(bind):
            if not ip_address(host.partition("%")[0]).is_loopback:
                raise OperatorError(
                    f"{option} {written(bind)}: other machines can reach {host}; "
                    f"use 127.0.0.1:{bind.port} or unix:/PATH"
                )
        open_tcp(bind, _ADMIN_BACKLOG, listeners, option)
    return listeners


def open_health(bind: TCPBind) -> list[Listener]:
    """Open the sockets for health checks from other machines.

    Raises OperatorError; then no socket stays open.
    """
    return _open_for_machines(bind, "--health")


def open_metrics(bind: TCPBind) -> list[Listener]:
    """Open the sockets for scrapes of metrics, also from other machines.

    Raises OperatorError; then no socket stays open.
    """
    return _open_for_machines(bind, "--metrics")


def open_redirect(bind: TCPBind | None, backlog: int) -> list[Listener]:
    """Open the sockets whose requests are redirected to TLS; none without `bind`.

    Raises OperatorError; then no socket stays open.
    """
    with all_or_none() as listeners:
        if bind is not None:
            open_tcp(bind._replace(plain=True), backlog, listeners, "--redirect-http")
    return listeners


def _open_for_machines(bind: TCPBind, option: str) -> list[Listener]:
    with all_or_none() as listeners:
        open_tcp(bind, _ADMIN_BACKLOG, listeners, option)
    return listeners
