"""Threads that wait for the disk in the place of the loop.

The loop gives work to the threads, and is woken by an eventfd when results are there. The threads
share nothing with it but the two queues. They start when they are first needed.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from reactor_run.frontend.loop.epoll import Loop

__all__ = ["DiskThreads", "Then"]

T = TypeVar("T")
Then = Callable[[T | Exception], None]
"""Takes a result, or the error that there was."""

_THREADS_MAX: Final = 4
"""Most threads. A disk that hangs keeps them all, and then no file that is not in memory is sent.
"""


class DiskThreads:
    """Up to four threads, for all directories of the service."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._work: SimpleQueue[tuple[Callable[[], Any], Then[Any]] | None] = SimpleQueue()
        self._done: deque[tuple[Then[Any], Any]] = deque()
        self._wake = -1
        self._threads: list[threading.Thread] = []
        self._pending = 0
        """Work of which no result was handed over."""

    def run(self, work: Callable[[], T], then: Then[T]) -> None:
        """Call `work` in a thread, and `then` with its outcome in the loop."""
        if self._wake < 0:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._loop.watch(self._wake, select.EPOLLIN, self._hand_over)
        self._pending += 1
        if len(self._threads) < min(self._pending, _THREADS_MAX):
            name = f"disk-{len(self._threads) + 1}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
        self._work.put((work, then))

    def _hand_over(self, _: int) -> None:
        os.eventfd_read(self._wake)
        while self._done:
            then, outcome = self._done.popleft()
            self._pending -= 1
            then(outcome)

    def close(self, patience: float) -> None:
        """End the threads, and the loop's part in them. A thread that the disk keeps for more than
        `patience` seconds is left behind."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(patience)
        if self._wake >= 0 and not any(thread.is_alive() for thread in self._threads):
            self._loop.unwatch(self._wake)
            os.close(self._wake)
            self._wake = -1

    # In a thread ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            task = self._work.get()
            if task is None:
                return
            work, then = task
            try:
                outcome: Any = work()
            except Exception as error:
                outcome = error
            self._done.append((then, outcome))
            os.eventfd_write(self._wake, 1)
