"""Owns all plain lanes between the front end and one reactor, in use or free.

The front end opens, numbers and reuses them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import count
from math import inf
from typing import Final

from reactor_run.frontend.exchanges.exchange import KEPT_MAX, RUNNING, Exchange
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.reactors.lane import Lane
from reactor_run.frontend.sockets.peek import has_bytes
from reactor_run.protocol.control_messages import (
    LaneOpened,
    ToReactor,
    Withdraw,
)
from reactor_run.protocol.websocket.summary import Summary
from reactor_run.pulse import NOT_BEGUN, SLOTS, WAITS

__all__ = ["LanePool"]

_POOL_MAX: Final = 256
"""The most free lanes that are kept; or as many as the capacity of the reactor, if that is more. A
lane becomes free a little later than its answer, so that more lanes are in use than exchanges. To
close and open the difference would cost more."""
_IDLE_MAX: Final = 10.0
"""Seconds after which an unused lane is closed; it may take twice as long."""


class LanePool:
    """The lanes of one reactor."""

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        say: Callable[[ToReactor, int | None], None],
        marks: memoryview[int],
    ) -> None:
        """`say`: sends the reactor a control message, with a descriptor if one is given. `marks`:
        shared memory where the reactor marks the state of the exchange on each lane, by slot."""
        self.occupied: dict[int, Exchange] = {}
        """By number of the lane: the exchanges, until their app is done."""
        self._loop = loop
        self._owner = owner
        self._say = say
        self._marks = marks
        self._slots = count()
        self._free_slots: list[int] = []
        self._unstarted: dict[Exchange, None] = {}
        """Exchanges that had not begun when the marks were last read, in the order of sending."""
        self._numbers = count(1)
        self.carried = 0
        """How many exchanges it was given."""
        self._lanes: dict[int, Lane] = {}
        """By number. A closed lane stays until the reactor is done with it."""
        self._free: list[Lane] = []
        """Free lanes. The last one is used next, so the first one has been free longest."""
        self._tidy = Timer(self._close_idle)

    @property
    def open(self) -> int:
        """The number of open lanes, used and free."""
        return sum(not lane.closed for lane in self._lanes.values())

    # Exchanges -----------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Send a request over a lane. Raises OSError if there is no descriptor for a lane."""
        lane = self._free.pop() if self._free else self._open()
        self.carried += 1
        exchange.slot = lane.slot
        self._marks[lane.slot] = NOT_BEGUN
        self._unstarted[exchange] = None
        self.occupied[lane.number] = exchange
        lane.carry(exchange, exchange.requester.lane_prefix + exchange.request)
        if len(exchange.request) > KEPT_MAX and lane.begun:
            exchange.request = b""

    def _open(self) -> Lane:
        slot = self._free_slots.pop() if self._free_slots else next(self._slots)
        with ExitStack() as undo:
            undo.callback(self._free_slots.append, slot)
            if slot >= SLOTS:
                raise OSError(errno.EMFILE, "there are too many lanes")
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            number = next(self._numbers)
            with theirs:
                lane = Lane(self._loop, self._owner, self, ours, number, slot)
                undo.callback(lane.close)
                descriptor = theirs.fileno()
                self._say(LaneOpened(number, slot, descriptor), descriptor)
            undo.pop_all()
        self._lanes[number] = lane
        if self._tidy.deadline == inf:
            self._loop.set_deadline(self._tidy, _IDLE_MAX)
        return lane

    def _close_idle(self) -> None:
        """Close free lanes that were not used for _IDLE_MAX, for example after a burst."""
        before = self._loop.now - _IDLE_MAX
        free = self._free
        idle = 0
        while idle < len(free) and free[idle].free_since <= before:
            idle += 1
        for lane in free[:idle]:
            lane.close()
            self._forget(lane)
        del free[:idle]
        if self._lanes:
            self._loop.set_deadline(self._tidy, _IDLE_MAX)

    def summarize(self, summaries: Iterable[tuple[int, Summary]]) -> None:
        """Take the summaries of WebSockets on these lanes, before their apps are done."""
        for number, summary in summaries:
            exchange = self.occupied.get(number)
            if exchange is not None:
                exchange.websocket = summary

    def done(self, numbers: Iterable[int], *, keep: bool) -> None:
        """Note that the apps of the exchanges on these lanes are done.

        `keep`: the lanes may carry other exchanges.
        """
        app_done = self._owner.app_done
        for number in numbers:
            exchange = self.occupied.pop(number, None)
            lane = self._lanes.get(number)
            if lane is not None:
                if not keep:
                    lane.condemn()
                if lane.closed:
                    self._forget(lane)
            if exchange is not None:
                self._unstarted.pop(exchange, None)
                app_done(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """Ask the reactor to give back an exchange on a lane.

        The lane carries no other exchange, so that a late message cannot concern another one.
        """
        number = self.number_of(exchange)
        if number is not None and number in self._lanes:
            self._lanes[number].condemn()
            self._say(Withdraw(number), None)

    def withdrawn(self, numbers: Iterable[int]) -> list[Exchange]:
        """Note that the reactor never begins the exchanges on these lanes, and closed them.

        Return the exchanges that may go to another reactor.
        """
        given_back = []
        for number in numbers:
            exchange = self.occupied.pop(number, None)
            lane = self._lanes.get(number)
            if lane is not None:
                lane.exchange = None
                lane.close()
                self._forget(lane)
            if exchange is not None:
                self._unstarted.pop(exchange, None)
                if self._owner.withdrawn(exchange):
                    given_back.append(exchange)
        return given_back

    def replace(self, exchange: Exchange, rest: Exchange) -> None:
        """Put the stand-in `rest` in the place of an exchange."""
        number = self.number_of(exchange)
        if number is not None:
            self.occupied[number] = rest
            if self._unstarted.pop(exchange, 0) is None:
                self._unstarted[rest] = None

    def _forget(self, lane: Lane) -> None:
        """Forget a closed lane. The reactor sends nothing more about it."""
        if self._lanes.pop(lane.number, None) is not None:
            self._free_slots.append(lane.slot)

    @property
    def unstarted(self) -> list[Exchange]:
        """The exchanges that have not begun, in the order of sending."""
        unstarted = self._unstarted
        for exchange in [each for each in unstarted if self._marks[each.slot] != NOT_BEGUN]:
            del unstarted[exchange]
        return list(unstarted)

    @property
    def waiting_for_client(self) -> int:
        """The number of exchanges on lanes that wait only for their client.

        The client must send more of the request's body, or read more of the answer.
        """
        return sum(
            lane.paused or (not exchange.whole and self._marks[lane.slot] == WAITS)
            for lane in self._lanes.values()
            if (exchange := lane.exchange) is not None
            and exchange.state is RUNNING
            and not (exchange.app_done or exchange.upgraded)
        )

    def number_of(self, exchange: Exchange) -> int | None:
        """Return the number of the lane that carries its request; None if it went express."""
        for number, other in self.occupied.items():
            if other is exchange:
                return number
        return None

    # The end of an exchange ----------------------------------------------------------------------

    def put_back(self, lane: Lane) -> None:
        """Keep a lane for another exchange, or close it if there are enough free ones."""
        free = self._free
        if len(free) < _POOL_MAX or len(free) < self._owner.capacity:
            lane.free_since = self._loop.now
            free.append(lane)
            return
        lane.close()
        self.lost(lane)

    @property
    def in_use(self) -> bool:
        """Whether any lane still carries an exchange."""
        return any(lane.exchange for lane in self._lanes.values())

    def lost(self, lane: Lane) -> None:
        """Note that a lane without an exchange has ended."""
        if lane in self._free:
            self._free.remove(lane)
        if lane.number not in self.occupied:
            self._forget(lane)

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges whose app is not done, then those whose answer is still on a lane."""
        on_lanes = [lane.exchange for lane in self._lanes.values() if lane.exchange is not None]
        return [*self.occupied.values(), *on_lanes]

    def read_to_end(self) -> None:
        """Read all that the reactor sent before it died."""
        for lane in list(self._lanes.values()):
            while (
                not lane.closed
                and lane.exchange is not None
                and (lane.postponed is not None or has_bytes(lane.sock))
            ):
                lane.read(hung_up=True)

    def end(self) -> None:
        """Close all lanes: nothing more is read or sent."""
        self._loop.forget(self._tidy)
        for lane in self._lanes.values():
            lane.close()
        for lanes in (
            self.occupied,
            self._lanes,
            self._free,
            self._unstarted,
        ):
            lanes.clear()
