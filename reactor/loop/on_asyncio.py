"""The guard of a worker's task, and the leader's wait, on asyncio and uvloop.

An app that suspended may have handed its task to timers, task groups and callbacks. Such a task
hosts no further exchange.

An app that never suspended may still have stored `current_task()`. If the app cancels this task
later, it cancels another client's request. If the app uses the task as a key, it shows one client's
data to another. Therefore the guard compares the numbers of references and weak references before
and after an exchange: one more means that the app kept the task. An app can also have renamed the
task, or added a callback for its end.

An app can leave a cancel scope of anyio open. The guard finds it in `_task_states` and
`_parent_scope`. Both are private to anyio, and only this file uses them.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from contextlib import suppress
from sys import getrefcount
from typing import Any, Final

import anyio
from anyio._backends._asyncio import _task_states

from reactor_run.reactor import fork
from reactor_run.reactor.loop.sleep import TaskSleep

__all__ = ["CANCEL_GRACE", "AsyncioHygiene", "AsyncioSleep"]

CANCEL_GRACE: Final = 5.0
"""Seconds after a cancellation before the app is cancelled again."""


class AsyncioHygiene:
    """Guards one worker's task on asyncio or uvloop.

    Create it in that task, inside `scope`, the worker's own cancel scope.
    """

    reusable_after_suspension: Final = False

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.is_cancelling = False
        self._again: asyncio.TimerHandle | None = None
        task = asyncio.current_task()
        assert task is not None
        self._task: Any = task
        self._own = _current_scope(task)
        self._own_callbacks = len(self._task._callbacks)

    def cancel(self) -> None:
        """Cancel the app once, and again every CANCEL_GRACE seconds while it still runs.

        This is asyncio's own way: an app that catches the cancellation may await its cleanup, such
        as a rollback. A cancel scope of anyio would cancel these waits too. It would also cancel an
        app that does not stop in each turn of the loop, which takes a whole core.
        """
        if self._again is None:
            self._cancel()

    def _cancel(self) -> None:
        self._again = asyncio.get_running_loop().call_later(CANCEL_GRACE, self._cancel)
        self.is_cancelling = True
        self.deliver()

    def deliver(self) -> None:
        """Cancel the task, unless the app is inside a shielded scope of anyio. asyncio itself does
        not know these shields."""
        scope = _current_scope(self._task)
        while scope is not None and scope is not self._own:
            if scope.shield:
                return
            scope = scope._parent_scope
        self.is_cancelling = False
        self._task.cancel()

    @property
    def is_waited_for(self) -> bool:
        return len(self._task._callbacks) > self._own_callbacks

    @property
    def is_open(self) -> bool:
        return _current_scope(self._task) not in (None, self._own)

    def snapshot(self) -> object:
        task = self._task
        return (
            getrefcount(task),
            weakref.getweakrefcount(task),
            task.cancelling(),
            task.get_name(),
        )

    async def restore(self) -> None:
        """Leave the scopes that the app left open, and consume a pending cancellation.

        anyio does not let the worker leave its own scope while an inner scope is open. A task that
        ends with a pending cancellation ends as cancelled, and its task group would cancel all
        other workers.
        """
        if self._again is not None:
            self._again.cancel()
        while (scope := _current_scope(self._task)) not in (None, self._own):
            # If the scope is that of a task group, its tasks are the app's and end with it.
            scope.cancel()
            scope.__exit__(None, None, None)
        if self._task.cancelling():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                pass


def _current_scope(task: asyncio.Task[Any]) -> Any:
    """Return anyio's innermost cancel scope of a task, or None. anyio has no public way to ask."""
    state = _task_states.get(task)
    return None if state is None else state.cancel_scope


class AsyncioSleep(TaskSleep):
    """Waits for events on asyncio and uvloop. Create it while the event loop runs."""

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        super().__init__(epoll, events_max)
        self._loop = asyncio.get_running_loop()

    def in_child(self) -> None:
        # uvloop has no selector. Its epoll set must stay: libuv aborts the process if descriptors
        # that it registered are missing from the set.
        selector = getattr(self._loop, "_selector", None)
        if selector is not None:
            fork.renew_epoll(selector.fileno())
        # In debug mode asyncio raises RuntimeError if a thread other than the loop's has forked.
        with suppress(RuntimeError):
            self._loop.call_soon(fork.leave_loop)
