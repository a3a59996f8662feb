"""What the loop needs of asyncio and anyio beyond their public interfaces.

A task begins eagerly: its coroutine runs at once until it suspends. Python 3.12 can do this. On
Python 3.11 `begin_eagerly` does it with the functions that asyncio documents for other
implementations of tasks ("Extending", "Task lifetime support").

An app that is cancelled may be inside a shielded scope of anyio. anyio has no public way to ask for
the scopes of a task: `_task_states` and `_parent_scope` are private. Only this file uses them.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any, Final

from anyio._backends._asyncio import _task_states

__all__ = ["BY_HAND", "CANCEL_GRACE", "Cancellation", "begin_eagerly", "taken_over"]

CANCEL_GRACE: Final = 5.0
"""Seconds after a cancellation before the app is cancelled again."""

BY_HAND: Final = sys.version_info < (3, 12)
"""Whether `begin_eagerly` runs the first step itself. Then the coroutine must yield once more after
this step: the task goes on with it in the next turn of the event loop."""


def begin_eagerly(
    coroutine: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> asyncio.Task[None]:
    """Run a coroutine in a new task, and its first step at once. Do not call this inside a task."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(
            coroutine, loop=loop, name="exchange", context=context, eager_start=True
        )
    task = asyncio.Task(coroutine, loop=loop, name="exchange", context=context)
    asyncio.tasks._enter_task(loop, task)
    try:
        coroutine.send(None)
    finally:
        asyncio.tasks._leave_task(loop, task)
    return task


@types.coroutine
def taken_over(trap: Any) -> Generator[None, None, bool]:
    """After a first step by hand: wait until the task goes on. Return whether `trap`, which the app
    has yielded, is still to be awaited.

    Raises CancelledError if the app is to be cancelled now.
    """
    try:
        yield
    except asyncio.CancelledError as cancelled:
        # A task that is cancelled before it awaits a future cancels this future.
        if asyncio.isfuture(trap) and trap.cancel(*cancelled.args):
            return True
        raise
    # The wait above was the turn that `asyncio.sleep(0)` asks for.
    return trap is not None


class Cancellation:
    """Cancels the app of a suspended exchange in asyncio's own way.

    The app is cancelled once, and again every CANCEL_GRACE seconds while it still runs. So an app
    that catches the cancellation may await its cleanup, such as a rollback. A cancel scope of anyio
    would cancel these waits too. It would also cancel an app that does not stop in each turn of the
    loop, which takes a whole core.
    """

    __slots__ = ("_again", "_is_due", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        self._loop = loop
        self._task = task
        self._again: asyncio.TimerHandle | None = None
        self._is_due = False

    def cancel(self) -> None:
        """Cancel the app now, or as soon as it leaves its shield."""
        self.end()
        self._again = self._loop.call_later(CANCEL_GRACE, self.cancel)
        self._is_due = True
        self.deliver()

    def deliver(self) -> None:
        """Cancel the task if this is due, unless the app is inside a shielded scope of anyio.
        asyncio itself does not know these shields. Call this after each step of the app."""
        if not self._is_due:
            return
        scope = _current_scope(self._task)
        while scope is not None:
            if scope.shield:
                return
            scope = scope._parent_scope
        self._is_due = False
        self._task.cancel()

    def end(self) -> None:
        """Stop cancelling: the app has ended."""
        if self._again is not None:
            self._again.cancel()


def _current_scope(task: asyncio.Task[None]) -> Any:
    """Return anyio's innermost cancel scope of a task, or None."""
    state = _task_states.get(task)
    return None if state is None else state.cancel_scope
