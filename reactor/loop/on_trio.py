"""The guard of a worker's task, the leader's wait, and what tasks yield to Trio.

The first two need private parts of Trio. Only this file uses them.

The guard: an app can leave a cancel scope or a nursery open. Then `task._cancel_status` is no
longer the worker's own. An app can also rename the task, or keep it as the key of one request's
data. Then the task has more references or weak references than before. (A new task for each
exchange that suspends would be simpler. It costs 2.3 times as much as all of such an exchange.)

The wait: `trio.lowlevel.wait_readable` goes through Trio's loop. It registers the descriptor,
switches tasks twice, and runs Trio's own wait. With one request in each batch, this costs as much
as the request itself. So while Trio has nothing to do, the leader waits for the reactor's epoll set
directly. The set also holds Trio's own epoll set, and the wait ends at Trio's next deadline. After
the wait the leader lets Trio's loop run. So Trio handles its descriptors, deadlines, calls from
other threads and signals as early as it would by itself.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Coroutine
from sys import getrefcount
from typing import Any, Final
from weakref import getweakrefcount

import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from reactor_run.reactor import fork
from reactor_run.reactor.log import log
from reactor_run.reactor.loop.hosted import FINISHED
from reactor_run.reactor.loop.reactor_loop import Events, poll_events
from reactor_run.turns import Turns

__all__ = ["GIVES_WAY", "TURN", "TrioHygiene", "TrioSleep", "go_on", "waiting_trap"]


def _trap(function: Callable[..., Coroutine[Any, Any, object]], *args: object) -> object:
    """Return the trap that a function of Trio yields first."""
    coroutine = function(*args)
    trap: object = coroutine.send(None)
    coroutine.close()
    return trap


def _gives_way() -> object:
    trap = _trap(trio.lowlevel.cancel_shielded_checkpoint)
    # If this version of Trio makes a trap for each call, no trap is ever recognized.
    return trap if trap is _trap(trio.lowlevel.cancel_shielded_checkpoint) else object()


GIVES_WAY: Final = _gives_way()
"""The trap of an app that lets other tasks run and waits for nothing: `trio.sleep(0)`, and most
calls of Trio that need not wait. Trio would put its task back into the queue at once."""


class _Turn:
    """What Trio sends to a task that has given way."""

    __slots__ = ()

    def unwrap(self) -> None:
        """Return the result of the trap."""


TURN: Final[Any] = _Turn()
"""Takes the place of `outcome.Value(None)`, which is made for one use."""


def waiting_trap(abort: Callable[[Any], trio.lowlevel.Abort]) -> object:
    """Return the trap of `trio.lowlevel.wait_task_rescheduled`, for many waits of one task."""
    return _trap(trio.lowlevel.wait_task_rescheduled, abort)


def go_on(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run an app that has yielded GIVES_WAY until it ends or suspends, as `first_step` does."""
    try:
        return coroutine.send(TURN)
    except StopIteration:
        return FINISHED


_LONGEST: Final = 3600.0
"""Most seconds of one wait, also if Trio has no deadline."""


class TrioHygiene:
    """Finds what an app left in a worker's task, so that it does not affect the next client.

    Create it in that task, inside the worker's own cancel scope.
    """

    def __init__(self) -> None:
        self._task: Any = trio.lowlevel.current_task()
        self._own = self._task._cancel_status

    @property
    def is_open(self) -> bool:
        """Whether an app left a cancel scope or a nursery open in the task."""
        return self._task._cancel_status is not self._own

    def snapshot(self) -> object:
        """Return the state of the task. Compare the states before and after an exchange with !=."""
        task = self._task
        return task._cancel_status, task.name, getrefcount(task), getweakrefcount(task)

    async def restore(self) -> None:
        """Close what the app left open, so that the worker can end in order."""
        task = self._task
        while (status := task._cancel_status) is not self._own:
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is status._scope:
                # `async with` does this when a cancelled app leaves the nursery.
                status._scope.cancel()
                await nurseries[-1]._nested_child_finished(None)
            status._scope.__exit__(None, None, None)


class _RunQueue(deque[Any]):
    """Trio's queue of runnable tasks. It also counts the tasks of each turn of Trio's loop.

    In each turn the loop copies the queue, clears it, and runs the tasks one after another. Trio
    does not say how many tasks are left in a turn. But if a turn began with one task, no other task
    is left.
    """

    turn = 0
    """Tasks that the current turn began with; 0 before the first turn."""

    def clear(self) -> None:
        self.turn = len(self)
        super().clear()


class TrioSleep:
    """Waits for events on Trio. Create it while Trio runs.

    If this version of Trio lacks the private parts that the direct wait needs, it waits as any task
    waits for a descriptor.
    """

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        """`events_max`: most events that one wait returns."""
        self._epoll = epoll
        self._events_max = events_max
        self._turns = Turns()
        self.direct = False
        """Whether the leader waits for the epoll set directly when Trio has nothing to do."""
        self._wakes = False
        """Whether the last events include one of Trio's own epoll set: a Trio task can go on."""
        self._trio: tuple[int, int] | None = None
        """The event in the reactor's epoll set that says that Trio's own epoll set is ready. None
        if Trio's set is not known."""
        try:
            self._runner: Any = GLOBAL_RUN_CONTEXT.runner
            self._trio = (self._runner.io_manager._epoll.fileno(), select.EPOLLIN)
            self._next_deadline = self._runner.deadlines.next_deadline
            self._sleep_time = self._runner.clock.deadline_to_sleep_time
            self._sleep_time(self._next_deadline())
            self._is_watched()
            self._queue = self._runner.runq = _RunQueue(self._runner.runq)
        except (AttributeError, LookupError, TypeError):
            log.debug("this version of Trio is unknown, waiting in its own loop")
            return
        epoll.register(*self._trio)
        self.direct = True

    def _is_watched(self) -> bool:
        """Whether an instrument or `wait_all_tasks_blocked` watches Trio's loop."""
        return bool(self._runner.waiting_for_idle or self._runner.instruments["_all"])

    async def events(self, *, wait: bool = True) -> Events:
        """Wait, and return the events that are ready. Other runnable tasks run first.

        The list may be empty, because the wait also ends when another task wants to run.
        `wait`: False: do not wait for an event, only let other tasks run.
        """
        if self.direct and self._is_watched():
            self._go_the_long_way()
        if not self.direct:
            if wait:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            else:
                await trio.lowlevel.checkpoint()
            if fork.is_child:
                fork.leave_loop()
            # The front end may be about to hand over more requests, on this CPU. Let it finish,
            # then take all of them at once. If no process waits for the CPU, this costs nothing.
            self._turns.give()
            return self._epoll.poll(0, self._events_max)
        if not self._wakes and not self._queue and self._queue.turn == 1:
            until = self._sleep_time(self._next_deadline())
            # If a deadline has passed, Trio's loop must run now: under load it would run late.
            if until > 0.0:
                events = self._poll(min(until, _LONGEST) if wait else 0.0)
                if events or not wait:
                    return events
        await trio.lowlevel.checkpoint()
        if not self._queue.turn:
            # This turn came from another queue, so this queue cannot tell when Trio is idle.
            self._go_the_long_way()
        return self._poll(0)

    def _go_the_long_way(self) -> None:
        """Stop the direct wait. From now on the leader waits as any task does."""
        self.direct = False
        assert self._trio is not None
        self._epoll.unregister(self._trio[0])

    def in_child(self) -> None:
        """In a child that an app forked: disconnect from what Trio shares with its parent."""
        # This is needed without the direct wait too: the child shares Trio's epoll set.
        if self._trio is not None:
            fork.renew_epoll(self._trio[0])

    def _poll(self, seconds: float) -> Events:
        if fork.is_child:
            fork.leave_loop()
        # After other tasks have run, their output waits. It goes before another process runs.
        if seconds:
            self._turns.before_wait()
        events = poll_events(self._epoll, self._turns, seconds, self._events_max)
        self._wakes = self._trio in events
        return events
