"""What each loop of a reactor process is made of, whether it runs tasks or calls.

It owns the epoll set that everything is registered in, the exchanges that have not begun, and the
output that is gathered until a batch ends. It does not know how an app is run: see worker_loop for
ASGI apps and call_loop for WSGI apps. It imports no async library.
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

from reactor_run.pulse import BEGUN, DISTRUST, SLOW, STALLED_AFTER, Pulse
from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.log import log
from reactor_run.reactor.loop.slow_routes import COUNTED, RouteCounts
from reactor_run.turns import Turns

__all__ = ["BATCH_MAX", "FLUSH_AFTER", "YIELD_AFTER", "Events", "ReactorLoop", "poll_events"]


BATCH_MAX: Final = 64
"""Exchanges of one batch, and events that are taken at once."""
FLUSH_AFTER: Final = 0.0005
"""Seconds of a batch that takes long: what was gathered goes out once half of it has run."""
YIELD_AFTER: Final = 0.002
"""Seconds after which a batch ends, and whatever else waits has a turn."""

Events = list[tuple[int, int]]
"""Descriptors and their epoll events."""


def poll_events(epoll: select.epoll, turns: Turns, seconds: float, events_max: int) -> Events:
    """Wait for events in this thread, and let the front end finish what it is handing over.

    `seconds`: how long at most; -1 is for ever.
    """
    turns.before_wait()
    events = epoll.poll(seconds, events_max)
    if turns.after_wait(len(events)):
        # What is edge-triggered is not told again.
        merged = dict(events)
        for fd, mask in epoll.poll(0, events_max):
            merged[fd] = merged.get(fd, 0) | mask
        events = list(merged.items())
    return events


class ReactorLoop:
    """The part of a loop that lanes, exchanges and the gateway use."""

    def __init__(self) -> None:
        self.ready: deque[AppExchange] = deque()
        """Exchanges whose app has not begun."""
        self.pulse = Pulse()
        """Tells the front end since when a step of an app runs, and what has begun."""
        self.on_turn: Callable[[float], None] | None = None
        """Called after a step that took longer than STALLED_AFTER, with its seconds; and while the
        loop is distrusted, with 0, at the end of each batch and when an app suspends."""
        self.slow_routes: RouteCounts | None = None
        self._distrusted_until = 0.0
        self._counted_until = 0.0
        self._was_held_up = False
        """A step has taken so long that the front end may have withdrawn what is ready."""
        self._dirty: list[AppExchange] = []
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._buried: list[socket.socket] = []
        self._before_batch: list[Callable[[], None]] = []
        self._after_batch: list[Callable[[], None]] = []
        self._context = contextvars.copy_context()
        self._closing = False
        self._thread = threading.get_ident()
        self._signalled: deque[Callable[[], None]] = deque()
        self._woken = False
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wakeup, select.EPOLLIN, self._on_wakeup)
        fork.in_child(self._in_child)

    def _in_child(self) -> None:
        """An app has forked, and this is the child: let go of what is its parent's."""
        self.ready.clear()
        self._dirty.clear()
        self._signalled.clear()
        # What the front end reads is shared memory.
        self.pulse = Pulse()
        self.on_turn = None
        fork.disconnect([*self._handlers, *(sock.fileno() for sock in self._buried)])
        fork.renew_epoll(self._epoll.fileno())

    # What the loop listens to ------------------------------------------------------------------

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the epoll events of `fd` as they come."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Change what is listened to."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Listen no more; to be called before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def bury(self, sock: socket.socket) -> None:
        """Close a socket when gathered output goes out, before the loop sleeps.

        A number that is free at once could be given to a new socket while events are handled, and
        an event meant for the old one would then reach the new one.
        """
        self._buried.append(sock)

    def after_batch(self, flush: Callable[[], None]) -> None:
        """Have `flush` called whenever gathered output is to go out."""
        self._after_batch.append(flush)

    def before_batch(self, begin: Callable[[], None]) -> None:
        """Have `begin` called before the exchanges of a batch run."""
        self._before_batch.append(begin)

    def give_up(self, exchange: AppExchange) -> None:
        """Nobody reads the answer any more: tell the app, or do not begin it at all."""
        exchange.on_gone()
        if exchange.take_out():
            self._end(exchange, None)

    def begins(self, exchange: AppExchange) -> None:
        """Tell the front end that an exchange begins. To be called before its app is."""
        number = exchange.express
        if number:
            # Threads begin theirs almost in order: what has begun stays so.
            if number > self.pulse.begun[0]:
                self.pulse.begun[0] = number
        elif exchange.lane is not None:
            self.pulse.lanes[exchange.lane.slot] = BEGUN

    def cancel(self, exchange: AppExchange) -> None:
        """Nobody reads the answer any more, and nobody wants the app to go on.

        A call that has begun cannot be cancelled.
        """
        self.give_up(exchange)

    def write_ready(self, exchange: AppExchange) -> None:
        """An exchange has output; see `signal_write_ready`. Thread-safe."""
        if threading.get_ident() == self._thread:
            self._dirty.append(exchange)
            if not self.pulse.since[0]:
                # A task that the app has started, outside of the steps that end with a flush.
                self._wake()
        else:
            self.call_soon(lambda: self._dirty.append(exchange))

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have the loop call `function`. Thread-safe."""
        self._signalled.append(function)
        self._wake()

    def _wake(self) -> None:
        """Have the loop turn, if it is about to wait. Thread-safe."""
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wakeup, 1)

    def _on_wakeup(self, _: int) -> None:
        os.eventfd_read(self._wakeup)
        # Before the queue is emptied: what is added from now on wakes the loop again.
        self._woken = False
        signalled = self._signalled
        while signalled:
            signalled.popleft()()

    def flush(self) -> None:
        """Send all that was gathered, and close what was buried. Not for handlers of events."""
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
                # A child of the app may hold it too: closing alone would not end it.
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
        """Whatever goes wrong as an exchange ends, the loop goes on. Or the reactor would die of
        it, and the replay of the exchange would kill the next one."""
        try:
            exchange.over(error)
        except BaseException as fault:
            self._end_failed(exchange, fault)

    def _end_failed(self, exchange: AppExchange, fault: BaseException) -> None:
        log.error("the end of an exchange failed; its answer is cut", exc_info=fault)
        exchange.abandon()

    def _hear_of_the_wait(self) -> None:
        """After a long step: hear what the front end has said meanwhile, before others begin."""
        if self._was_held_up:
            self._was_held_up = False
            self._handle(self._epoll.poll(0, BATCH_MAX))

    # Steps of apps -----------------------------------------------------------------------------

    def _step_ended(self) -> float:
        """A step of an app is over: tell it, if somebody may have taken the loop for held up.

        Returns its seconds if it was slow, else 0.0.
        """
        now = monotonic()
        since = self.pulse.since
        took = now - since[0]
        since[0] = 0.0
        if took > STALLED_AFTER:
            self._was_held_up = True
        if took <= STALLED_AFTER or self.on_turn is None:
            return 0.0
        slow = took > SLOW
        if slow:
            self._distrusted_until = now + DISTRUST
            if now > self._counted_until and self.slow_routes is not None:
                self.slow_routes.forget()
            self._counted_until = now + COUNTED
        self.on_turn(took)
        return took if slow else 0.0

    def _tell_begun(self) -> None:
        """While the loop is distrusted: tell that what has begun holds it up no more."""
        if self.on_turn is not None and monotonic() < self._distrusted_until:
            self.on_turn(0.0)

    def _count(self, exchange: AppExchange, slow: float) -> None:
        """An exchange is over: count it for its route, as long as any are slow.

        `slow`: seconds of its longest slow step, 0.0 if it had none.
        """
        if self.slow_routes is not None and (slow or monotonic() < self._counted_until):
            self.slow_routes.ended(exchange.head, slow)
