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

    def check(self) -> None:
        """Ask whether the service is there. Raises NoAnswer if it does not answer, and
        OperatorError if another server listens at the address, such as the app's own listener."""
        if self._exchange("GET", "/healthz", patient=False) != ("200", "alive"):
            raise OperatorError(
                f"another server listens at {self._address}, or it is the listener for clients; "
                "give the --admin address of the service"
            )

    def ask(self, method: str, path: str, *, patient: bool = False) -> str:
        """Send a request; return the text of a 2xx response once the connection has ended.

        `patient`: wait for the response without a time limit. Raises OperatorError with the text of
        a 404: there is no such app. Raises NoAnswer with the text of any other response.
        """
        status, text = self._exchange(method, path, patient=patient)
        if status == "404":
            raise OperatorError(text)
        if not status.startswith("2"):
            raise NoAnswer(f"{text} ({status})")
        return text

    def _exchange(self, method: str, path: str, *, patient: bool) -> tuple[str, str]:
        """Send a request; return status and text of the response. Raises NoAnswer if there is no
        response of HTTP."""
        with self._connect() as sock:
            # Another server may leave the connection open.
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
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
        if not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
            raise NoAnswer(f"{self._address} sent no HTTP response")
        return head[9:12].decode(errors="replace"), body.decode(errors="replace").rstrip()


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(_TIMEOUT)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
