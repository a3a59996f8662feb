"""Sends requests to the admin socket of a running service."""

from __future__ import annotations

import socket
from typing import Final

from reactor_run.frontend.command.config_file import Found
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import AdminBind, UnixBind, parse_admin

__all__ = ["NoAnswer", "RunningService"]

_TIMEOUT: Final = 10.0
"""Seconds in which a front end answers unless its loop is stalled."""


class NoAnswer(Exception):
    """The service did not do what it was asked to do. The message says why."""


class RunningService:
    """A running service, reached over its admin socket."""

    def __init__(self, admin: Found) -> None:
        """`admin`: what was written for --admin. Raises OperatorError if that is no address of an
        admin socket."""
        self._address = admin.texts[-1]
        try:
            self._bind: AdminBind = parse_admin(self._address)
        except OperatorError as error:
            raise OperatorError(f"{admin.source}: {error}") from None

    def _connect(self) -> socket.socket:
        try:
            if isinstance(self._bind, UnixBind):
                return _connect_unix(self._bind.path)
            return socket.create_connection((self._bind.host, self._bind.port), _TIMEOUT)
        except PermissionError:
            raise OperatorError(
                f"no permission to connect to {self._address}; run this as root or as the "
                "service's user, or change --admin-mode"
            ) from None
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise OperatorError(
                f"no service listens at {self._address} ({error.strerror}); "
                f"check that it runs, with --admin {self._address}"
            ) from None

    def _silent(self) -> NoAnswer:
        return NoAnswer(
            f"{self._address} did not answer within {_TIMEOUT:g} s: the front end is stalled"
        )

    def ask(self, method: str, path: str, *, patient: bool = False) -> str:
        """Send a request; return the text of a 2xx response once the connection has ended.

        `patient`: wait for the response without a time limit. Raises NoAnswer with the text of any
        other response.
        """
        with self._connect() as sock:
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            answer = b""
            try:
                sock.sendall(request.encode())
                if patient:
                    sock.settimeout(None)
                while data := sock.recv(65536):
                    answer += data
            except TimeoutError:
                raise self._silent() from None
            except OSError:
                # The front end was killed. It may have answered before.
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        text = body.decode(errors="replace").rstrip()
        status = head[9:12].decode(errors="replace")
        if not head.startswith(b"HTTP/1.1 "):
            raise NoAnswer(f"{self._address} sent no HTTP response")
        if not status.startswith("2"):
            raise NoAnswer(f"{text} ({status})")
        return text


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(_TIMEOUT)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
