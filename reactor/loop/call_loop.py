"""The loop of a reactor that serves a WSGI app: it runs calls, and no event loop runs around them.

An app finds the thread that calls it as any script would: no event loop runs in it, and no async
library claims it. So a view may call `asyncio.run`, `anyio.run`, `trio.run` or asgiref's
`async_to_sync`, inline and in the threads of `--threads`.

An exchange that is to run inline waits in `ready`. With threads nothing does: they take exchanges
from a queue of their own (threads.py), and the loop only moves bytes.

Output of a batch is gathered. It goes out when the batch ends, and half-way through a batch that
takes long, so that clients and front end have something to do during the other half; one by one
while the next call may be a slow one. A batch is bounded by number and by time, and what the front
end says is heard after each.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

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

__all__ = ["Call", "CallLoop"]


class Call(AppExchange):
    """An exchange whose app is one call, from its begin to its end."""

    __slots__ = ()

    def call(self) -> None:
        """Run the app inline, as a whole."""
        raise NotImplementedError


class CallLoop(ReactorLoop):
    """Waits for events and runs calls, in the thread that calls `run`."""

    ready: deque[Call]  # type: ignore[assignment]

    def run(self) -> None:
        """Serve until `close`."""
        turns = Turns()
        while not self._closing:
            self.flush()
            self._handle(poll_events(self._epoll, turns, 0 if self.ready else -1, BATCH_MAX))
            if self.ready:
                self._run_batch()
        self.flush()

    def close(self) -> None:
        """Have `run` return when the batch that it runs is over."""
        self._closing = True

    def _run_batch(self) -> None:
        for begin in self._before_batch:
            begin()
        ready = self.ready
        since = self.pulse.since
        half = len(ready) // 2
        handled = 0
        began = now = monotonic()
        while ready and handled < BATCH_MAX and now - began <= YIELD_AFTER:
            exchange = ready.popleft()
            self.begins(exchange)
            since[0] = started = now
            # In a context of its own, so that no exchange sees the variables of another.
            self._context.copy().run(self._run_call, exchange)
            now = monotonic()
            handled += 1
            held_up = now - started > STALLED_AFTER
            slow = self._step_ended() if held_up else 0.0
            if now < self._counted_until:
                self._count(exchange, slow)
            if held_up or now < self._distrusted_until:
                self.flush()
            elif handled >= half and now - began > FLUSH_AFTER:
                half = BATCH_MAX
                self.flush()
        since[0] = 0.0
        if now < self._distrusted_until:
            self._tell_begun()

    def _run_call(self, exchange: Call) -> None:
        error: BaseException | None = None
        try:
            exchange.call()
        except BaseException as raised:
            # Whatever an app raises ends its exchange, and nothing else.
            error = raised
        if fork.is_child:
            fork.leave(error)
        self._end(exchange, error)
