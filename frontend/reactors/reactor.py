"""One reactor process, as the front end knows it: its control channel, its lanes, its exchanges.

    STARTING   it imports the app
    READY      it takes exchanges
    LEAVING    it takes no more, and finishes what it has
    DEAD       its process has ended

An exchange occupies the reactor from dispatch until the reactor's own word that its app is done, or
its death. On the express lane the word comes with the answer or after it; for lanes it comes over
the control channel.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from enum import Enum
from time import monotonic
from typing import Final

from reactor_run.dump import DUMP
from reactor_run.frontend.exchanges.exchange import ABANDONED, ANSWERED, OVER, RUNNING, Exchange
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.control_link import ControlLink
from reactor_run.frontend.reactors.events import ReactorEvents
from reactor_run.frontend.reactors.express_lane import SEND_BUFFER, ExpressLane
from reactor_run.frontend.reactors.lane_pool import Lanes
from reactor_run.frontend.reactors.stall_budget import Trust
from reactor_run.protocol.control_messages import (
    AnswerMoves,
    Cancel,
    CapacityChanged,
    ExpressOpened,
    Failed,
    LanesDone,
    Ping,
    Pong,
    PulseShared,
    Ready,
    RouteIsSlow,
    Stop,
    ToFrontEnd,
    TurnEnded,
)
from reactor_run.protocol.express import CANCEL, EXPRESS_MAX, FIN, GONE, WITHDRAW
from reactor_run.pulse import NOT_BEGUN, STALLED_AFTER, Pulse

__all__ = ["DEAD", "LEAVING", "READY", "STARTING", "Reactor", "ReactorState"]


class ReactorState(Enum):
    """Where a reactor process stands; see above."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    DEAD = "dead"


STARTING: Final = ReactorState.STARTING
READY: Final = ReactorState.READY
LEAVING: Final = ReactorState.LEAVING
DEAD: Final = ReactorState.DEAD

_COUNTED_FOR: Final = 0.01
"""Seconds for which a number of exchanges that wait for their clients is believed."""
_EXIT_MAX: Final = 2.0
"""Seconds for a process to exit, once it has hung up."""
_TELL: Final = 0.5
"""Seconds for a process that hangs to tell where, before it is killed."""
_NAMED_MAX: Final = 5
"""Exchanges that are named in the log when a reactor hangs."""


class Reactor:
    """A process, from its start to its end."""

    def __init__(
        self,
        loop: Loop,
        owner: ReactorEvents[Reactor],
        name: str,
        command: Callable[[int], list[str]],
        *,
        directory: str | None = None,
        generation: int = 1,
        express: bool,
    ) -> None:
        """Start it. `command` makes its command line, given the control channel's descriptor.
        `directory`: in which it starts; None for ours.

        Raises OSError if the kernel refuses any of what it takes; then nothing is left of it.
        """
        self.loop = loop
        self.owner = owner
        self.name = name
        self.generation = generation
        self.state: ReactorState = STARTING
        self.capacity = 0
        self.in_flight = 0
        """Exchanges that occupy it."""
        self._waited = 0
        """How many of them waited for their clients when they were counted."""
        self._count_again = 0.0
        self._trust = Trust()
        self._stuck: Exchange | None = None
        """One that it has had for long, and has not begun."""
        self.served = 0
        """Exchanges that it was given."""
        self.interface = ""
        self.inline = False
        """It runs its app in its loop, and hears nothing meanwhile."""
        self.ends_children = False
        """What its app has started ends with it, even if it exits in order."""
        self._hangs = False
        self.started = monotonic()
        self.deadline = self.check_at = float("inf")
        self.on_overdue: Callable[[], None] = lambda: None

        self.express: ExpressLane | None = None
        with ExitStack() as undo:
            self._start(command, directory, undo)
            self._share_pulse(undo)
            self.lanes = Lanes(loop, self, self._control.say, self._pulse.lanes)
            if express:
                self._open_express(undo)
            undo.pop_all()

    def _start(
        self, command: Callable[[int], list[str]], directory: str | None, undo: ExitStack
    ) -> None:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            self._control = ControlLink(self.loop, self, ours, self._hear)
            undo.callback(self._control.give_up)
            self.process = subprocess.Popen(
                command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
                cwd=directory,
            )
        undo.callback(self.process.wait)
        undo.callback(self.process.kill)
        self.pid = self.process.pid
        self._pidfd = os.pidfd_open(self.pid)
        undo.callback(os.close, self._pidfd)
        self.loop.watch(self._pidfd, select.EPOLLIN, self._on_exit)
        undo.callback(self.loop.unwatch, self._pidfd)

    def _share_pulse(self, undo: ExitStack) -> None:
        self._pulse, descriptor = Pulse.share()
        undo.callback(self._pulse.close)
        try:
            self._control.say(PulseShared(descriptor), descriptor)
        finally:
            os.close(descriptor)

    def _open_express(self, undo: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self.express = ExpressLane(self.loop, self, ours)
            undo.callback(self.loop.unwatch, ours.fileno())
            self._control.say(ExpressOpened(theirs.fileno()), theirs.fileno())
        self.loop.after_batch(self.express.flush)

    # Exchanges -----------------------------------------------------------------------------------

    @property
    def takes_more(self) -> bool:
        """It takes another exchange. One that waits for its client alone takes no room."""
        free = self.capacity - self.in_flight
        return free > 0 or free + self._recently_waiting > 0

    @property
    def waiting_for_client(self) -> int:
        """Of those in flight, how many wait for their clients alone. A WSGI app waits in a thread,
        which is then not free for another."""
        return 0 if self.interface == "wsgi" else self.lanes.waiting_for_client

    @property
    def _recently_waiting(self) -> int:
        """The same, as it was a moment ago: to count them takes as long as there are many."""
        now = self.loop.now
        if now >= self._count_again:
            self._count_again = now + _COUNTED_FOR
            self._waited = self.waiting_for_client
        return self._waited

    @property
    def attentive(self) -> bool:
        """What it is given now is begun at once, as far as anybody can tell.

        It is not if a step of an app keeps its loop from turning, unless it would wait as long
        behind any other (stall_budget.py); nor, while it is distrusted, if enough that it was given
        has not begun: that may be the next slow step.
        """
        since = self._pulse.since[0]
        now = self.loop.now
        if since != 0.0 and now - since > STALLED_AFTER:
            usual = self._trust.usual if now <= self._trust.until else 0.0
            if now - since > usual:
                return False
        if self._stuck is not None and self.is_behind:
            return False
        return now > self._trust.until or self._trust.allows(len(self.unstarted))

    @property
    def is_behind(self) -> bool:
        """Something has waited in it for so long that others should rather have it."""
        stuck = self._stuck
        if stuck is not None and (stuck.app_done or self.has_begun(stuck)):
            stuck = self._stuck = None
        return stuck is not None

    def falls_behind(self, stuck: Exchange) -> None:
        """It has not begun this exchange for long; until it does, or gives it back, it is behind
        with its work."""
        self._stuck = stuck

    @property
    def step_began(self) -> float:
        """When the step of an app that runs began, by the monotonic clock; 0.0 between steps."""
        return self._pulse.since[0]

    def has_begun(self, exchange: Exchange) -> bool:
        """Whether its app was called, or is about to be. Not to be asked once its app is done."""
        if exchange.number:
            return exchange.number <= self._pulse.begun[0]
        return self._pulse.lanes[exchange.slot] != NOT_BEGUN

    @property
    def unstarted(self) -> list[Exchange]:
        """What it was given and has not begun, also where the client has left since."""
        if self.state is DEAD:
            return []
        lanes = self.lanes.unstarted
        return lanes if self.express is None else self.express.behind(self._pulse.begun[0]) + lanes

    @property
    def begun(self) -> list[Exchange]:
        """What has begun and has no whole answer."""
        return [each for each in self.exchanges if each.state is RUNNING and self.has_begun(each)]

    def start(self, exchange: Exchange) -> None:
        """Give it an exchange. Raises OSError if there is no descriptor for the lane it needs."""
        exchange.reactor = self
        express = self.express
        if (
            exchange.whole
            and express is not None
            and exchange.spool is None
            and len(exchange.request) <= EXPRESS_MAX
            and not exchange.head.upgrade
        ):
            express.carry(exchange)
        else:
            self.lanes.carry(exchange)
        exchange.state = RUNNING
        exchange.dispatched = self.loop.now
        self.in_flight += 1
        self.served += 1

    @property
    def idle(self) -> bool:
        """No app runs in it, and nothing of an answer is still to be read from it."""
        return not self.in_flight and not self.lanes.in_use

    def client_sent_fin(self, exchange: Exchange) -> None:
        """The client asks for nothing more."""
        if exchange.number and self.express is not None:
            self.express.tell(exchange.number, FIN)
        elif exchange.lane is not None:
            exchange.lane.half_close()

    def cancel(self, exchange: Exchange) -> None:
        """It has lasted too long: end its app, as far as that can be done."""
        if exchange.app_done:
            return
        begun = self.has_begun(exchange)
        number = self.lanes.number_of(exchange)
        if number is not None:
            self._control.say(Cancel(number))
        if exchange.state is RUNNING:
            self.abandon(exchange, CANCEL)
        elif exchange.number and self.express is not None:
            self.express.tell(exchange.number, CANCEL)
        if not begun:
            # Whatever keeps it waiting, it is not that.
            return
        if self.inline:
            self.hangs(f"has no end of {exchange.name}")
        elif self.interface == "wsgi":
            self.owner.reactor_spent(self, f"a thread of it has no end of {exchange.name}")

    def abandon(self, exchange: Exchange, word: int = GONE) -> None:
        """Nobody reads the answer any more. The app still occupies the reactor until it is done.

        `word`: what it is told of an exchange that went express.
        """
        exchange.state = ABANDONED
        exchange.request = b""
        lane, exchange.lane = exchange.lane, None
        if lane is not None:
            lane.abandon()
        if exchange.number and self.express is not None:
            self.express.tell(exchange.number, word)
        self._end_if_over(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """Ask for an exchange, which it may begin in this moment: it gives back what it has not
        begun, and says so."""
        exchange.withdrawing = True
        if exchange.number and self.express is not None:
            self.express.tell(exchange.number, WITHDRAW)
        else:
            self.lanes.withdraw(exchange)

    def withdrawn(self, exchange: Exchange) -> bool:
        """The reactor's word that it never begins an exchange; whether that waits for another."""
        exchange.app_done = True
        self.in_flight -= 1
        if exchange.state is RUNNING:
            return True
        exchange.state = OVER
        return False

    def gave_back(self, exchanges: list[Exchange]) -> None:
        """Others are to be given these exchanges."""
        self.owner.reactor_gave_back(self, exchanges)

    def hand_off(self, exchange: Exchange) -> Exchange:
        """Let an exchange be answered by another reactor, although this one may begin it in this
        moment: its answer is not wanted any more. Return what stays of it here."""
        rest = exchange.leave_behind()
        if exchange.number and self.express is not None:
            self.express.exchanges[exchange.number] = rest
        else:
            self.lanes.replace(exchange, rest)
        self.abandon(rest)
        return rest

    def answered(self, exchange: Exchange) -> None:
        """The answer has come whole."""
        exchange.state = ANSWERED
        exchange.request = b""
        lane = exchange.lane
        if lane is not None:
            if not lane.opened_here:
                exchange.lane = None
                lane.release()
            elif not exchange.whole:
                # The client's rest is dropped. An app that reads on must not wait for it.
                lane.half_close()
        if exchange.app_done:
            self._end_if_over(exchange)

    def app_done(self, exchange: Exchange) -> None:
        """The reactor's word on an exchange: its capacity is free."""
        if not exchange.app_done:
            exchange.app_done = True
            self.in_flight -= 1
            if exchange.state is not RUNNING:
                self._end_if_over(exchange)
            elif exchange.lane is not None and exchange.lane.ended:
                # Its lane has ended before the answer began: there will be none.
                exchange.requester.answer_failed()

    def has_room(self) -> None:
        """Some of its exchanges are over."""
        self.owner.reactor_has_room(self)

    def _end_if_over(self, exchange: Exchange) -> None:
        """Once the app is done and nobody waits for the answer, the exchange is over."""
        if exchange.app_done and exchange.state in (ANSWERED, ABANDONED):
            exchange.state = OVER
            if exchange.number and self.express is not None:
                self.express.exchanges.pop(exchange.number, None)
            lane, exchange.lane = exchange.lane, None
            if lane is not None:
                lane.release()

    # The control channel -------------------------------------------------------------------------

    def read_control(self) -> None:
        """Handle all control messages that are there."""
        self._control.read()

    def _hear(self, message: ToFrontEnd) -> None:
        match message:
            case LanesDone(done, drop, withdrawn):
                self.lanes.done(done, keep=True)
                self.lanes.done(drop, keep=False)
                given_back = self.lanes.withdrawn(withdrawn)
                if given_back:
                    self.gave_back(given_back)
                self.has_room()
            case AnswerMoves(number):
                exchange = None if self.express is None else self.express.running(number)
                self.lanes.answer_moves(exchange, message)
            case TurnEnded(seconds):
                begun = self.served - len(self.unstarted)
                self._trust.turned(seconds, begun, self.loop.now)
                self.has_room()
            case RouteIsSlow(route, seconds):
                self.owner.reactor_found_slow(route, seconds)
            case Pong():
                self.owner.reactor_answered(self)
            case CapacityChanged(capacity):
                self.capacity = capacity
                log.debug("%s takes %d exchanges at once", self.name, capacity)
                self.has_room()
            case Ready(interface, capacity, inline):
                if self.state is STARTING:
                    self.interface = interface
                    self.capacity = capacity
                    self.inline = inline
                    self.state = READY
                    self.owner.reactor_ready(self)
            case Failed(line, details):
                self.owner.reactor_failed(self, line, details)

    # The process ---------------------------------------------------------------------------------

    def on_deadline(self) -> None:
        """It had time enough for what it was to do."""
        self.on_overdue()

    def leave(self) -> None:
        """Let it take no more exchanges."""
        if self.state in (STARTING, READY):
            self.state = LEAVING

    def stop(self, seconds: float) -> None:
        """Let it shut its app down, which may take so long, and exit."""
        self.leave()
        self._control.say(Stop(seconds))

    def on_fault(self) -> None:
        """Nobody knows what was heard of it."""
        self.kill()

    def kill(self) -> None:
        """End it at once, and what its app has started in its process group."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        """Signal the process and its app's children, but for those that have left its group."""
        # Until its status is taken, no other process and no other group can have its number.
        if self.state is not DEAD:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def see_dead(self, seconds: float) -> None:
        """Block until it has ended, at most so long."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.error("%s, process %d, was killed and is still there", self.name, self.pid)

    def hung_up(self) -> None:
        """It is dead, or as good as dead; its pidfd will tell. Nothing more is to be sent to it."""
        if self.state in (STARTING, READY):
            self._end_within(_EXIT_MAX)

    def hangs(self, why: str, suspects: Iterable[Exchange] = ()) -> None:
        """It does nothing any more, for all we know: have it tell where that is, and end it.

        `suspects`: one of these is the reason, and the log names them.
        """
        if self._hangs:
            return
        self._hangs = True
        suspects = list(suspects)
        names = [exchange.name for exchange in suspects[:_NAMED_MAX]]
        log.error(
            "%s %s; what its threads do follows, then it is killed%s",
            self.name,
            why,
            f". It had {len(suspects)} exchanges: {', '.join(names)}" if names else "",
        )
        os.kill(self.pid, DUMP)
        self._end_within(_TELL)

    def _end_within(self, seconds: float) -> None:
        self.on_overdue = self.kill
        self.loop.set_deadline(self, seconds)
        if self.state in (STARTING, READY):
            self.state = LEAVING
            self.owner.reactor_ended(self)

    def ping(self) -> None:
        """Have it show that its loop turns."""
        self._control.say(Ping(1))

    def _on_exit(self, _: int) -> None:
        """The process has ended. What it sent before is read first."""
        loop = self.loop
        self.hung_up()
        self._end_children()
        self.state = DEAD
        if self.express is not None:
            self.express.read_to_end()
        self._control.read_to_end()
        self.lanes.read_to_end()
        left, begun = self._left_over()
        self.in_flight = 0
        self.lanes.end()

        loop.forget(self)
        loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._pulse.close()
        self._control.end()
        if self.express is not None:
            self.express.end()
            loop.not_after_batch(self.express.flush)
        self.owner.reactor_left(self, left, begun)
        self.owner.reactor_died(self, self.process.wait())

    def _end_children(self) -> None:
        """End what its app has left in its process group, unless it was to go on.

        A reactor that exits in order ends its daemon children itself. One that is killed or crashes
        does not, and they would wait for it for ever.
        """
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or (ended.si_code, ended.si_status) != (os.CLD_EXITED, 0):
            self._signal_group(signal.SIGKILL)
        elif self.ends_children:
            self._signal_group(signal.SIGTERM)

    def _left_over(self) -> tuple[list[Exchange], set[Exchange]]:
        """The exchanges that wait for an answer, in order, and those of them that have begun."""
        left = []
        begun = set(self.begun)
        for exchange in self.exchanges:
            exchange.app_done = True
            self._end_if_over(exchange)
            if exchange.state is RUNNING:
                left.append(exchange)
        return left, begun

    @property
    def exchanges(self) -> list[Exchange]:
        """All that are not over, in order."""
        express = () if self.express is None else self.express.exchanges.values()
        return list(dict.fromkeys((*express, *self.lanes.exchanges)))
