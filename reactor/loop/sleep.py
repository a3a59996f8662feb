"""The default wait of the worker loop's leader for events."""

from __future__ import annotations

import select

import anyio

from reactor_run.reactor import fork
from reactor_run.reactor.loop.reactor_loop import Events
from reactor_run.turns import Turns

__all__ = ["TaskSleep"]


class TaskSleep:
    """Waits for the reactor's epoll set as any task waits for a descriptor."""

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        """`events_max`: most events that one wait returns."""
        self._epoll = epoll
        self._events_max = events_max
        self._turns = Turns()

    async def events(self) -> Events:
        """Wait, and return the events that are ready. Other runnable tasks run first.

        The list may be empty, because the wait also ends when another task wants to run.
        """
        await anyio.wait_readable(self._epoll.fileno())
        if fork.is_child:
            fork.leave_loop()
        # The front end may be about to hand over more requests, on this CPU. Let it finish, then
        # take all of them at once. If no process waits for the CPU, this costs nothing.
        self._turns.give()
        return self._epoll.poll(0, self._events_max)

    def in_child(self) -> None:
        """In a child that an app forked: disconnect from what the runtime shares with its
        parent."""
