"""All lanes between the front end and one reactor: who is on them, and those kept for later.

Each side opens, numbers and reuses its own. On ours a request goes out and its answer comes back;
on the reactor's come answers that outgrew the express lane.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import count
from math import inf
from typing import Final

from reactor_run.frontend.exchanges.exchange import KEPT_MAX, RUNNING, Exchange
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.reactors.lane import Lane, has_bytes
from reactor_run.protocol.control_messages import (
    AnswerMoves,
    LaneFree,
    LaneOpened,
    ToReactor,
    Withdraw,
)
from reactor_run.pulse import NOT_BEGUN, SLOTS, WAITS

__all__ = ["Lanes"]

_POOL_MAX: Final = 256
"""Free lanes kept for later, of each sort; of ours as many as the reactor takes exchanges, if that
is more. A lane is free a little later than its answer, so that more are in use than there are
exchanges; closing and opening the difference would cost more."""
_IDLE_MAX: Final = 10.0
"""Seconds after which one of ours that nobody wanted is closed, at most twice as many."""


class Lanes:
    """The lanes of one reactor."""

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        say: Callable[[ToReactor, int | None], None],
        marks: memoryview[int],
    ) -> None:
        """`say`: sends the reactor a control message, with a descriptor if one is given. `marks`:
        what the reactor tells of the exchange on each lane of ours, by the lane's slot."""
        self.occupied: dict[int, Exchange] = {}
        """The exchanges on lanes that we opened, by the lane's number, until their app is done."""
        self._loop = loop
        self._owner = owner
        self._say = say
        self._marks = marks
        self._slots = count()
        self._free_slots: list[int] = []
        self._unstarted: dict[Exchange, None] = {}
        """What has not begun, by what was seen last."""
        self._numbers = count(1)
        self._ours: dict[int, Lane] = {}
        """By number; closed ones too, until the reactor is done with them."""
        self._free: list[Lane] = []
        """Those of ours that wait for an exchange. The last one is taken, so that the first have
        waited longest."""
        self._tidy = Timer(self._close_idle)
        self._theirs: dict[int, Lane] = {}
        """Those that the reactor opened, by number."""
        self._idle: set[Lane] = set()
        """Those of them that wait for an answer."""

    @property
    def open(self) -> int:
        """How many there are, used and free."""
        return sum(not lane.closed for lane in (*self._ours.values(), *self._theirs.values()))

    # Ours ----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Send a request. Raises OSError if there is no descriptor for a lane."""
        lane = self._free.pop() if self._free else self._open()
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
        self._ours[number] = lane
        if self._tidy.deadline == inf:
            self._loop.set_deadline(self._tidy, _IDLE_MAX)
        return lane

    def _close_idle(self) -> None:
        """Close those that only a burst has wanted."""
        before = self._loop.now - _IDLE_MAX
        free = self._free
        idle = 0
        while idle < len(free) and free[idle].free_since <= before:
            idle += 1
        for lane in free[:idle]:
            lane.close()
            self._forget(lane)
        del free[:idle]
        if self._ours:
            self._loop.set_deadline(self._tidy, _IDLE_MAX)

    def done(self, numbers: Iterable[int], *, keep: bool) -> None:
        """The apps of the exchanges on these lanes of ours are done; `keep`: the lanes may carry
        others."""
        app_done = self._owner.app_done
        for number in numbers:
            exchange = self.occupied.pop(number, None)
            lane = self._ours.get(number)
            if lane is not None:
                if not keep:
                    lane.condemn()
                if lane.closed:
                    self._forget(lane)
            if exchange is not None:
                self._unstarted.pop(exchange, None)
                app_done(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """Ask for an exchange on a lane of ours. The lane carries no other after it, so that the
        word cannot come late for one."""
        number = self.number_of(exchange)
        if number is not None and number in self._ours:
            self._ours[number].condemn()
            self._say(Withdraw(number), None)

    def withdrawn(self, numbers: Iterable[int]) -> list[Exchange]:
        """The reactor has closed these lanes of ours, and never begins what is on them; return the
        exchanges that wait again."""
        given_back = []
        for number in numbers:
            exchange = self.occupied.pop(number, None)
            lane = self._ours.get(number)
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
        """Have the rest of an exchange stay in its place."""
        number = self.number_of(exchange)
        if number is not None:
            self.occupied[number] = rest
            if self._unstarted.pop(exchange, 0) is None:
                self._unstarted[rest] = None

    def _forget(self, lane: Lane) -> None:
        """A lane of ours is closed, and the reactor tells nothing more of it."""
        if self._ours.pop(lane.number, None) is not None:
            self._free_slots.append(lane.slot)

    @property
    def unstarted(self) -> list[Exchange]:
        """What has not begun, in the order in which it was sent."""
        unstarted = self._unstarted
        for exchange in [each for each in unstarted if self._marks[each.slot] != NOT_BEGUN]:
            del unstarted[exchange]
        return list(unstarted)

    @property
    def waiting_for_client(self) -> int:
        """How many exchanges wait for their clients alone, as far as this shows on lanes: to send
        more of the request's body, or to read more of the answer."""
        return sum(
            lane.paused
            or (lane.opened_here and not exchange.whole and self._marks[lane.slot] == WAITS)
            for lane in (*self._ours.values(), *self._theirs.values())
            if (exchange := lane.exchange) is not None
            and exchange.state is RUNNING
            and not exchange.app_done
        )

    def number_of(self, exchange: Exchange) -> int | None:
        """The lane of ours that its request went out on; None if it went express."""
        for number, other in self.occupied.items():
            if other is exchange:
                return number
        return None

    # Theirs --------------------------------------------------------------------------------------

    def answer_moves(self, exchange: Exchange | None, message: AnswerMoves) -> None:
        """The answer to an express exchange comes over a lane of the reactor's.

        None for the exchange: its answer is not awaited any more.
        """
        lane = None
        if message.lane is not None:
            if message.fd is not None:
                lane = self._adopt(message.fd, message.lane)
            else:
                lane = self._theirs.get(message.lane)
        if lane is not None:
            self._idle.discard(lane)
        if exchange is None:
            if lane is not None:
                lane.close()
                self._theirs.pop(lane.number, None)
        elif lane is None or lane.closed:
            limited.error("%s could not open a lane for an answer", self._owner.name)
            exchange.requester.answer_failed()
        else:
            lane.carry(exchange)

    def _adopt(self, descriptor: int, number: int) -> Lane | None:
        """A lane that the reactor opened; None if it cannot be one."""
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            limited.error("%s sent a lane that is no socket: %s", self._owner.name, error.strerror)
            os.close(descriptor)
            return None
        try:
            lane = Lane(self._loop, self._owner, self, sock, number)
        except OSError as error:
            limited.error("a lane of %s cannot be read: %s", self._owner.name, error.strerror)
            sock.close()
            return None
        self._theirs[number] = lane
        return lane

    # Both ----------------------------------------------------------------------------------------

    def put_back(self, lane: Lane) -> None:
        """A lane is ready for another exchange."""
        if lane.opened_here:
            free = self._free
            if len(free) < _POOL_MAX or len(free) < self._owner.capacity:
                lane.free_since = self._loop.now
                free.append(lane)
                return
        elif len(self._idle) < _POOL_MAX:
            self._idle.add(lane)
            self._say(LaneFree(lane.number), None)
            return
        lane.close()
        self.lost(lane)

    @property
    def in_use(self) -> bool:
        """An answer is still to be read from one of them."""
        return any(lane.exchange for lane in (*self._ours.values(), *self._theirs.values()))

    def lost(self, lane: Lane) -> None:
        """A lane without an exchange has ended."""
        if lane.opened_here:
            if lane in self._free:
                self._free.remove(lane)
            if lane.number not in self.occupied:
                self._forget(lane)
        else:
            self._idle.discard(lane)
            self._theirs.pop(lane.number, None)

    @property
    def exchanges(self) -> list[Exchange]:
        """Those whose app is not done, then those that are only on their lane: their answer is
        not."""
        lanes = (*self._ours.values(), *self._theirs.values())
        on_lanes = [lane.exchange for lane in lanes if lane.exchange is not None]
        return [*self.occupied.values(), *on_lanes]

    def read_to_end(self) -> None:
        """Take what a reactor had sent before it died."""
        for lane in [*self._ours.values(), *self._theirs.values()]:
            while (
                not lane.closed
                and lane.exchange is not None
                and (lane.postponed is not None or has_bytes(lane.sock))
            ):
                lane.read(hung_up=True)

    def end(self) -> None:
        """Nothing comes over any of them any more."""
        self._loop.forget(self._tidy)
        for lane in (*self._ours.values(), *self._theirs.values()):
            lane.close()
        for lanes in (
            self.occupied,
            self._ours,
            self._theirs,
            self._free,
            self._idle,
            self._unstarted,
        ):
            lanes.clear()
