"""The loop of a reactor that serves an ASGI app on asyncio or uvloop.

All descriptors of the reactor are in one epoll set, which the event loop watches. When the set is
ready, a callback takes all events and begins the exchanges that are ready, one after another. Each
exchange has a task of its own. The task begins eagerly: the app runs *inline* until it suspends.
An app that answers without suspending costs no turn of the event loop. A suspended app is an
ordinary task.

The rules:

1. Each exchange runs in a context and a task of its own, so it leaves nothing behind for another
   exchange. (On Python 3.11 the task may host another one, if the app did not suspend and left
   nothing in it.)
2. To cancel an exchange, cancel its task: once, and again after CANCEL_GRACE (on_asyncio.py).
3. No task starves. A batch is limited by number and by time. Then the event loop gets a turn.
4. Answers are gathered. They are sent when a batch ends, and once in each turn of the event loop in
   which suspended apps go on. A long batch sends its first half early, so that clients and front
   end can work during the second half. If the next step may be slow, each answer is sent at once.
5. After an app has failed, the loop uses nothing that the app can change, not even its context.
6. A fault of the reactor itself ends the process: its state may be wrong. The event loop would only
   log an exception of a callback or of a task, so `_fail` passes it to `run`.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import types
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import anyio

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.loop.hosted import FINISHED, Hosted, HostLoop
from reactor_run.reactor.loop.on_asyncio import Cancellation, EagerTasks, OnceEvent
from reactor_run.reactor.loop.reactor_loop import BATCH_MAX, FLUSH_AFTER, YIELD_AFTER
from reactor_run.turns import Turns

__all__ = ["TaskLoop"]


class TaskLoop(HostLoop):
    """Runs ASGI apps in tasks of asyncio or uvloop. Create it while the event loop runs."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.new_event = partial(OnceEvent, self._loop)
        self._turns = Turns()
        self._eager = EagerTasks(self._loop, self._context)
        self._tasks: dict[Hosted, asyncio.Task[None]] = {}
        """The tasks of suspended apps. asyncio itself does not keep a task alive."""
        self._cancellations: dict[Hosted, Cancellation] = {}
        """The cancellations of suspended apps that still run."""
        self._continues = False
        """Whether `_continue` will run the rest of a batch."""
        self._closed: asyncio.Future[None] = self._loop.create_future()
        """It is done when the loop closes. Its exception is a fault of the reactor."""

    def _in_child(self) -> None:
        super()._in_child()
        # uvloop has no selector. Its epoll set must stay: libuv aborts the process if descriptors
        # that it registered are missing from the set.
        selector = getattr(self._loop, "_selector", None)
        if selector is not None:
            fork.renew_epoll(selector.fileno())
        # In debug mode asyncio raises RuntimeError if a thread other than the loop's has forked.
        with suppress(RuntimeError):
            self._loop.call_soon(fork.leave_loop)

    async def run(self) -> None:
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)
        try:
            await self._closed
            self._cancel_all()
            await self._all_ended()
        finally:
            self._stop_serving()
            # The process ends, so it cancels this task, and with it all apps that still run.
            self._cancel_all()
            with anyio.CancelScope(shield=True):
                await self._all_ended()

    def close(self) -> None:
        self.flush()
        self._stop_serving()
        if not self._closed.done():
            self._closed.set_result(None)

    def _stop_serving(self) -> None:
        self._closing = True
        self._loop.remove_reader(self._epoll.fileno())

    def _cancel_all(self) -> None:
        for exchange in list(self._tasks):
            self._cancel(exchange)

    async def _all_ended(self) -> None:
        while pending := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.wait(pending)

    def _fail(self, fault: BaseException) -> None:
        """Rule 6: end the process."""
        self._stop_serving()
        if not self._closed.done():
            self._closed.set_exception(fault)

    # Turns -------------------------------------------------------------------------------------

    def _guarded(self, turn: Callable[[], None]) -> None:
        """Call `turn`, the body of a callback of the event loop."""
        if fork.is_child:
            fork.leave_loop()
        try:
            turn()
        except BaseException as fault:
            self._fail(fault)

    def _on_ready(self) -> None:
        """Handle the events of the epoll set."""
        self._guarded(self._take_events)

    def _take_events(self) -> None:
        # The front end may be about to hand over more requests, on this CPU. Let it finish, then
        # take all of them at once. If no process waits for the CPU, this costs nothing.
        self._turns.give()
        self._handle(self._epoll.poll(0, BATCH_MAX))
        if self.ready and not self._continues:
            self._run_batch()
        self.flush()

    def _continue(self) -> None:
        self._continues = False
        self._guarded(self._run_rest)

    def _run_rest(self) -> None:
        self._run_batch()
        self.flush()

    def _run_batch(self) -> None:
        """Begin the exchanges that are ready. If there are many, the rest begins in the next turn
        of the event loop."""
        self._poll_after_stall()
        ready = self.ready
        since, begun = self.pulse.since, self.pulse.begun
        begin = self._eager.begin
        began = now = monotonic()
        half = len(ready) // 2
        handled = 0
        while ready and not self._closing:
            exchange = ready.popleft()
            if exchange.express:
                # As `begins` does: one thread begins them all, in the order of their numbers.
                begun[0] = exchange.express
            else:
                self.begins(exchange)
            exchange.suspended = False
            exchange.slow = 0.0
            since[0] = started = now
            if now < self._watched_until:
                self._interruptions.begin()
            task = begin(self._host(exchange))
            if exchange.suspended:
                self._tasks[exchange] = task
            now = monotonic()
            handled += 1
            stalled = now - started > STALLED_AFTER
            if stalled:
                self._end_step(exchange)
            if now < self._counted_until and not exchange.suspended:
                self._count(exchange, exchange.slow)
            if stalled or now < self._stall_budget_until:
                self.flush()
            elif handled >= half and now - began > FLUSH_AFTER:
                half = BATCH_MAX
                self.flush()
            if handled == BATCH_MAX or now - began > YIELD_AFTER:
                break
        since[0] = 0.0
        if now < self._stall_budget_until:
            self._tell_begun()
        if ready:
            self._continues = True
            self._loop.call_soon(self._continue)

    # Steps -------------------------------------------------------------------------------------

    async def _host(self, exchange: Hosted) -> None:
        """Run an exchange from its first step to its end. This is the body of its task."""
        error: BaseException | None = None
        context = self._context.copy()
        try:
            trap = context.run(exchange.first_step)
            if trap is not FINISHED:
                await self._drive(exchange, context, trap)
        except BaseException as raised:
            # An exception of the app ends its exchange only.
            error = raised
        if fork.is_child:
            fork.leave(error)
        try:
            self._end(exchange, error)
            # Break a reference cycle: the traceback of `error` holds this frame.
            error = None
            if exchange.suspended:
                self._forget(exchange)
        except BaseException as fault:
            self._fail(fault)

    @types.coroutine
    def _drive(
        self, exchange: Hosted, context: contextvars.Context, trap: object
    ) -> Generator[Any, Any, None]:
        """Run an app that has suspended to its end, in its own context.

        The traps that the app yields are passed to asyncio.
        """
        if fork.is_child:
            fork.leave_loop()
        exchange.suspended = True
        exchange.write_out()
        coroutine = exchange.coroutine
        run = context.run
        send = coroutine.send
        while True:
            error: BaseException | None = None
            try:
                yield trap
            except BaseException as raised:
                error = raised
            self.pulse.since[0] = now = monotonic()
            if now < self._watched_until:
                self._interruptions.begin()
            # This is outside of the handler. Inside, our exception would become the `__context__`
            # of the app's exceptions.
            try:
                trap = run(send, None) if error is None else run(coroutine.throw, error)
            except StopIteration:
                return
            finally:
                # Break a reference cycle: the traceback of `error` holds this frame.
                error = None
                now = self._end_step(exchange)
            if fork.is_child:
                fork.leave_loop()
            if self._gathers:
                self._flush_if_late(now)
            if self._cancellations and exchange in self._cancellations:
                self._cancellations[exchange].deliver()

    def _forget(self, exchange: Hosted) -> None:
        """Forget the task of an exchange: its app, which had suspended, has ended."""
        del self._tasks[exchange]
        self._count(exchange, exchange.slow)
        if exchange in self._cancellations:
            self._cancellations.pop(exchange).end()
        self._flush_soon()
        self._flush_if_late(monotonic())

    # Output ------------------------------------------------------------------------------------

    def write_ready(self, exchange: AppExchange) -> None:
        if threading.get_ident() == self._thread:
            self._dirty.append(exchange)
            self._flush_soon()
        else:
            super().write_ready(exchange)

    def flush_soon(self) -> None:
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._gathers:
            self._gathers = True
            self._gathers_since = monotonic()
            self._loop.call_soon(self._flush_gathered, context=self._context)

    def _flush_gathered(self) -> None:
        self._gathers = False
        self._guarded(self.flush)

    def _flush_now(self) -> None:
        self._guarded(self.flush)

    # Cancellation ------------------------------------------------------------------------------

    def cancel(self, exchange: AppExchange) -> None:
        """Cancel the app of an exchange: no client reads the answer any more.

        The app is cancelled at its next wait outside of a shielded scope.
        """
        self.give_up(exchange)
        if exchange in self._tasks and exchange not in self._cancellations:
            self._cancel(exchange)

    def _cancel(self, exchange: Hosted) -> None:
        """Cancel an app that has suspended, also if it was cancelled before."""
        cancellation = self._cancellations.get(exchange)
        if cancellation is None:
            cancellation = Cancellation(self._loop, self._tasks[exchange])
            self._cancellations[exchange] = cancellation
        cancellation.cancel()
