"""The reaper of orphans: adopted child processes whose own parent has died.

The kernel gives orphans to the first process of a container, and to a process that was declared a
subreaper (PR_SET_CHILD_SUBREAPER of prctl(2)). If that process does not take their exit status,
each of them occupies a process number for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final

from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["Reaper", "adopts_orphans"]

_AGAIN: Final = 1.0
"""Seconds until the next look, after an ended child of our own hid other ended processes, or while
a reactor is forked."""


def adopts_orphans() -> bool:
    """Whether orphans of our descendants become children of this process."""
    if os.getpid() == 1:
        return True
    import ctypes  # imported here, because that takes a while and is seldom needed

    pr_get_child_subreaper = 37
    is_subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(pr_get_child_subreaper, ctypes.byref(is_subreaper))
    return bool(is_subreaper.value)


class Reaper:
    """Takes the exit status of orphans, and of no process that we started."""

    def __init__(
        self,
        loop: Loop,
        ours: Callable[[], Collection[int]],
        forking: Callable[[], bool] = lambda: False,
    ) -> None:
        """`ours`: the processes that we started. Other parts wait for their status. `forking`:
        whether a child may be ours whose number is unknown yet."""
        self._loop = loop
        self._ours = ours
        self._forking = forking
        self._again = Timer(self.reap)
        self._adopts: bool | None = None
        """Whether orphans become children of this process. None until the first child may have
        ended."""

    def child_ended(self) -> None:
        """Called after SIGCHLD."""
        if self._adopts is None:
            self._adopts = adopts_orphans()
        if self._adopts:
            self.reap()

    def reap(self) -> None:
        """Take the status of all orphans that have ended."""
        if self._forking():
            self._loop.set_deadline(self._again, _AGAIN)
            return
        ours = self._ours()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in ours:
                # The kernel shows other ended children only after this one has been taken.
                self._loop.set_deadline(self._again, _AGAIN)
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
