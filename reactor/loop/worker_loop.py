"""The worker loop: leader and followers, apps run eagerly, on anyio.

Everything the reactor listens to sits in one epoll set of our own. One task, the leader, waits for
that set, takes all that is ready at once, and runs the apps one after another *inline*: an app that
answers without really suspending costs no task switch. If an app does suspend, the leader is simply
a task that is busy with that exchange; a follower is woken in the same instant, becomes the leader
and goes on with the rest. A task whose exchange is over and which leads no longer parks as a
follower.

Rules, each of which something breaks without:

1. There is always a leader. A worker that ends, however, hands leadership on.
2. To cancel an exchange, cancel its worker: on Trio by the worker's scope, on asyncio by its task
   (on_asyncio.py). One scope for each worker costs nothing, one for each exchange costs
   microseconds. A cancelled worker never parks or hosts again.
3. Each exchange runs in a context of its own, and leaves nothing in its task (runtime.py).
4. Nobody starves: a batch is bounded by number and by time, then the leader lets the others run.
5. Answers are gathered, and go out when the batch ends, when an app suspends, and half-way through
   a batch that takes long, so that clients and front end have something to do during the other
   half; one by one while the next step may be a slow one.
6. After an app has failed, nothing is used that it can change, not even its context.
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
"""Followers kept for later; a worker that finds as many parked ends instead."""


FINISHED: Final = object()
"""What `Hosted.first_step` returns for an app that did not suspend."""


class Hosted(AppExchange):
    """An exchange that a worker of this loop runs in its own task."""

    __slots__ = ("coroutine", "worker")

    worker: Worker | None
    """The worker that runs it now."""
    coroutine: Coroutine[Any, Any, None]
    """The app's, once it has suspended."""

    def first_step(self) -> object:
        """Run the app as far as it goes: FINISHED, or the trap of its first suspension."""
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
        """Seconds of the longest slow step of its exchange."""


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
        """Nobody reads the answer any more, and nobody wants the app to go on.

        The app gets its cancellation where it waits next, unless it shields itself.
        """
        self.give_up(exchange)
        for worker in self._workers:
            # By the exchange that it hosts now: a word that comes late hits no other.
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
        """Cancel every app and worker; `run` returns when they ended."""
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
        """Rule 1: make somebody the leader."""
        self._leader = None
        if self._parked:
            self._parked.pop().set()
        elif (
            not self._closing
            and self._group is not None
            # A group that an app cancelled takes no new task; `run` makes another group.
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
                # Ours; or an app's, aimed at a task of the loop. The worker ends either way.
                pass
            except BaseException:
                # A fault of our own: nothing is to be relied on any more, the process ends.
                self._closing = True
                raise
            finally:
                self._workers.discard(worker)
                if self._leader is worker or self._leader is None:
                    self._hand_over()

    async def _follow(self) -> bool:
        """Wait until there is no leader; False if there are followers enough."""
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
        """Lead until an app suspends; whether this worker may go on as a follower."""
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
                # The names would keep the last request alive until the next comes.
                exchange = context = error = trap = None
                self.flush()
                self._handle(await self._sleep.events())
            else:
                self._hear_of_the_wait()
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
                    # Whatever an app raises ends its exchange, and nothing else.
                    error = raised
                if fork.is_child:
                    fork.leave(error)
                worker.exchange = exchange.worker = None
                try:
                    exchange.over(error)
                except BaseException as fault:
                    self._end_failed(exchange, fault)
                # Its traceback holds this frame, which would hold it.
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
                held_up = now - started > STALLED_AFTER
                if held_up:
                    self._end_step(worker)
                if now < self._counted_until:
                    self._count_for(worker, exchange)
                if held_up or now < self._distrusted_until:
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
                if now < self._distrusted_until:
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
        """Go on with an app that suspended, in its own context; pass its traps through."""
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
            # Outside the handler, or the app would see our exception as the context of its own.
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
        """Rule 3: tidy a task in which an app left something, before its worker ends."""
        self.flush()
        if worker.hygiene.is_open:
            limited.warning(
                "an app left a cancel scope or a nursery open; "
                "the task is given up so that no other exchange is harmed"
            )
        if self._leader is worker:
            self._hand_over()
        await worker.hygiene.restore()
