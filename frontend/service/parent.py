"""Ends the service when the process that started it has ended, if that asked for it.

`reactor_run.testing` does. A test that is killed cannot stop its server.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, MutableMapping

from reactor_run.frontend.launch import PARENT_VARIABLE
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["Parent"]


class Parent:
    """The process that started this one, if it is to be watched; a context manager."""

    def __init__(
        self, loop: Loop, environ: MutableMapping[str, str], on_end: Callable[[], None]
    ) -> None:
        """Take the variable out of `environ`. `on_end`: called when the process has ended."""
        self._loop = loop
        self._pid = environ.pop(PARENT_VARIABLE, "")
        self._on_end = on_end
        self._pidfd = -1

    def __enter__(self) -> Parent:
        if self._pid.isdecimal():
            try:
                self._pidfd = os.pidfd_open(int(self._pid))
            except OSError:
                self._loop.defer(self._on_end)
                return self
            self._loop.watch(self._pidfd, select.EPOLLIN, self._ended)
            # Otherwise its number may belong to another process by now.
            if os.getppid() != int(self._pid):
                self._loop.defer(lambda: self._ended(0))
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def _ended(self, _: int) -> None:
        self._forget()
        self._on_end()

    def _forget(self) -> None:
        if self._pidfd != -1:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
