"""What an app can leave behind in a worker's task on asyncio and uvloop.

An app that suspended may have handed its task to timers, task groups and callbacks: such a task
hosts nothing further. An app that never suspended may still have stored `current_task()`. Cancelled
later, that would kill another client's request, and as a key it would show another client what
belongs to this one. A reference or a weak reference more than before the exchange tells that the
task is kept. It may also have a new name, or a callback that waits for its end.

A scope of anyio's that was left open is found in `_task_states`, which is private, as is
`_parent_scope`; this file is their only user.
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
"""Seconds that an app has after its cancellation before it is cancelled again."""


class AsyncioHygiene:
    """For one worker task on asyncio or uvloop; made inside `scope`, the worker's own."""

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
        """Cancel the app once, and again after each CANCEL_GRACE for which it goes on.

        As asyncio does: an app that catches it may wait, to roll back or to tell others. A scope of
        anyio's would cancel each of these waits too, and an app that goes on regardless would be
        cancelled in each turn of the loop, which takes a whole core.
        """
        if self._again is None:
            self._cancel()

    def _cancel(self) -> None:
        self._again = asyncio.get_running_loop().call_later(CANCEL_GRACE, self._cancel)
        self.is_cancelling = True
        self.deliver()

    def deliver(self) -> None:
        """Cancel the task, unless the app is within a shield of anyio's: asyncio knows of none."""
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
        """Leave the app's scopes, or anyio would not let the worker leave its own.

        And take a cancellation that the app asked for and did not wait for: a task that ended with
        it pending would end as cancelled, and its task group would cancel all others.
        """
        if self._again is not None:
            self._again.cancel()
        while (scope := _current_scope(self._task)) not in (None, self._own):
            # What else runs in it, of a task group, is the app's, and ends with it.
            scope.cancel()
            scope.__exit__(None, None, None)
        if self._task.cancelling():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                pass


def _current_scope(task: asyncio.Task[Any]) -> Any:
    """anyio's innermost cancel scope of a task; it has no public way to ask."""
    state = _task_states.get(task)
    return None if state is None else state.cancel_scope


class AsyncioSleep(TaskSleep):
    """To be made while the loop runs."""

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        super().__init__(epoll, events_max)
        self._loop = asyncio.get_running_loop()

    def in_child(self) -> None:
        # uvloop has no selector, and libuv aborts when its epoll set has lost what it registered.
        selector = getattr(self._loop, "_selector", None)
        if selector is not None:
            fork.renew_epoll(selector.fileno())
        # In debug mode asyncio raises where another thread than the loop's has forked.
        with suppress(RuntimeError):
            self._loop.call_soon(fork.leave_loop)
