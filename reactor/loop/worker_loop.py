"""The loop of a reactor that serves an ASGI app on Trio.

Its tasks, the workers, run apps eagerly. One worker is the leader. All descriptors of the reactor
are in one epoll set. The leader waits for this set, takes all events that are ready, and runs the
apps one after another *inline*. An app that answers without suspending costs no task switch. When
an app suspends, the worker stays with that exchange, and followers go on with the others. A worker
that finishes its exchange parks as a follower.

The rules:

1. There is always a leader, or a worker that is woken to lead. If several exchanges are ready when
   an app suspends, several followers are woken at once: each of them leads until its app suspends
   too. Those that find another leader park again.
2. To cancel an exchange, cancel the scope of its worker. One scope for each worker costs nothing.
   One scope for each exchange costs microseconds. A cancelled worker never parks and never hosts
   again.
3. Each exchange runs in its own context, and leaves nothing in its task (on_trio.py).
4. No task starves. A batch is limited by number and by time. Then the leader lets other tasks run.
5. Answers are gathered. They are sent when a batch ends. What suspended apps put out is sent before
   the leader looks for events, which it does in each turn of Trio. If a batch takes long, the first
   half is sent early, so that clients and front end can work during the second half. If the next
   step may be slow, each answer is sent at once.
6. After an app has failed, the loop uses nothing that the app can change, not even its context.
7. An app that only gives way, as by `trio.sleep(0)`, does not keep its worker, unless it has left
   something in the worker's task. Once other tasks have run, the leader goes on with the app. To
   cancel the app meanwhile, it gets a task of its own.
"""

from __future__ import annotations

import contextvars
import threading
import types
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, Final

import trio

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.log import limited
from reactor_run.reactor.loop.hosted import FINISHED, Hosted, HostLoop
from reactor_run.reactor.loop.on_trio import (
    GIVES_WAY,
    TURN,
    TrioHygiene,
    TrioSleep,
    go_on,
    waiting_trap,
)
from reactor_run.reactor.loop.reactor_loop import BATCH_MAX, FLUSH_AFTER, YIELD_AFTER

__all__ = ["Worker", "WorkerLoop"]


PARKED_MAX: Final = 64
"""Most followers that are parked. A worker that finds this many parked ends instead."""
WOKEN_MAX: Final = 16
"""Most workers that are woken at once. With one at a time, Trio would turn once for each app that
suspends. With many, workers would wake in vain if most apps do not suspend."""


class Worker:
    """One task that hosts exchanges. Create it in that task, inside `scope`."""

    __slots__ = ("before", "cancelled", "exchange", "hygiene", "scope", "task", "waits")

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.cancelled = False
        """The scope is cancelled. Trio's own answer looks at the clock each time."""
        self.hygiene = TrioHygiene()
        self.task = trio.lowlevel.current_task()
        self.exchange: Hosted | None = None
        self.waits: object = None
        """The trap by which the worker waits as a follower."""
        self.before = self.hygiene.snapshot()
        """The state of the task before its first exchange."""

    def cancel(self) -> None:
        """Cancel what the worker hosts. It hosts no other exchange."""
        self.cancelled = True
        self.scope.cancel()


class WorkerLoop(HostLoop):
    """Runs ASGI apps in Trio tasks. Create it while Trio runs."""

    new_event = trio.Event

    def __init__(self) -> None:
        super().__init__()
        self._sleep = TrioSleep(self._epoll, BATCH_MAX)
        self._nursery: trio.Nursery | None = None
        self._leader: Worker | None = None
        self._parked: list[Worker] = []
        """The followers that wait."""
        self._waking = 0
        """Workers that were woken or started and have not run since."""
        self._workers: set[Worker] = set()
        self._giving_way: deque[tuple[Hosted, contextvars.Context]] = deque()
        """Rule 7: exchanges whose apps give way, with their contexts."""
        self._due = 0
        """How many of them go on now: other tasks have run since they gave way."""

    def _in_child(self) -> None:
        super()._in_child()
        self._giving_way.clear()
        self._due = 0
        self._sleep.in_child()

    def cancel(self, exchange: AppExchange) -> None:
        """Cancel the app of an exchange: no client reads the answer any more.

        The app is cancelled at each wait from now on, except inside a shielded scope. This is
        Trio's own way.
        """
        self.give_up(exchange)
        for worker in self._workers:
            # The worker may host another exchange by now. A late message must not cancel that one.
            if worker.exchange is exchange:
                worker.cancel()
        for place, (other, context) in enumerate(self._giving_way):
            if other is exchange:
                del self._giving_way[place]
                self._due -= place < self._due
                self._cancel_alone(exchange, context)
                break

    # Workers -----------------------------------------------------------------------------------

    async def run(self) -> None:
        while not self._closing:
            async with trio.open_nursery() as self._nursery:
                self._spawn()
            if not self._closing:
                limited.error("an app cancelled the reactor's own tasks; starting new ones")

    def close(self) -> None:
        self.flush()
        self._gathers = False
        self._closing = True
        for worker in self._workers:
            worker.cancel()

    def _spawn(self) -> None:
        assert self._nursery is not None
        self._waking += 1
        self._nursery.start_soon(self._work)

    def _hand_over(self) -> None:
        """Rule 1: wake followers, or start workers, so that there is a leader.

        If exchanges are ready, their apps may suspend like the one before. So a worker is woken for
        each of up to WOKEN_MAX exchanges, and these begin in the same turn of Trio. If no worker
        may lead any more, the apps that give way are cancelled like all others.
        """
        self._leader = None
        wanted = len(self.ready) + self._due
        if self._waking and self._waking >= wanted:
            return
        wanted = min(wanted, WOKEN_MAX) or 1
        while self._waking < wanted and self._parked:
            self._waking += 1
            trio.lowlevel.reschedule(self._parked.pop().task, TURN)
        if self._waking >= wanted or self._nursery is None:
            return
        # If an app cancelled the nursery, its tasks end, and `run` opens a new one.
        if not self._closing and not self._nursery.cancel_scope.cancel_called:
            for _ in range(wanted - self._waking):
                self._spawn()
        else:
            self._due = 0
            while self._giving_way:
                self._cancel_alone(*self._giving_way.popleft())

    async def _work(self) -> None:
        self._waking -= 1
        with trio.CancelScope() as scope:
            worker = Worker(scope)
            self._workers.add(worker)
            try:
                if self._leader is None or await self._follow(worker):
                    await self._serve(worker)
            except trio.Cancelled:
                # The reactor cancelled the worker, or an app cancelled a task of the loop. The
                # worker ends in both cases.
                pass
            except BaseException:
                # This is a fault of the reactor. Its state may be wrong, so the process ends.
                self._closing = True
                raise
            finally:
                # Break a reference cycle.
                worker.waits = None
                self._workers.discard(worker)
                if self._leader is worker or self._leader is None:
                    self._hand_over()

    def _cancel_alone(self, exchange: Hosted, context: contextvars.Context) -> None:
        """Cancel an exchange whose app gives way. The app goes on in a task of its own."""
        assert self._nursery is not None
        self._nursery.start_soon(self._end_alone, exchange, context)

    async def _end_alone(self, exchange: Hosted, context: contextvars.Context) -> None:
        error: BaseException | None = None
        with trio.CancelScope() as scope:
            worker = Worker(scope)
            worker.cancel()
            self.pulse.since[0] = monotonic()
            try:
                await self._drive(worker, exchange, context, GIVES_WAY)
            except BaseException as raised:
                # An exception of the app ends its exchange only.
                error = raised
            if fork.is_child:
                fork.leave(error)
            try:
                self._end(exchange, error)
            except BaseException:
                # This is a fault of the reactor, as in `_work`.
                self._closing = True
                raise
            # Break a reference cycle: the traceback of `error` holds this frame.
            error = None
            self._flush_soon()
            self._count(exchange, exchange.slow)
            await worker.hygiene.restore()

    @types.coroutine
    def _follow(self, worker: Worker) -> Generator[Any, Any, bool]:
        """Wait until there is no leader. Return whether this worker may lead.

        Returns False at once if PARKED_MAX followers wait.
        """
        trap = worker.waits
        if trap is None:
            trap = worker.waits = waiting_trap(partial(self._unpark, worker))
        while len(self._parked) < PARKED_MAX:
            self._parked.append(worker)
            (yield trap).unwrap()
            self._waking -= 1
            if self._leader is None:
                return worker.hygiene.snapshot() == worker.before
        return False

    def _unpark(self, worker: Worker, _: object) -> trio.lowlevel.Abort:
        """A follower was cancelled while it waited."""
        self._parked.remove(worker)
        return trio.lowlevel.Abort.SUCCEEDED

    async def _serve(self, worker: Worker) -> None:
        """Lead until an app suspends, stay with it, follow, and lead again. Return when the worker
        is to end."""
        self._leader = worker
        ready = self.ready
        giving_way = self._giving_way
        hygiene = worker.hygiene
        before = worker.before
        exchange: Hosted | None
        context: contextvars.Context | None
        error: BaseException | None
        step: Callable[[], object] | None
        trap: object
        while not self._closing:
            if not ready and not self._due:
                # These names would keep the last request alive during the wait.
                exchange = context = step = error = trap = None
                self._gathers = False
                self.flush()
                self._handle(await self._sleep.events(wait=not giving_way))
                self._due = len(giving_way)
            elif self._has_stalled:
                self._poll_after_stall()
            began = now = monotonic()
            half = (len(ready) + self._due) // 2
            since, begun = self.pulse.since, self.pulse.begun
            handled = 0
            while ready or self._due:
                # If both wait, they take turns.
                if self._due and (handled & 1 or not ready):
                    self._due -= 1
                    exchange, context = giving_way.popleft()
                    step = partial(go_on, exchange.coroutine)
                else:
                    exchange = ready.popleft()
                    if exchange.express:
                        # As `begins` does: one thread begins them all, in the order of their
                        # numbers.
                        begun[0] = exchange.express
                    else:
                        self.begins(exchange)
                    context = self._context.copy()
                    exchange.suspended = False
                    exchange.slow = 0.0
                    step = exchange.first_step
                worker.exchange = exchange
                error = None
                since[0] = started = now
                if now < self._watched_until:
                    self._interruptions.begin()
                try:
                    trap = context.run(step)
                    if trap is not FINISHED:
                        if trap is GIVES_WAY and hygiene.snapshot() == before:
                            if fork.is_child:
                                fork.leave_loop()
                            exchange.suspended = True
                            exchange.write_out()
                            giving_way.append((exchange, context))
                        else:
                            await self._drive(worker, exchange, context, trap)
                            trap = FINISHED
                except BaseException as raised:
                    # An exception of the app ends its exchange only.
                    error = raised
                    trap = FINISHED
                worker.exchange = None
                if trap is FINISHED:
                    if fork.is_child:
                        fork.leave(error)
                    try:
                        exchange.over(error)
                    except BaseException as fault:
                        self._end_failed(exchange, fault)
                    # Break a reference cycle: the traceback of `error` holds this frame.
                    error = None
                    if self._leader is not worker:
                        # The app was driven: it has waited, and other workers went on meanwhile.
                        if not self._gathers:
                            self._flush_soon()
                        now = monotonic()
                        self._flush_if_late(now)
                        if exchange.slow or now < self._counted_until:
                            self._count(exchange, exchange.slow)
                        if worker.cancelled:
                            await hygiene.restore()
                            return
                        if not hygiene.is_open:
                            # Until the end of this step Trio holds the exception that ended the
                            # app's last wait, and with it the task. So `_follow` looks at the rest
                            # later.
                            exchange = context = step = trap = None
                            if not await self._follow(worker):
                                return
                            self._leader = worker
                            break
                    if hygiene.snapshot() != before:
                        since[0] = 0.0
                        await self._retire(worker)
                        return
                now = monotonic()
                handled += 1
                stalled = now - started > STALLED_AFTER
                if stalled:
                    self._end_step(exchange)
                if now < self._counted_until and trap is FINISHED:
                    self._count(exchange, exchange.slow)
                if stalled or now < self._stall_budget_until:
                    self.flush()
                elif handled >= half and now - began > FLUSH_AFTER:
                    half = BATCH_MAX
                    self.flush()
                if handled == BATCH_MAX or now - began > YIELD_AFTER:
                    since[0] = 0.0
                    self.flush()
                    await trio.lowlevel.checkpoint()
                    self._due = len(giving_way)
                    break
            else:
                since[0] = 0.0
                if now < self._stall_budget_until:
                    self._tell_begun()

    @types.coroutine
    def _drive(
        self, worker: Worker, exchange: Hosted, context: contextvars.Context, trap: object
    ) -> Generator[Any, Any, None]:
        """Run an app that has suspended to its end, in its own context.

        The traps that the app yields are passed to Trio.
        """
        if fork.is_child:
            fork.leave_loop()
        exchange.suspended = True
        if self._end_step(exchange) < self._stall_budget_until:
            self._tell_begun()
        if self._leader is worker:
            self._hand_over()
        exchange.write_out()
        if not self._gathers:
            self._flush_soon()
        coroutine = exchange.coroutine
        run = context.run
        send = coroutine.send
        since = self.pulse.since
        while True:
            error: BaseException | None = None
            value: Any = None
            try:
                value = yield trap
            except BaseException as raised:
                error = raised
            since[0] = now = monotonic()
            if now < self._watched_until:
                self._interruptions.begin()
            # This is outside of the handler. Inside, our exception would become the `__context__`
            # of the app's exceptions.
            try:
                trap = run(send, value) if error is None else run(coroutine.throw, error)
            except StopIteration:
                return
            finally:
                # Break a reference cycle: the traceback of an exception in `value` holds the task,
                # and from Python 3.12 on this frame too.
                value = error = None
                now = self._end_step(exchange)
            if fork.is_child:
                fork.leave_loop()
            if self._dirty or self._flush_wanted:
                if not self._gathers:
                    self._flush_soon()
                self._flush_if_late(now)

    def write_ready(self, exchange: AppExchange) -> None:
        if threading.get_ident() != self._thread or not (self.pulse.since[0] or self._is_led):
            super().write_ready(exchange)
        else:
            self._dirty.append(exchange)

    def flush_soon(self) -> None:
        self._flush_wanted = True
        if not (self.pulse.since[0] or self._is_led):
            self._wake()

    @property
    def _is_led(self) -> bool:
        """Whether a leader sends the gathered output before Trio waits for events."""
        has_leader = self._leader is not None or self._waking > 0
        return has_leader and self._sleep.direct and not self._closing

    def _flush_soon(self) -> None:
        if not self._is_led:
            self.flush()
        elif not self._gathers:
            self._gathers = True
            self._gathers_since = monotonic()

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
