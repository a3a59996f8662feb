"""The loop of a reactor that serves a WSGI app.

The loop calls the app directly. No event loop runs in the app's thread, and no async library is
marked as running there. So a view may call `asyncio.run`, `anyio.run`, `trio.run` or asgiref's
`async_to_sync`. This holds inline and in the threads of `--threads`.

An exchange that is to run inline waits in `ready`. With `--threads` above 1, `ready` stays empty:
the threads take exchanges from their own queue (wsgi/threads.py), and the loop only moves bytes.

A batch is limited by number and by time. After each batch the loop reads what the front end sent.
Output is gathered and sent when the batch ends. If a batch takes long, the first half is sent
early, so that clients and front end can work during the second half. If the next call may be slow,
each answer is sent at once.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Protocol

from reactor_run.pulse import STALLED_AFTER
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.loop.reactor_loop import (
    BATCH_MAX,
    FLUSH_AFTER,
    YIELD_AFTER,
    ReactorLoop,
    poll_events,
)
from reactor_run.turns import Turns

__all__ = ["Call", "CallLoop", "Measure"]


class Call(AppExchange):
    """An exchange whose app is one call from begin to end."""

    __slots__ = ()

    def call(self) -> None:
        """Run the app inline until it has ended."""
        raise NotImplementedError


class Measure(Protocol):
    """What is told how long calls take. All times are of `time.monotonic`, in seconds."""

    def begin_batch(self) -> None:
        """Handle that the first call of a batch begins."""

    def long(self, took: float, now: float) -> None:
        """Handle that a call has just ended that took more than STALLED_AFTER."""

    def short(self, calls: int, took: float, now: float) -> None:
        """Handle the end of a batch, in which so many other calls took `took` seconds together."""


class CallLoop(ReactorLoop):
    """Waits for events and runs calls, in the thread that calls `run`."""

    ready: deque[Call]  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.measure: Measure | None = None

    def run(self) -> None:
        """Serve until `close`."""
        turns = Turns()
        while not self._closing:
            self.flush()
            turns.before_wait()
            self._handle(poll_events(self._epoll, turns, 0 if self.ready else -1, BATCH_MAX))
            if self.ready:
                self._run_batch()
        self.flush()

    def close(self) -> None:
        """Make `run` return after the current batch."""
        self._closing = True

    def _run_batch(self) -> None:
        measure = self.measure
        if measure is not None:
            measure.begin_batch()
        ready = self.ready
        since, begun = self.pulse.since, self.pulse.begun
        half = len(ready) // 2
        handled = 0
        long_calls = 0
        long_seconds = 0.0
        began = now = monotonic()
        while ready and handled < BATCH_MAX and now - began <= YIELD_AFTER:
            exchange = ready.popleft()
            if exchange.express:
                # As `begins` does: one thread begins them all, in the order of their numbers.
                begun[0] = exchange.express
            else:
                self.begins(exchange)
            since[0] = started = now
            if now < self._watched_until:
                self._interruptions.begin()
            # Each exchange has its own context, so it sees no variables of another exchange.
            self._context.copy().run(self._run_call, exchange)
            now = monotonic()
            handled += 1
            took = now - started
            stalled = took > STALLED_AFTER
            slow = 0.0
            if stalled:
                since[0] = 0.0
                slow = self._stalled(now, took)
                long_calls += 1
                long_seconds += took
                if measure is not None:
                    measure.long(took, now)
            if now < self._counted_until:
                self._count(exchange, slow)
            if stalled or now < self._stall_budget_until:
                self.flush()
            elif handled >= half and now - began > FLUSH_AFTER:
                half = BATCH_MAX
                self.flush()
        since[0] = 0.0
        if measure is not None:
            measure.short(handled - long_calls, now - began - long_seconds, now)
        if now < self._stall_budget_until:
            self._tell_begun()

    def _run_call(self, exchange: Call) -> None:
        error: BaseException | None = None
        try:
            exchange.call()
        except BaseException as raised:
            # An exception of the app ends its exchange only.
            error = raised
        if fork.is_child:
            fork.leave(error)
        try:
            exchange.over(error)
        except BaseException as fault:
            self._end_failed(exchange, fault)
