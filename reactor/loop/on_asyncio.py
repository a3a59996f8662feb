"""What the loop needs of asyncio and anyio beyond their public interfaces.

A task begins eagerly: its coroutine runs at once until it suspends. Python 3.12 can do this. On
Python 3.11 `EagerTasks` does it with the functions that asyncio documents for other implementations
of tasks ("Extending", "Task lifetime support"): it runs the first step inside a task that waits, a
`_Carrier`. Only if the coroutine suspends, this task goes on with it. Otherwise the task is used
again. A new task for each coroutine would take 2 us more, for each app that does not suspend.

An app that is cancelled may be inside a shielded scope of anyio. anyio has no public way to ask for
the scopes of a task: `_task_states` and `_parent_scope` are private. Only this file uses them.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
import weakref
from collections.abc import Coroutine, Generator
from sys import getrefcount
from typing import Any, Final

from anyio._backends._asyncio import _task_states

from reactor_run.reactor.loop.hosted import FINISHED

__all__ = ["CANCEL_GRACE", "Cancellation", "EagerTasks", "OnceEvent"]

CANCEL_GRACE: Final = 5.0
"""Seconds after a cancellation before the app is cancelled again."""

if sys.version_info >= (3, 12):

    class EagerTasks:
        """Begins tasks eagerly, in one context of their own."""

        def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
            self._loop = loop
            self._context = context

        def begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            """Run a coroutine in a task, and its first step at once. Do not call this in a task."""
            return asyncio.Task(coroutine, loop=self._loop, context=self._context, eager_start=True)

else:

    class EagerTasks:
        """Begins tasks eagerly, in one context of their own."""

        def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
            self._loop = loop
            self._context = context
            self._spare: _Carrier | None = None

        def begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            """Run a coroutine in a task, and its first step at once. Do not call this in a task."""
            carrier, self._spare = self._spare, None
            if carrier is None or carrier.task.done():
                carrier = _Carrier(self._loop, self._context)
            task: asyncio.Task[None] = carrier.task
            asyncio.tasks._enter_task(self._loop, task)
            before = carrier.snapshot()
            try:
                # This spares the StopIteration by which `send` tells that the coroutine has ended.
                trap = next(coroutine.__await__(), FINISHED)
                if trap is not FINISHED:
                    carrier.carry(coroutine, trap)
                elif carrier.snapshot() == before:
                    self._spare = carrier
                else:
                    carrier.end()
            finally:
                asyncio.tasks._leave_task(self._loop, task)
            return task


class _Carrier:
    """A task that carries a coroutine, whose first step was run before, outside the task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._idle: asyncio.Future[None] = loop.create_future()
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._trap: Any = None
        body = self._run()
        # A coroutine that has not begun would not see a cancellation of its task.
        body.send(None)
        self.task: Any = asyncio.Task(body, loop=loop, context=context)

    def snapshot(self) -> object:
        """Return the state of the task. If a first step has changed it, the app may have kept the
        task, renamed it, cancelled it, or added a callback for its end. Then no other coroutine may
        use the task."""
        task = self.task
        return (
            getrefcount(task),
            weakref.getweakrefcount(task),
            task.cancelling(),
            task.get_name(),
            task._callbacks,
        )

    def carry(self, coroutine: Coroutine[Any, Any, None], trap: object) -> None:
        """Go on with a coroutine that has yielded `trap`, in the next turn of the event loop."""
        self._coroutine = coroutine
        self._trap = trap
        self.end()

    def end(self) -> None:
        """End the task, unless it carries a coroutine."""
        if not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        await self._carry()

    @types.coroutine
    def _carry(self) -> Generator[Any, Any, None]:
        error: BaseException | None = None
        try:
            yield
            if self._coroutine is None:
                yield from self._idle
        except asyncio.CancelledError as cancelled:
            error = cancelled
        coroutine, trap = self._coroutine, self._trap
        self._coroutine = self._trap = None
        if coroutine is None:
            return
        # The wait above was the turn that `asyncio.sleep(0)` asks for.
        waits = trap is not None
        if error is not None:
            # A task that is cancelled before it awaits a future cancels this future.
            waits = asyncio.isfuture(trap) and trap.cancel(*error.args)
            if waits:
                error = None
        while True:
            if waits:
                try:
                    yield trap
                except BaseException as raised:
                    error = raised
            waits = True
            thrown, error = error, None
            try:
                trap = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration:
                return
            finally:
                # Break a reference cycle: the traceback of `thrown` holds this frame.
                thrown = None


class OnceEvent:
    """An event that is set once, for tasks of one event loop.

    To make it, wait and be woken takes 1.3 us less than with asyncio.Event (4.4 instead of 5.7 on
    uvloop), which looks for its loop each time, and can be cleared.
    """

    __slots__ = ("_is_set", "_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Wake all tasks that wait."""
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            self._waiters.remove(waiter)
            raise


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
