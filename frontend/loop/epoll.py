"""The front end's loop: one epoll set, deadlines, and work that waits for a batch to end.

A handler must be short, because all other connections wait for it. Long work is cut into short
calls, and all but the first are deferred: the loop makes one deferred call after each batch of
events.

Each file descriptor has one handler. A descriptor that is no longer needed is closed at the end of
its batch. An event in the same batch may still be meant for it, so its number must not be given to
a new descriptor before.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final, Protocol, runtime_checkable

from reactor_run.frontend.log import log
from reactor_run.frontend.loop.busy_poll import BusyPoll
from reactor_run.turns import Turns

__all__ = ["ERRORS", "LATE", "Deadlined", "Loop", "Timer"]

_EVENTS_MAX: Final = 512
_TICKS: Final = 8
"""Checks of deadlines per second. A deadline is noticed at most one tick late."""
LATE: Final = 1.25 / _TICKS
"""Most seconds between a deadline and its check, as long as batches are short."""
_LONGEST: Final = 3600.0
"""Seconds to sleep if there are no deadlines."""

ERRORS: Final = select.EPOLLHUP | select.EPOLLERR


class Deadlined(Protocol):
    """An object with a deadline.

    The loop checks `deadline` (seconds of the monotonic clock, or inf) when `check_at` comes. So
    moving a deadline later, or to inf, is only an assignment.
    """

    deadline: float
    check_at: float

    def on_deadline(self) -> None:
        """Called when the deadline has passed."""


class Closing(Protocol):
    """An object with a descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


class Timer:
    """Calls an action at its deadline."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.deadline = self.check_at = inf
        self.on_deadline = action


@runtime_checkable
class HandlerOwner(Protocol):
    """An object with handlers. `on_fault` is called if one raises an unexpected error."""

    def on_fault(self) -> None:
        """End what the handler served: its state is unknown now."""


class Loop:
    """The event loop of one thread."""

    def __init__(self, *, busy_poll: bool = True) -> None:
        """`busy_poll`: whether the loop may poll instead of sleeping (busy_poll.py)."""
        self.busy_poll = BusyPoll(on=busy_poll)
        self.turns = Turns()
        self.now = monotonic()
        """When the current batch began, in seconds of the monotonic clock."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._buried: list[Closing] = []
        self._after_batch: list[Callable[[], None]] = []
        """Calls at the end of each batch. The last `_lasts` of them were asked to be last."""
        self._lasts = 0
        self._deferred: deque[Callable[[], None]] = deque()
        self._due: dict[int, set[Deadlined]] = {}
        """Objects with deadlines, by the tick in which they are checked."""
        self._next_sweep = self.now + _LONGEST
        """When the earliest of the ticks in `_due` is over."""
        self._running = False

    # Descriptors -------------------------------------------------------------------------------

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the epoll events of `fd` as they come. Raises OSError."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Change the events that are watched. Hang-ups and errors are always reported."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, if it is watched."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def bury(self, closing: Closing) -> None:
        """Close an object with a descriptor at the end of the batch."""
        self._buried.append(closing)

    # Deadlines ---------------------------------------------------------------------------------

    def set_deadline(self, item: Deadlined, seconds: float) -> None:
        """Call `item.on_deadline` so many seconds from now, unless it is moved. 0 means never."""
        self.set_deadline_at(item, self.now + seconds if seconds else inf)

    def set_deadline_at(self, item: Deadlined, when: float) -> None:
        """Call `item.on_deadline` at a time of the monotonic clock, which may be past. inf means
        never."""
        if when < item.check_at:
            self.forget(item)
            self._look_at(item, when)
        item.deadline = when

    def forget(self, item: Deadlined) -> None:
        """Drop the deadline of an item that has ended."""
        item.deadline = inf
        if item.check_at != inf:
            self._due.get(int(item.check_at * _TICKS), set()).discard(item)
            item.check_at = inf

    def _look_at(self, item: Deadlined, when: float) -> None:
        item.check_at = when
        tick = int(when * _TICKS)
        self._due.setdefault(tick, set()).add(item)
        self._next_sweep = min(self._next_sweep, (tick + 1) / _TICKS)

    def _sweep(self) -> None:
        """Check the deadlines of the ticks that are over."""
        self._next_sweep = self.now + _LONGEST
        over = int(self.now * _TICKS)
        for tick in sorted(tick for tick in self._due if tick < over):
            for item in self._due.pop(tick):
                item.check_at = inf
                if item.deadline <= self.now:
                    item.deadline = inf
                    try:
                        item.on_deadline()
                    except Exception:
                        self._fault(item)
                elif item.deadline != inf:
                    self._look_at(item, item.deadline)
        if self._due:
            self._next_sweep = (min(self._due) + 1) / _TICKS

    # Running -----------------------------------------------------------------------------------

    def after_batch(self, work: Callable[[], None], *, last: bool = False) -> None:
        """Call `work` at the end of every batch, before the loop waits again.

        `last`: after all calls without this parameter, whenever these were added.
        """
        if last:
            self._after_batch.append(work)
            self._lasts += 1
        else:
            self._after_batch.insert(len(self._after_batch) - self._lasts, work)

    def defer(self, work: Callable[[], None]) -> None:
        """Call `work` once, after a later batch. The loop makes one such call per batch, in order.

        The call is made even if its object has been closed by then.
        """
        self._deferred.append(work)

    @property
    def has_deferred(self) -> bool:
        """Whether deferred calls wait, so that the loop does not sleep."""
        return bool(self._deferred)

    def not_after_batch(self, work: Callable[[], None]) -> None:
        """Do not call `work`, which was added without `last`, at the end of batches any more."""
        self._after_batch.remove(work)

    def _call_deferred(self) -> None:
        work = self._deferred.popleft()
        try:
            work()
        except Exception:
            self._fault(getattr(work, "__self__", None))

    def _fault(self, owner: object) -> bool:
        """Log an unexpected error and end what it affects; return whether that succeeded."""
        log.exception("internal error, please report it")
        if isinstance(owner, HandlerOwner):
            try:
                owner.on_fault()
            except Exception:
                log.exception("internal error while ending what another internal error affected")
                return False
        return True

    def stop(self) -> None:
        """Have `run` return at the end of the batch."""
        self._running = False

    def run(self) -> None:
        """Handle events until `stop` is called."""
        self._running = True
        poll = self._epoll.poll
        handlers = self._handlers
        turns = self.turns
        busy_poll = self.busy_poll
        now = self.now
        while self._running:
            deferred = bool(self._deferred)
            wait = 0.0 if deferred else self._next_sweep - now
            turns.before_wait()
            events = busy_poll.look(poll, turns) if busy_poll.due and not deferred else []
            if not events:
                events = poll(wait if wait > 0 else 0, _EVENTS_MAX)
            if turns.after_wait(len(events)):
                events = poll(0, _EVENTS_MAX)
            self.now = now = monotonic()
            busy_poll.saw(events, now)
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler(mask)
                    except Exception:
                        if not self._fault(getattr(handler, "__self__", None)):
                            self.unwatch(fd)
            if deferred:
                self._call_deferred()
            if now >= self._next_sweep:
                self._sweep()
            for work in self._after_batch:
                work()
            if self._buried:
                for sock in self._buried:
                    sock.close()
                self._buried.clear()
