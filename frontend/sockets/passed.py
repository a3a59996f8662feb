"""Adopts listening sockets that a parent passes, by number or as systemd does.

Every error here is for the operator to correct, and raises `OperatorError`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import is_number
from reactor_run.frontend.sockets.listener import Listener

__all__ = ["adopt", "systemd_passes_sockets", "take_systemd_sockets"]

logger = logging.getLogger(__name__)

_FIRST_FD: Final = 3
"""Number of the first descriptor that systemd passes (sd_listen_fds(3))."""


def adopt(fd: int, origin: str, *, plain: bool) -> Listener:
    """Take over a descriptor that must be a listening stream socket."""
    where = f"fd {fd}" if origin.startswith("fd:") else f"fd {fd} ({origin})"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        wrong = "not open" if error.errno == errno.EBADF else "not a socket"
        raise OperatorError(f"{where} is {wrong}; pass a listening stream socket") from error
    try:
        if sock.type != socket.SOCK_STREAM:
            raise OperatorError(
                f"{where} is not a stream socket; pass one (ListenStream= in a systemd unit)"
            )
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise OperatorError(f"{where} is neither a TCP nor a unix socket; pass one of these")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OperatorError(
                f"{where} is not listening; call listen() on it before passing it (Accept=no in a "
                "systemd unit)"
            )
    except BaseException:
        sock.detach()  # not ours: the process that opened it closes it
        raise
    return Listener(sock, origin, plain=plain)


def systemd_passes_sockets(environ: Mapping[str, str]) -> bool:
    """Whether systemd passes sockets to this process (sd_listen_fds(3))."""
    return environ.get("LISTEN_PID") == str(os.getpid()) and bool(environ.get("LISTEN_FDS"))


def take_systemd_sockets(environ: MutableMapping[str, str]) -> list[tuple[int, str]]:
    """Take from `environ` the sockets that systemd passes: (descriptor, name) of each
    (sd_listen_fds(3)).

    The variables are always removed, so that no child takes the sockets for its own. A LISTEN_PID
    of another process means that the sockets are not for this one. Raises OperatorError.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if not pid or not count:
        return []
    if not is_number(pid) or not is_number(count):
        raise OperatorError(
            f"LISTEN_PID={pid} and LISTEN_FDS={count} are not numbers; unset them or start "
            "reactor-run from systemd"
        )
    if int(pid) != os.getpid():
        logger.warning(
            "ignoring the sockets from systemd: they are for process %s, this is process %d; "
            "let ExecStart= run reactor-run itself, or `exec` it from the wrapper",
            pid,
            os.getpid(),
        )
        return []
    names += ["unknown"] * int(count)
    return [(_FIRST_FD + index, names[index] or "unknown") for index in range(int(count))]
