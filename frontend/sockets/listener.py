"""A socket on which the front end accepts clients, and what is spoken there."""

from __future__ import annotations

import logging
import os
import socket
from enum import Enum
from typing import Final, Literal

__all__ = ["KEEPALIVE", "Listener", "Speech"]

logger = logging.getLogger(__name__)

KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""Keep-alive probes that detect a vanished client after two minutes: seconds of silence before the
first probe, seconds between probes, and their number (tcp(7))."""

_REDIRECT_NAME: Final = "redirect-http"
"""The FileDescriptorName= of a systemd socket whose requests are redirected to TLS
(systemd.socket(5))."""


class Speech(Enum):
    """What is spoken on the connections of a listener.

    HTTP: HTTP/1.1, plain.
    TLS: HTTP after a TLS handshake.
    REDIRECT: HTTP/1.1, plain. Each request is redirected to https.
    """

    HTTP = "http"
    TLS = "tls"
    REDIRECT = "redirect"


class Listener:
    """A listening stream socket, non-blocking and close-on-exec.

    TCP sockets have TCP_NODELAY and keep-alive probes. Linux hands these options on to every
    accepted socket, so the loop need not set them.

    socket: the socket itself.
    family: AF_INET, AF_INET6 or AF_UNIX.
    kind: "tcp" or "unix".
    name: its name in the log: `http://127.0.0.1:8000` with the real port, or `unix:/run/app.sock`.
    origin: "" if opened here, else `fd:3` or `systemd:NAME`, for the log.
    plain: it must not speak TLS.
    speech: what is spoken on its connections.
    app: the name of the app that gets all requests; "": the routes decide.
    """

    __slots__ = (
        "_made",
        "_path",
        "app",
        "family",
        "kind",
        "name",
        "origin",
        "plain",
        "socket",
        "speech",
    )

    def __init__(
        self, sock: socket.socket, origin: str = "", *, plain: bool = False, app: str = ""
    ) -> None:
        """Take over a listening socket. `origin`: where it comes from, if it was not opened
        here."""
        self.app = app
        self.speech = Speech.HTTP
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.socket = sock
        self.family = socket.AddressFamily(sock.family)
        self.kind: Literal["tcp", "unix"] = "unix" if self.family == socket.AF_UNIX else "tcp"
        self.origin = origin
        self.plain = plain or self.kind == "unix"
        if self.kind == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.name = _name_of(sock)
        self._path: str | None = None
        self._made: tuple[int, int] | None = None

    def owns_path(self, path: str) -> None:
        """Have `close` remove the unix socket at `path`, which was made for this listener."""
        self._path = os.path.abspath(path)
        self._made = _identity(self._path)

    @property
    def path(self) -> str | None:
        """The path of the unix socket that `close` removes, or None."""
        return self._path

    def speak_tls(self) -> None:
        """Let each connection begin with a TLS handshake, unless the listener is plain.

        A socket from systemd may say by its name that its requests are redirected.
        """
        if self.origin == f"systemd:{_REDIRECT_NAME}":
            self.speech = Speech.REDIRECT
        elif not self.plain:
            self.speech = Speech.TLS
            self.name = self.name.replace("http:", "https:", 1)

    def leave(self) -> None:
        """Stop listening in this process; another process goes on with the same socket and path."""
        self._path = None
        self.close()

    def close(self) -> None:
        """Stop listening. Remove the unix socket from the file system if it is still ours.

        The path is removed first. As long as we listen, no other server takes our socket for a
        stale one, so the removed path cannot be a successor's.
        """
        if self._path is not None and self._made == _identity(self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("cannot remove %s: %s", self.name, error.strerror)
        self._path = None
        self.socket.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name_of(sock: socket.socket) -> str:
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        if isinstance(address, bytes):  # the abstract namespace: a NUL, then the name
            return "unix:@" + os.fsdecode(address[1:])
        return f"unix:{address}"
    host, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
