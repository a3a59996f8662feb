"""Finds what the import of an app has left and a fork would lose or share: threads, sockets, loops.

A thread does not exist in a forked process, and a lock that it holds stays locked there for ever. A
stream socket would carry the bytes of several processes, and an epoll set their events. So an app
that leaves one of these cannot be preloaded. A datagram is whole, so a datagram socket may be
shared.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import threading
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["ImportWatch"]

_SHOWN: Final = 5
"""The most leftovers that are named."""
_STDLIB: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_OWN_ROOM: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LOOPS: Final = ("anon_inode:[eventpoll]", "anon_inode:[io_uring]")


class ImportWatch:
    """A context in which the app is imported. It notes where threads are started and sockets are
    opened, as far as Python does it."""

    def __init__(self) -> None:
        self._threads: dict[threading.Thread, str] = {}
        """By thread: the place in the app that has started it."""
        self._sockets: dict[int, str] = {}
        """By descriptor: the place in the app that has opened a socket."""
        self._before: set[str] = set()
        self._start: Any = threading.Thread.start
        self._init: Any = socket.socket.__init__

    def __enter__(self) -> ImportWatch:
        self._before = _descriptors()
        start, init = self._start, self._init

        def noting_start(thread: threading.Thread) -> None:
            self._threads[thread] = _place(sys._getframe(1))
            start(thread)

        def noting_init(sock: socket.socket, *args: Any, **options: Any) -> None:
            init(sock, *args, **options)
            self._sockets[sock.fileno()] = _place(sys._getframe(1))

        setattr(threading.Thread, "start", noting_start)  # noqa: B010 - mypy forbids the other way
        setattr(socket.socket, "__init__", noting_init)  # noqa: B010
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        setattr(threading.Thread, "start", self._start)  # noqa: B010
        setattr(socket.socket, "__init__", self._init)  # noqa: B010

    def leftovers(self) -> list[str]:
        """Return what the import has left, as texts for the log: at most a few of them."""
        found = [*self._left_threads(), *self._left_descriptors()]
        if len(found) > _SHOWN:
            found[_SHOWN:] = [f"{len(found) - _SHOWN} more"]
        return found

    def _left_threads(self) -> list[str]:
        of_python = {thread.native_id: thread for thread in threading.enumerate()}
        found = []
        for number in sorted(map(int, os.listdir("/proc/self/task"))):
            if number == os.getpid():
                continue
            thread = of_python.get(number)
            if thread is not None:
                found.append(f"the thread {thread.name!r}{_where(self._threads.get(thread))}")
            elif name := _thread_name(number):
                # A thread without a name of its own has that of the process.
                named = "" if name == _thread_name(os.getpid()) else f", {name!r}"
                found.append(f"a thread of a C library{named}")
        return found

    def _left_descriptors(self) -> list[str]:
        found = []
        for entry in sorted(_descriptors() - self._before, key=_number):
            number = _number(entry)
            what = entry.partition(" ")[2]
            if what in _LOOPS:
                found.append(f"an event loop (descriptor {number})")
            elif what.startswith("socket:") and (told := _describe(number)):
                found.append(told + _where(self._sockets.get(number)))
        return found


def _where(place: str | None) -> str:
    return f" (from {place})" if place else ""


def _place(frame: FrameType | None) -> str:
    """Return the innermost place on the stack that is the app's own, else that of a library."""
    library = ""
    while frame is not None:
        file = frame.f_code.co_filename
        here = f"{file}, line {frame.f_lineno}"
        if f"{os.sep}site-packages{os.sep}" in file:
            library = library or here
        elif not file.startswith((*_STDLIB, _OWN_ROOM, "<frozen ")):
            return here
        frame = frame.f_back
    return library


def _thread_name(number: int) -> str:
    """Return the name of a thread of this process; empty if it has ended."""
    try:
        with open(f"/proc/self/task/{number}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def _descriptors() -> set[str]:
    """Return each open descriptor with what it leads to, as text."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            # The descriptor that lists them.
            continue
    return found


def _number(entry: str) -> int:
    return int(entry.partition(" ")[0])


def _describe(descriptor: int) -> str:
    """Describe a stream socket, for the log; empty if it is another socket, or closed."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            if sock.type == socket.SOCK_DGRAM:
                return ""
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"a listener on {_address(sock.getsockname())}"
            try:
                return f"a connection to {_address(sock.getpeername())}"
            except OSError:
                return f"a socket (descriptor {descriptor})"
    except OSError:
        return ""


def _address(address: Any) -> str:
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    text = address.decode(errors="replace") if isinstance(address, bytes) else str(address)
    return text or "an unnamed socket of this machine"
