"""Owns all lanes between the front end and one reactor, in use or free.

Each side opens, numbers and reuses its own lanes. A lane of the front end carries a request and its
answer. A lane of the reactor carries an answer that is too large for the express lane.
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

__all__ = ["LanePool"]

_POOL_MAX: Final = 256
"""The most free lanes that are kept of each side. Of the front end's lanes as many are kept as the
capacity of the reactor, if that is more. A lane becomes free a little later than its answer, so
that more lanes are in use than exchanges. To close and open the difference would cost more."""
_IDLE_MAX: Final = 10.0
"""Seconds after which an unused lane of the front end is closed; it may take twice as long."""


class LanePool:
    """The lanes of one reactor. `ours` are those that the front end opened."""

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        say: Callable[[ToReactor, int | None], None],
        marks: memoryview[int],
    ) -> None:
        """`say`: sends the reactor a control message, with a descriptor if one is given. `marks`:
        shared memory where the reactor marks the state of the exchange on each lane of ours, by
        slot."""
        self.occupied: dict[int, Exchange] = {}
        """By number of the lane: the exchanges on lanes of ours, until their app is done."""
        self._loop = loop
        self._owner = owner
        self._say = say
        self._marks = marks
        self._slots = count()
        self._free_slots: list[int] = []
        self._unstarted: dict[Exchange, None] = {}
        """Exchanges that had not begun when the marks were last read, in the order of sending."""
        self._numbers = count(1)
        self._ours: dict[int, Lane] = {}
        """By number: the lanes that the front end opened. A closed lane stays until the reactor is
        done with it."""
        self._free: list[Lane] = []
        """Free lanes of ours. The last one is used next, so the first one has been free longest."""
        self._tidy = Timer(self._close_idle)
        self._theirs: dict[int, Lane] = {}
        """By number: the lanes that the reactor opened."""
        self._idle: set[Lane] = set()
        """Free lanes of the reactor."""

    @property
    def open(self) -> int:
        """The number of open lanes, used and free."""
        return sum(not lane.closed for lane in (*self._ours.values(), *self._theirs.values()))

    # Ours ----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Send a request over a lane. Raises OSError if there is no descriptor for a lane."""
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
        if self._ours:
            self._loop.set_deadline(self._tidy, _IDLE_MAX)

    def done(self, numbers: Iterable[int], *, keep: bool) -> None:
        """Note that the apps of the exchanges on these lanes of ours are done.

        `keep`: the lanes may carry other exchanges.
        """
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
        """Ask the reactor to give back an exchange on a lane of ours.

        The lane carries no other exchange, so that a late message cannot concern another one.
        """
        number = self.number_of(exchange)
        if number is not None and number in self._ours:
            self._ours[number].condemn()
            self._say(Withdraw(number), None)

    def withdrawn(self, numbers: Iterable[int]) -> list[Exchange]:
        """Note that the reactor never begins the exchanges on these lanes of ours, and closed them.

        Return the exchanges that may go to another reactor.
        """
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
        """Put the stand-in `rest` in the place of an exchange."""
        number = self.number_of(exchange)
        if number is not None:
            self.occupied[number] = rest
            if self._unstarted.pop(exchange, 0) is None:
                self._unstarted[rest] = None

    def _forget(self, lane: Lane) -> None:
        """Forget a closed lane of ours. The reactor sends nothing more about it."""
        if self._ours.pop(lane.number, None) is not None:
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
            lane.paused
            or (lane.opened_here and not exchange.whole and self._marks[lane.slot] == WAITS)
            for lane in (*self._ours.values(), *self._theirs.values())
            if (exchange := lane.exchange) is not None
            and exchange.state is RUNNING
            and not exchange.app_done
        )

    def number_of(self, exchange: Exchange) -> int | None:
        """Return the number of the lane that carries its request; None if it went express."""
        for number, other in self.occupied.items():
            if other is exchange:
                return number
        return None

    # Theirs --------------------------------------------------------------------------------------

    def answer_moves(self, exchange: Exchange | None, message: AnswerMoves) -> None:
        """Note that the answer to an express exchange arrives over a lane of the reactor.

        `exchange`: None if the answer is not awaited any more.
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
        """Return a new lane that the reactor opened; None if the descriptor cannot be used."""
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            limited.error(
                "%s sent a lane that is not a socket: %s", self._owner.name, error.strerror
            )
            os.close(descriptor)
            return None
        try:
            lane = Lane(self._loop, self._owner, self, sock, number)
        except OSError as error:
            limited.error("cannot watch a lane of %s: %s", self._owner.name, error.strerror)
            sock.close()
            return None
        self._theirs[number] = lane
        return lane

    # Both ----------------------------------------------------------------------------------------

    def put_back(self, lane: Lane) -> None:
        """Keep a lane for another exchange, or close it if there are enough free ones."""
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
        """Whether any lane still carries an exchange."""
        return any(lane.exchange for lane in (*self._ours.values(), *self._theirs.values()))

    def lost(self, lane: Lane) -> None:
        """Note that a lane without an exchange has ended."""
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
        """The exchanges whose app is not done, then those whose answer is still on a lane."""
        lanes = (*self._ours.values(), *self._theirs.values())
        on_lanes = [lane.exchange for lane in lanes if lane.exchange is not None]
        return [*self.occupied.values(), *on_lanes]

    def read_to_end(self) -> None:
        """Read all that the reactor sent before it died."""
        for lane in [*self._ours.values(), *self._theirs.values()]:
            while (
                not lane.closed
                and lane.exchange is not None
                and (lane.postponed is not None or has_bytes(lane.sock))
            ):
                lane.read(hung_up=True)

    def end(self) -> None:
        """Close all lanes: nothing more is read or sent."""
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
