"""What differs between Trio and asyncio under the worker loop, and nothing else.

A worker task hosts one exchange after another. Whatever an app leaves behind in the task would hit
the next client, so after each exchange the loop asks `residue`, and a worker that has any ends.

Trio. What can be left is an open cancel scope or nursery; either shows as a cancel status that is
not the worker's own. `task._cancel_status` is a private attribute; this file is its only user.

asyncio and uvloop. An app that suspended may have handed its task to timers, task groups and
callbacks: such a task hosts nothing further. An app that never suspended may still have stored
`current_task()`, and cancelled it later it would kill another client's request; a reference or a
weak reference more than before the exchange tells that somebody keeps one. A scope of anyio's that
was left open is found in `_task_states`, private as well.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import Any, Final, Protocol

import trio
from anyio._backends._asyncio import _task_states

__all__ = ["AsyncioHygiene", "Hygiene", "TrioHygiene", "backend_options", "hygiene_for"]


class Hygiene(Protocol):
    """A worker's guard against what an app leaves in its task."""

    @property
    def reusable_after_suspension(self) -> bool:
        """Whether a task in which an app suspended may host the next exchange."""

    def snapshot(self) -> object:
        """The task as it is before an exchange; compared with != afterwards."""

    async def restore(self) -> None:
        """Close what the app left open, so that the worker can end in order."""


class TrioHygiene:
    """For one worker task on Trio; made inside the worker's own cancel scope."""

    reusable_after_suspension: Final = True

    def __init__(self) -> None:
        self._task: Any = trio.lowlevel.current_task()
        self._own = self._task._cancel_status

    def snapshot(self) -> object:
        return self._task._cancel_status

    async def restore(self) -> None:
        task = self._task
        while (status := task._cancel_status) is not self._own:
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is status._scope:
                # What `async with` would have done on the way out of an app that was cancelled.
                status._scope.cancel()
                await nurseries[-1]._nested_child_finished(None)
            status._scope.__exit__(None, None, None)


class AsyncioHygiene:
    """For one worker task on asyncio or uvloop."""

    reusable_after_suspension: Final = False

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._own = _current_scope(task)

    def snapshot(self) -> object:
        task = self._task
        return getrefcount(task), weakref.getweakrefcount(task), task.cancelling()

    async def restore(self) -> None:
        """Leave the app's scopes, or anyio would not let the worker leave its own.

        And take a cancellation that the app asked for and did not wait for: a task that ended with
        it pending would end as cancelled, and its task group would cancel all others.
        """
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


def hygiene_for(runtime: str) -> Callable[[], Hygiene]:
    """The guard for `trio`, `asyncio` or `uvloop`."""
    return TrioHygiene if runtime == "trio" else AsyncioHygiene


def backend_options(runtime: str) -> tuple[str, dict[str, Any]]:
    """anyio's backend and its options for a `--runtime`."""
    if runtime == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return runtime, {}
