"""Opens unix sockets, and removes those that no process serves any more.

Every error here is for the operator to correct, and raises `OperatorError`.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import UnixBind
from reactor_run.frontend.sockets.listener import Listener

__all__ = ["open_unix"]


def open_unix(bind: UnixBind, mode: int, backlog: int, option: str) -> Listener:
    """Listen at a path, or at an abstract name, which has no mode and needs no removal.

    The socket is bound under its own name and not renamed into place: the kernel keeps the name of
    the bind, and `ss -xl` should show the name that the operator wrote.
    """
    abstract = bind.path.startswith("@")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if abstract:
            sock.bind(b"\0" + os.fsencode(bind.path[1:]))
        else:
            _remove_stale(bind.path, option)
            umask = os.umask(0o777 & ~mode)  # the socket has its mode from the first moment on
            try:
                sock.bind(bind.path)
            finally:
                os.umask(umask)
        sock.listen(backlog)
        listener = Listener(sock)
        if not abstract:
            listener.owns_path(bind.path)
    except OSError as error:
        sock.close()
        raise OperatorError(_trouble(error, bind.path, option)) from error
    except BaseException:
        sock.close()
        raise
    return listener


def _remove_stale(path: str, option: str) -> None:
    """Remove a socket at `path` that no process serves. Raises OperatorError for anything else
    there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OperatorError(
            f"{path} exists and is not a socket; remove it or choose another {option}"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # with a full backlog: EAGAIN at once instead of a wait
        outcome = probe.connect_ex(path)
    if outcome in (0, errno.EAGAIN):
        raise OperatorError(_trouble(OSError(errno.EADDRINUSE, ""), path, option))
    if outcome == errno.ENOENT:
        return
    if outcome != errno.ECONNREFUSED:
        raise OperatorError(
            f"{path} is a socket that cannot be probed ({os.strerror(outcome)}); remove it or "
            f"choose another {option}"
        )
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(
            f"{path} is a stale socket and cannot be removed ({error.strerror}); remove it or "
            f"choose another {option}"
        ) from error


def _trouble(error: OSError, path: str, option: str) -> str:
    directory = os.path.dirname(path) or "."
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"unix:{path} is already served by another process; stop it or choose another "
                f"{option}"
            )
        case errno.ENOENT:
            return f"directory {directory} of unix:{path} does not exist; create it"
        case errno.ENOTDIR:
            return f"{directory} of unix:{path} is not a directory; choose another {option}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"no permission to create a socket in {directory} for unix:{path} "
                f"({error.strerror}); make it writable or choose another {option}"
            )
    return f"cannot listen on unix:{path}: {error.strerror}"
