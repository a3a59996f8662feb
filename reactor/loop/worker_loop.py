"""The loop of a reactor that serves an ASGI app.

Its tasks, the workers, run apps eagerly on anyio. One worker is the leader. All descriptors of the
reactor are in one epoll set. The leader waits for this set, takes all events that are ready, and
runs the apps one after another *inline*. An app that answers without suspending costs no task
switch. When an app suspends, the leader stays with that exchange, and a follower becomes the leader
at once and goes on with the other exchanges. A worker that finishes its exchange and is not the
leader parks as a follower.

The rules:

1. There is always a leader. A worker that ends hands leadership on first.
2. To cancel an exchange, cancel its worker: by the worker's scope on Trio, by its task on asyncio
   (on_asyncio.py). One scope for each worker costs nothing. One scope for each exchange costs
   microseconds. A cancelled worker never parks and never hosts again.
3. Each exchange runs in its own context, and leaves nothing in its task (runtime.py).
4. No task starves. A batch is limited by number and by time. Then the leader lets other tasks run.
5. Answers are gathered. They are sent when the batch ends and when an app suspends. If a batch
   takes long, the first half is sent early, so that clients and front end can work during the
   second half. If the next step may be slow, each answer is sent at once.
6. After an app has failed, the loop uses nothing that the app can change, not even its context.
"""

from __future__ import annotations

import contextvars
import types
from collections import deque
from collections.abc import Coroutine, Generator
from time import monotonic
from typing import Any, Final

import anyio
import anyio.abc

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.log import limited
from reactor_run.reactor.loop.reactor_loop import BATCH_MAX, FLUSH_AFTER, YIELD_AFTER, ReactorLoop
from reactor_run.reactor.loop.runtime import Hygiene, hygiene_for, sleep_for

__all__ = ["FINISHED", "Hosted", "Worker", "WorkerLoop"]


PARKED_MAX: Final = 64
"""Most followers that are parked. A worker that finds this many parked ends instead."""


FINISHED: Final = object()
"""The result of `Hosted.first_step` for an app that did not suspend."""


class Hosted(AppExchange):
    """An exchange that a worker of this loop runs in its own task."""

    __slots__ = ("coroutine", "worker")

    worker: Worker | None
    """The worker that runs the app now, or None."""
    coroutine: Coroutine[Any, Any, None]
    """The app's coroutine. It is set when the app first suspends."""

    def first_step(self) -> object:
        """Run the app until it ends or suspends. Return FINISHED, or the trap that it yielded."""
        raise NotImplementedError


class Worker:
    """One task that hosts exchanges."""

    __slots__ = ("exchange", "hygiene", "scope", "slow", "suspended")

    def __init__(self, scope: anyio.CancelScope, hygiene: Hygiene) -> None:
        self.scope = scope
        self.hygiene = hygiene
        self.exchange: Hosted | None = None
        self.suspended = False
        self.slow = 0.0
        """Seconds of the longest slow step of the current exchange."""


class WorkerLoop(ReactorLoop):
    """The loop of a reactor that serves an ASGI app."""

    ready: deque[Hosted]  # type: ignore[assignment]

    def __init__(self, runtime: str) -> None:
        super().__init__()
        self._sleep = sleep_for(runtime, self._epoll, BATCH_MAX)
        self._hygiene = hygiene_for(runtime)
        self._group: anyio.abc.TaskGroup | None = None
        self._leader: Worker | None = None
        self._parked: list[anyio.Event] = []
        self._workers: set[Worker] = set()

    def _in_child(self) -> None:
        super()._in_child()
        self._sleep.in_child()

    def cancel(self, exchange: AppExchange) -> None:
        """Cancel the app of an exchange: no client reads the answer any more.

        The app is cancelled at its next wait outside of a shielded scope.
        """
        self.give_up(exchange)
        for worker in self._workers:
            # The worker may host another exchange by now. A late message must not cancel that one.
            if worker.exchange is exchange:
                worker.hygiene.cancel()

    # Workers -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `close`."""
        while not self._closing:
            async with anyio.create_task_group() as self._group:
                self._spawn()
            if not self._closing:
                limited.error("an app cancelled the reactor's own tasks; starting new ones")

    def close(self) -> None:
        """Cancel every app and every worker. `run` returns when they have ended."""
        self.flush()
        self._closing = True
        for worker in self._workers:
            if worker.exchange is None:
                worker.scope.cancel()
            else:
                worker.hygiene.cancel()

    def _spawn(self) -> None:
        assert self._group is not None
        self._group.start_soon(self._work)

    def _hand_over(self) -> None:
        """Rule 1: wake a follower, or start a worker, so that there is a leader."""
        self._leader = None
        if self._parked:
            self._parked.pop().set()
        elif (
            not self._closing
            and self._group is not None
            # If an app cancelled the group, it takes no new task, and `run` makes a new group.
            and not self._group.cancel_scope.cancel_called
        ):
            self._spawn()

    async def _work(self) -> None:
        with anyio.CancelScope() as scope:
            worker = Worker(scope, self._hygiene(scope))
            self._workers.add(worker)
            try:
                while await self._follow() and await self._lead(worker):
                    pass
            except anyio.get_cancelled_exc_class():
                # The reactor cancelled the worker, or an app cancelled a task of the loop. The
                # worker ends in both cases.
                pass
            except BaseException:
                # This is a fault of the reactor. Its state may be wrong, so the process ends.
                self._closing = True
                raise
            finally:
                self._workers.discard(worker)
                if self._leader is worker or self._leader is None:
                    self._hand_over()

    async def _follow(self) -> bool:
        """Wait until there is no leader. Return False at once if PARKED_MAX followers wait."""
        while self._leader is not None:
            if len(self._parked) >= PARKED_MAX:
                return False
            event = anyio.Event()
            self._parked.append(event)
            try:
                await event.wait()
            finally:
                if not event.is_set():
                    self._parked.remove(event)
        return True

    async def _lead(self, worker: Worker) -> bool:
        """Lead until an app suspends. Return whether this worker may go on as a follower."""
        self._leader = worker
        ready = self.ready
        hygiene = worker.hygiene
        exchange: Hosted | None
        context: contextvars.Context | None
        error: BaseException | None
        trap: object
        while not self._closing:
            if hygiene.is_waited_for:
                await self._retire(worker)
                return False
            if not ready:
                # These names would keep the last request alive during the wait.
                exchange = context = error = trap = None
                self.flush()
                self._handle(await self._sleep.events())
            else:
                self._poll_after_stall()
            began = now = monotonic()
            half = len(ready) // 2
            since, begun = self.pulse.since, self.pulse.begun
            for begin in self._before_batch:
                begin()
            handled = 0
            before = hygiene.snapshot()
            while ready:
                exchange = ready.popleft()
                if exchange.express:
                    # As `begins` does: one task begins them all, in the order of their numbers.
                    begun[0] = exchange.express
                else:
                    self.begins(exchange)
                context = self._context.copy()
                worker.exchange = exchange
                exchange.worker = worker
                error = None
                since[0] = started = now
                try:
                    trap = context.run(exchange.first_step)
                    if trap is not FINISHED:
                        await self._drive(worker, exchange, context, trap)
                except BaseException as raised:
                    # An exception of the app ends its exchange only.
                    error = raised
                if fork.is_child:
                    fork.leave(error)
                worker.exchange = exchange.worker = None
                try:
                    exchange.over(error)
                except BaseException as fault:
                    self._end_failed(exchange, fault)
                # Break a reference cycle: the traceback of `error` holds this frame.
                error = None
                if worker.suspended:
                    self.flush()
                    self._count_for(worker, exchange)
                    if not hygiene.reusable_after_suspension or worker.scope.cancel_called:
                        await hygiene.restore()
                        return False
                if hygiene.snapshot() != before:
                    since[0] = 0.0
                    await self._retire(worker)
                    return False
                if worker.suspended:
                    worker.suspended = False
                    return True
                now = monotonic()
                handled += 1
                stalled = now - started > STALLED_AFTER
                if stalled:
                    self._end_step(worker)
                if now < self._counted_until:
                    self._count_for(worker, exchange)
                if stalled or now < self._stall_budget_until:
                    self.flush()
                elif handled >= half and now - began > FLUSH_AFTER:
                    half = BATCH_MAX
                    self.flush()
                if handled == BATCH_MAX or now - began > YIELD_AFTER:
                    since[0] = 0.0
                    self.flush()
                    await anyio.lowlevel.checkpoint()
                    break
            else:
                since[0] = 0.0
                if now < self._stall_budget_until:
                    self._tell_begun()
        return False

    def _end_step(self, worker: Worker) -> None:
        worker.slow = max(worker.slow, self._step_ended())

    def _count_for(self, worker: Worker, exchange: Hosted) -> None:
        slow, worker.slow = worker.slow, 0.0
        self._count(exchange, slow)

    @types.coroutine
    def _drive(
        self, worker: Worker, exchange: Hosted, context: contextvars.Context, trap: object
    ) -> Generator[Any, Any, None]:
        """Run an app that has suspended to its end, in its own context.

        The traps that the app yields are passed to the runtime.
        """
        if fork.is_child:
            fork.leave_loop()
        worker.suspended = True
        self._end_step(worker)
        self._tell_begun()
        if self._leader is worker:
            self._hand_over()
        exchange.write_out()
        self.flush()
        coroutine = exchange.coroutine
        hygiene = worker.hygiene
        run = context.run
        send = coroutine.send
        while True:
            error: BaseException | None = None
            value: Any = None
            try:
                value = yield trap
            except BaseException as raised:
                error = raised
            self.pulse.since[0] = monotonic()
            # This is outside of the handler. Inside, our exception would become the `__context__`
            # of the app's exceptions.
            try:
                trap = run(send, value) if error is None else run(coroutine.throw, error)
            except StopIteration:
                return
            finally:
                self._end_step(worker)
            if fork.is_child:
                fork.leave_loop()
            if self._dirty:
                self.flush()
            if hygiene.is_cancelling:
                hygiene.deliver()

    async def _retire(self, worker: Worker) -> None:
        """Rule 3: restore a task in which an app left something, before its worker ends."""
        self.flush()
        if worker.hygiene.is_open:
            limited.warning(
                "an app left a cancel scope or a nursery open; "
                "its task ends, so that no other exchange is affected"
            )
        if self._leader is worker:
            self._hand_over()
        await worker.hygiene.restore()
