"""Upgrades of the front end that keep its listeners open: SIGUSR2.

The old front end starts a new one, with the same command line, and passes it the listening sockets.
The new one starts its reactors, begins to accept beside the old one, and says so over a socket
pair. Then the old one stops as on SIGTERM, but leaves the sockets and their files to the new one.
If the new one ends before that, the old one continues as before.

The new one gets what the operator has changed, such as maintenance. If that changes again before
the new one accepts, it follows over the socket pair.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from reactor_run.frontend.launch import UPGRADE_VARIABLE, StartDirectory, explain
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.service.endpoints import Endpoints
from reactor_run.frontend.sockets.listener import Listener

__all__ = ["Inheritance", "Upgrade", "inherit"]

_MESSAGE_MAX: Final = 1 << 18
"""The most bytes of one message over the socket pair. The kernel takes no larger ones."""


class Inheritance:
    """The descriptors that a new front end got from the old one."""

    def __init__(self, ready: int) -> None:
        """`ready`: the socket over which this front end says that it accepts."""
        self.endpoints = Endpoints([], [], [], [], [])
        self.state: dict[str, Any] = {}
        """What the operator had changed in the old front end."""
        self.on_accept: list[Callable[[], None]] = []
        """What is called when this front end accepts, before the old one stops."""
        self._paths: list[tuple[Listener, str]] = []
        self._ready = ready

    def adopt(
        self, descriptions: list[list[Any]], plain: Collection[int], apps: Mapping[int, str]
    ) -> list[Listener]:
        """Return listeners for the passed sockets.

        Each description holds the descriptor, the origin, and the path to remove at the end or
        None. `plain`: the descriptors of those that must not speak TLS. `apps`: the apps of those
        that have one, by descriptor.
        """
        listeners = []
        for fd, origin, path in descriptions:
            sock = socket.socket(fileno=fd)
            listeners.append(Listener(sock, origin, plain=fd in plain, app=apps.get(fd, "")))
            if path is not None:
                self._paths.append((listeners[-1], path))
        return listeners

    def update(self) -> None:
        """Read what the operator has changed in the old front end since this one was started."""
        if not stat.S_ISSOCK(os.fstat(self._ready).st_mode):
            # A front end of an older version passes a pipe, and tells nothing.
            return
        with suppress(BlockingIOError):
            while message := os.read(self._ready, _MESSAGE_MAX):
                self.state = json.loads(message)

    def accept_begins(self) -> None:
        """Tell the old front end that it may stop. The files of the sockets are ours from now
        on."""
        for listener, path in self._paths:
            listener.owns_path(path)
        for call in self.on_accept:
            call()
        os.write(self._ready, b"!")
        os.close(self._ready)


def inherit(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Return what an old front end passed to this process; None if it was started otherwise."""
    text = environ.pop(UPGRADE_VARIABLE, "")
    if not text:
        return None
    left = json.loads(text)
    os.set_inheritable(left["ready"], False)
    inheritance = Inheritance(left["ready"])
    # A front end of an older version does not know this.
    inheritance.state = left.get("state", {})
    # A front end of another version may know fewer kinds of listeners, no TLS and no apps.
    plain = left.get("plain", ())
    apps = dict(left.get("apps", ()))
    for listeners, descriptions in zip(inheritance.endpoints, left["listeners"], strict=False):
        listeners += inheritance.adopt(descriptions, plain, apps)
    return inheritance


class Upgrade:
    """The start of a new front end, in the old one."""

    def __init__(
        self,
        loop: Loop,
        endpoints: Endpoints,
        place: StartDirectory,
        *,
        state: Callable[[], dict[str, Any]],
        missing: Mapping[str, str],
        from_file: Collection[str],
    ) -> None:
        """`endpoints`: the listeners that the new front end gets.
        `place`: the directory and the Python with which it is started.
        `state`: returns what the operator has changed, ready for JSON.
        `missing`: variables that were removed from our environment at the start. The new front end
        needs them.
        `from_file`: variables that the env file has added. The new front end reads the file itself.
        """
        self._loop = loop
        self._endpoints = endpoints
        self._place = place
        self._state = state
        self._missing = missing
        self._from_file = from_file
        self._on_ready: Callable[[int], None] = _ignore
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: socket.socket | None = None
        """Our end of the socket pair, while the new front end starts."""

    @property
    def pid(self) -> int:
        """The process number of the new front end until it is ready or ends; 0 without one."""
        return self._process.pid if self._process is not None else 0

    def begin(self, on_ready: Callable[[int], None]) -> None:
        """Start a new front end. `on_ready` is called with its process number once it accepts."""
        if self._process is not None:
            log.warning("upgrade rejected: another upgrade is in progress")
            return
        if os.getpid() == 1:
            log.error("upgrade rejected: process 1 cannot be replaced; replace the container")
            return
        self._on_ready = on_ready
        try:
            self._start()
        except OSError as error:
            log.error("UPGRADE FAILED: cannot start the new front end: %s", explain(error))

    def state_changed(self) -> None:
        """Pass on what the operator has changed, if a new front end starts."""
        if self._ready is not None:
            try:
                self._ready.send(json.dumps(self._state()).encode())
            except OSError as error:
                log.error("the new front end does not learn of this change: %s", error.strerror)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            listeners = [each for listeners in self._endpoints for each in listeners]
            left = {
                "ready": theirs.fileno(),
                "state": self._state(),
                "listeners": [_described(listeners) for listeners in self._endpoints],
                "plain": [each.socket.fileno() for each in listeners if each.plain],
                "apps": [(each.socket.fileno(), each.app) for each in listeners if each.app],
            }
            directory = self._place.enter()
            environment = {
                **{name: text for name, text in os.environ.items() if name not in self._from_file},
                **self._missing,
                UPGRADE_VARIABLE: json.dumps(left),
            }
            if directory is not None:
                environment["PWD"] = directory
            self._process = subprocess.Popen(
                [self._place.interpreter, *sys.orig_argv[1:]],
                cwd=directory,
                env=environment,
                pass_fds=[theirs.fileno(), *(listener.socket.fileno() for listener in listeners)],
                stdin=subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        log.info("SIGUSR2 received, upgrading: the new front end is process %d", self._process.pid)
        self._ready = ours
        self._loop.watch(ours.fileno(), select.EPOLLIN, self._on_word)

    def _on_word(self, _: int) -> None:
        assert self._process is not None
        assert self._ready is not None
        try:
            said = self._ready.recv(1)
        except OSError:
            # It has ended without reading what was passed on.
            said = b""
        self._close()
        process, self._process = self._process, None
        if said:
            log.info("the new front end accepts connections, shutting down this one")
            self._on_ready(process.pid)
        else:
            process.kill()
            status = process.wait()
            log.error(
                "UPGRADE FAILED: the new front end exited with status %d, this one continues",
                status,
            )

    def _close(self) -> None:
        assert self._ready is not None
        self._loop.unwatch(self._ready.fileno())
        self._ready.close()
        self._ready = None

    def cancel(self) -> None:
        """Stop the new front end, because this one stops before the new one accepts."""
        if self._process is not None:
            self._close()
            self._process.kill()
            self._process.wait()
            self._process = None


def _described(listeners: list[Listener]) -> list[tuple[int, str, str | None]]:
    return [(each.socket.fileno(), each.origin, each.path) for each in listeners]


def _ignore(_: int) -> None:
    """Do nothing: no upgrade has begun."""
