"""How the leader of the worker loop waits, unless its runtime has a shorter way."""

from __future__ import annotations

import select

import anyio

from reactor_run.reactor import fork
from reactor_run.reactor.loop.reactor_loop import Events
from reactor_run.turns import Turns

__all__ = ["TaskSleep"]


class TaskSleep:
    """The leader waits for the reactor's epoll set as any task waits for a descriptor."""

    def __init__(self, epoll: select.epoll, events_max: int) -> None:
        """`events_max`: how many events are taken at once."""
        self._epoll = epoll
        self._events_max = events_max
        self._turns = Turns()

    async def events(self) -> Events:
        """What there is, once there is something. Other tasks that can run do so before.

        There may be nothing after all: somebody else wanted to run.
        """
        await anyio.wait_readable(self._epoll.fileno())
        if fork.is_child:
            fork.leave_loop()
        # The front end may be in the midst of handing over more, on this very processor: let it
        # finish, and take all of it at once. Where nobody waits it costs nothing.
        self._turns.give()
        return self._epoll.poll(0, self._events_max)

    def in_child(self) -> None:
        """Give up, in a child that an app has forked, what the runtime shares with its parent."""
