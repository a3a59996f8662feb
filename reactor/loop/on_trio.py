"""The worker loop on Trio: what an app can leave behind in a task, and how the leader sleeps.

Both need what Trio does not tell in public; this file is the only one that asks.

An app can leave a cancel scope or a nursery open. Either shows as a cancel status that is not the
worker's own, `task._cancel_status`. It can also have named the task, or keep it as the key of what
belongs to one request: then there are more references or weak references to it than before. (A new
task for each exchange that suspends costs 2.3 times as much as all of such an exchange.)

The usual way to wait for a descriptor leads through Trio's loop: registering, a task switch there
and back, Trio's own wait and what it does between. With a request in each batch that is as much as
the request itself costs. So while Trio has nothing to do, the leader waits for the reactor's epoll
set itself. The set holds Trio's own epoll set too, and the wait ends when Trio's next deadline
does: whatever Trio waits for (descriptors, deadlines, words from other threads, signals) it gets as
soon as by its own loop, which the leader lets run then.
"""

from __future__ import annotations

import select
from collections import deque
from sys import getrefcount
from typing import Any, Final
from weakref import getweakrefcount

import anyio
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from reactor_run.reactor import fork
from reactor_run.reactor.log import log
from reactor_run.reactor.loop.reactor_loop import Events, poll_events
from reactor_run.reactor.loop.sleep import TaskSleep

__all__ = ["TrioHygiene", "TrioSleep"]

_LONGEST: Final = 3600.0
"""Seconds to sleep if Trio has no deadline."""


class TrioHygiene:
    """For one worker task on Trio; made inside `scope`, the worker's own cancel scope."""

    is_cancelling: Final = False
    is_waited_for: Final = False
    reusable_after_suspension: Final = True

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self._task: Any = trio.lowlevel.current_task()
        self._own = self._task._cancel_status

    def cancel(self) -> None:
        """As Trio does: at each wait from now on, except where the app shields itself."""
        self._scope.cancel()

    def deliver(self) -> None:
        """Trio does."""

    @property
    def is_open(self) -> bool:
        return self._task._cancel_status is not self._own

    def snapshot(self) -> object:
        task = self._task
        return task._cancel_status, task.name, getrefcount(task), getweakrefcount(task)

    async def restore(self) -> None:
        task = self._task
        while (status := task._cancel_status) is not self._own:
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is status._scope:
                # What `async with` would have done on the way out of an app that was cancelled.
                status._scope.cancel()
                await nurseries[-1]._nested_child_finished(None)
            status._scope.__exit__(None, None, None)


class _RunQueue(deque[Any]):
    """Trio's queue of tasks that can run, which tells how many of them a turn of Trio's loop runs.

    The loop takes all that is in the queue, clears it, and runs one after the other. What is still
    to run in this turn stands nowhere; but a turn that began with a single task is over with it.
    """

    turn = 0
    """How many tasks this turn began with; 0 before the first."""

    def clear(self) -> None:
        self.turn = len(self)
        super().clear()


class TrioSleep(TaskSleep):
    """To be made while Trio runs. Where it cannot be sure of Trio, it is a `TaskSleep`."""

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        super().__init__(epoll, events_max)
        self.direct = False
        """The leader waits for the epoll set itself, whenever it can."""
        self._wakes = False
        """Something has come that a task of Trio's waits for."""
        self._trio: tuple[int, int] | None = None
        """Trio's own epoll set, as an event of the reactor's that it is ready."""
        try:
            self._runner: Any = GLOBAL_RUN_CONTEXT.runner
            self._trio = (self._runner.io_manager._epoll.fileno(), select.EPOLLIN)
            self._next_deadline = self._runner.deadlines.next_deadline
            self._sleep_time = self._runner.clock.deadline_to_sleep_time
            self._sleep_time(self._next_deadline())
            self._is_watched()
            self._queue = self._runner.runq = _RunQueue(self._runner.runq)
        except (AttributeError, LookupError, TypeError):
            log.debug("this version of Trio is unknown: its loop is slept in")
            return
        epoll.register(*self._trio)
        self.direct = True

    def _is_watched(self) -> bool:
        """Somebody wants to see Trio's loop come to rest, or each of its steps."""
        return bool(self._runner.waiting_for_idle or self._runner.instruments["_all"])

    async def events(self) -> Events:
        if self.direct and self._is_watched():
            self._go_the_long_way()
        if not self.direct:
            return await super().events()
        if not self._wakes and not self._queue and self._queue.turn == 1:
            until = self._sleep_time(self._next_deadline())
            # One that has passed is Trio's to see, or under load nobody would for long.
            if until > 0.0:
                events = self._poll(min(until, _LONGEST))
                if events:
                    return events
        await trio.lowlevel.checkpoint()
        if not self._queue.turn:
            # This turn came from another queue: nobody can tell when Trio has nothing to do.
            self._go_the_long_way()
        return self._poll(0)

    def _go_the_long_way(self) -> None:
        """Sleep in Trio's loop from now on."""
        self.direct = False
        assert self._trio is not None
        self._epoll.unregister(self._trio[0])

    def in_child(self) -> None:
        # Also where the leader sleeps in Trio's loop: the set is shared all the same.
        if self._trio is not None:
            fork.renew_epoll(self._trio[0])

    def _poll(self, seconds: float) -> Events:
        if fork.is_child:
            fork.leave_loop()
        events = poll_events(self._epoll, self._turns, seconds, self._events_max)
        self._wakes = self._trio in events
        return events
