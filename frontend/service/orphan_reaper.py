"""Ends what is left of strangers: processes whose parent died, so that they became our children.

That happens to the first process of a container, and to one that was declared a subreaper
(PR_SET_CHILD_SUBREAPER of prctl(2)). Nobody else would ever take their status, and each would
occupy a process number for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final

from reactor_run.frontend.loop.epoll import Loop, Timer

__all__ = ["Reaper", "adopts_orphans"]

_AGAIN: Final = 1.0
"""Seconds until those are looked at who stood behind a process of our own."""


def adopts_orphans() -> bool:
    """Whether orphans of our descendants become children of this process."""
    if os.getpid() == 1:
        return True
    import ctypes  # here, since it takes a while, and nobody waits for the first child to end

    pr_get_child_subreaper = 37
    is_subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(pr_get_child_subreaper, ctypes.byref(is_subreaper))
    return bool(is_subreaper.value)


class Reaper:
    """Takes the status of strangers, and of nobody else."""

    def __init__(self, loop: Loop, ours: Callable[[], Collection[int]]) -> None:
        """`ours`: the processes that we started, whose status others wait for."""
        self._loop = loop
        self._ours = ours
        self._again = Timer(self.reap)
        self._adopts: bool | None = None
        """Whether orphans become children of this process; not asked before one may have ended."""

    def child_ended(self) -> None:
        """SIGCHLD has come."""
        if self._adopts is None:
            self._adopts = adopts_orphans()
        if self._adopts:
            self.reap()

    def reap(self) -> None:
        """Look for strangers that have ended."""
        ours = self._ours()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in ours:
                # The kernel shows others only when this one has been taken.
                self._loop.set_deadline(self._again, _AGAIN)
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
