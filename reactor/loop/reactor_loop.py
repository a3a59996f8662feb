"""The base class of a reactor's loops.

It owns the epoll set, the exchanges that have not begun, and the output that is gathered until a
batch ends. It does not know how an app is run: `worker_loop` and `task_loop` run ASGI apps,
`call_loop` runs WSGI apps. It imports no async library.
"""

from __future__ import annotations

import contextvars
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from reactor_run.pulse import BEGUN, SLOW, STALL_BUDGET_SECONDS, Pulse
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.links.lane import LaneEnd
from reactor_run.reactor.log import log
from reactor_run.reactor.loop.interruptions import Interruptions
from reactor_run.reactor.loop.slow_routes import COUNTED, RouteCounts
from reactor_run.turns import Turns

__all__ = ["BATCH_MAX", "FLUSH_AFTER", "YIELD_AFTER", "Events", "ReactorLoop", "poll_events"]


BATCH_MAX: Final = 64
"""Most exchanges of one batch, and most events that one wait returns."""
FLUSH_AFTER: Final = 0.0005
"""Seconds after which a batch counts as long. The output of a long batch is sent once before its
end, after half of its exchanges have run."""
WATCHED: Final = 10.0
"""Seconds after a slow step in which each step is measured, to tell whether other processes have
interrupted it. That takes a microsecond for each."""
YIELD_AFTER: Final = 0.002
"""Seconds after which a batch ends, so that events and other tasks get a turn."""

Events = list[tuple[int, int]]
"""Descriptors and their epoll events."""


def poll_events(epoll: select.epoll, turns: Turns, seconds: float, events_max: int) -> Events:
    """Wait for events in this thread, and return them.

    Before it returns, it may yield the CPU, so that the front end can hand over more requests.
    `seconds`: the longest wait; -1 waits without limit. `events_max`: most events of one poll.
    """
    events = epoll.poll(seconds, events_max)
    if turns.after_wait(len(events)):
        # Edge-triggered events of the first poll are not reported again, so keep both.
        merged = dict(events)
        for fd, mask in epoll.poll(0, events_max):
            merged[fd] = merged.get(fd, 0) | mask
        events = list(merged.items())
    return events


class ReactorLoop:
    """The part of a loop that lanes, exchanges and the gateway use.

    All methods belong to the thread that runs the loop, except those marked as thread-safe.
    """

    def __init__(self) -> None:
        self.ready: deque[AppExchange] = deque()
        """Exchanges whose app has not begun."""
        self.pulse = Pulse()
        """Shows the front end when the current step of an app began, and which exchanges have
        begun."""
        self.on_turn: Callable[[float], None] | None = None
        """Called with the seconds of each step that took more than STALLED_AFTER. While the reactor
        is under a stall budget, it is also called with 0 at the end of a batch and when an app
        suspends, if the front end waits for that."""
        self.slow_routes: RouteCounts | None = None
        self._stall_budget_until = 0.0
        """The monotonic time, in seconds, at which the stall budget ends."""
        self._counted_until = 0.0
        """The monotonic time, in seconds, until which ended exchanges count for their routes."""
        self._has_stalled = False
        """A step stalled the loop, so the front end may have withdrawn exchanges in `ready`."""
        self._dirty: list[AppExchange] = []
        """Exchanges with output that the next `flush` sends."""
        self._flush_wanted = False
        """A link has gathered messages, perhaps in a step after which no flush would follow."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._buried: list[socket.socket] = []
        self._after_batch: list[Callable[[], None]] = []
        self._context = contextvars.copy_context()
        self._closing = False
        self._thread = threading.get_ident()
        self._interruptions = Interruptions()
        self._watched_until = 0.0
        """The monotonic time until which steps are measured."""
        self._signalled: deque[Callable[[], None]] = deque()
        self._woken = False
        self.wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """A descriptor that is readable while functions of `call_soon` wait."""
        self.watch(self.wakeup, select.EPOLLIN, self.on_wakeup)
        fork.in_child(self._in_child)

    def _in_child(self) -> None:
        """In a child that an app forked: disconnect from the parent's descriptors and memory."""
        self.ready.clear()
        self._dirty.clear()
        self._signalled.clear()
        # The parent's pulse is memory that the front end reads.
        self.pulse = Pulse()
        self.on_turn = None
        fork.disconnect([*self._handlers, *(sock.fileno() for sock in self._buried)])
        fork.renew_epoll(self._epoll.fileno())

    # What the loop listens to ------------------------------------------------------------------

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with each epoll event mask of `fd`. Raises OSError."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Change the epoll events that are watched on `fd`."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`. Call this before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def bury(self, sock: socket.socket) -> None:
        """Close a socket at the next flush, before the loop waits again.

        If it were closed at once, the kernel could give its number to a new socket while events are
        handled. An event of the old socket would then reach the new one.
        """
        self._buried.append(sock)

    def after_batch(self, flush: Callable[[], None]) -> None:
        """Call `flush` each time the gathered output is sent."""
        self._after_batch.append(flush)

    def give_up(self, exchange: AppExchange) -> None:
        """Tell the app that the client is gone. If the app has not begun, it never begins."""
        exchange.on_gone()
        if exchange.take_out():
            self._end(exchange, None)

    def begins(self, exchange: AppExchange) -> None:
        """Tell the front end that an exchange begins. Call this before the app is called."""
        number = exchange.express
        if number:
            # Threads begin exchanges almost in order. The number must never fall.
            if number > self.pulse.begun[0]:
                self.pulse.begun[0] = number
        elif isinstance(exchange.lane, LaneEnd):
            self.pulse.lanes[exchange.lane.slot] = BEGUN

    def cancel(self, exchange: AppExchange) -> None:
        """Stop the app of an exchange: no client reads the answer any more.

        Here, an app that has begun is only told that the client is gone: a call cannot be
        cancelled.
        """
        self.give_up(exchange)

    def write_ready(self, exchange: AppExchange) -> None:
        """Send the output of an exchange at the next flush; see `signal_write_ready`.
        Thread-safe."""
        if threading.get_ident() == self._thread:
            self._dirty.append(exchange)
            if not self.pulse.since[0]:
                # A task that the app started calls this. No flush follows such a task by itself.
                self._wake()
        else:
            self.call_soon(lambda: self._dirty.append(exchange))

    def flush_soon(self) -> None:
        """Flush before the loop waits, also after a step of a task that the app started."""
        self._flush_wanted = True
        if not self.pulse.since[0]:
            self._wake()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call `function` in the loop's thread. Thread-safe."""
        self._signalled.append(function)
        self._wake()

    def _wake(self) -> None:
        """End the loop's current or next wait. Thread-safe."""
        if not self._woken:
            self._woken = True
            os.eventfd_write(self.wakeup, 1)

    def on_wakeup(self, _: int) -> None:
        """Call the functions of `call_soon`."""
        os.eventfd_read(self.wakeup)
        # Set this before the queue is emptied, so that a later addition wakes the loop again.
        self._woken = False
        signalled = self._signalled
        # What these functions ask for comes after the events that are ready now.
        for _ in range(len(signalled)):
            signalled.popleft()()

    def flush(self) -> None:
        """Send the gathered output, and close the buried sockets. Event handlers must not call
        it."""
        self._flush_wanted = False
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for exchange in dirty:
                if not exchange.ended:
                    try:
                        exchange.write_out()
                    except BaseException as fault:
                        self._end_failed(exchange, fault)
        for flush in self._after_batch:
            flush()
        if self._buried:
            for sock in self._buried:
                # A child process of the app may hold the socket too. Then `close` would not end it.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._buried.clear()

    def _handle(self, events: Events) -> None:
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)

    # The end of exchanges ----------------------------------------------------------------------

    def _end(self, exchange: AppExchange, error: BaseException | None) -> None:
        """End an exchange. The loop goes on, whatever its `over` raises.

        Otherwise this exchange would end the reactor, and its retry would end the next one.
        """
        try:
            exchange.over(error)
        except BaseException as fault:
            self._end_failed(exchange, fault)

    def _end_failed(self, exchange: AppExchange, fault: BaseException) -> None:
        log.error("the end of an exchange failed, aborting its answer", exc_info=fault)
        exchange.abandon()

    def _poll_after_stall(self) -> None:
        """After a stall: handle what the front end sent meanwhile, before other exchanges begin."""
        if self._has_stalled:
            self._has_stalled = False
            self._handle(self._epoll.poll(0, BATCH_MAX))

    # Steps of apps -----------------------------------------------------------------------------

    def _stalled(self, now: float, took: float) -> float:
        """Tell the front end that a step has stalled the loop.

        `now`: the monotonic time of its end. `took`: its seconds. Returns them, without those in
        which other processes had the CPU, if it was slow, else 0.0.
        """
        self._has_stalled = True
        if took > SLOW:
            took = self._interruptions.own_seconds(took)
            self._watched_until = now + WATCHED
        if self.on_turn is None:
            return 0.0
        slow = took > SLOW
        if slow:
            self._stall_budget_until = now + STALL_BUDGET_SECONDS
            if now > self._counted_until and self.slow_routes is not None:
                self.slow_routes.forget()
            self._counted_until = now + COUNTED
        self.on_turn(took)
        return took if slow else 0.0

    def _tell_begun(self) -> None:
        """Under a stall budget: tell the front end that no exchange that has begun stalls the
        loop, if it waits for that."""
        awaited = self.pulse.awaited
        if awaited[0] and self.on_turn is not None and monotonic() < self._stall_budget_until:
            awaited[0] = 0
            self.on_turn(0.0)

    def _count(self, exchange: AppExchange, slow: float) -> None:
        """Count an exchange that has ended for its route, if any exchange was slow lately.

        `slow`: seconds of its longest slow step, 0.0 if it had none.
        """
        if self.slow_routes is not None and (slow or monotonic() < self._counted_until):
            self.slow_routes.ended(exchange.head, slow)
