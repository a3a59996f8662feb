"""One reactor process, as the front end sees it, with its links and its exchanges.

    STARTING   it imports the app
    READY      it takes exchanges
    RETIRING   it takes no more exchanges, and finishes those that it has
    DEAD       its process has ended

An exchange occupies the reactor from dispatch until the reactor says that the app is done, or dies.
The express lane carries this message with the answer, or apart from it. For exchanges on plain
lanes it arrives over the control channel.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from enum import Enum
from time import monotonic
from typing import Final

from reactor_run.frontend.exchanges.exchange import ABANDONED, ANSWERED, OVER, RUNNING, Exchange
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.attention import Attention
from reactor_run.frontend.reactors.birth import Birth
from reactor_run.frontend.reactors.control_link import ControlLink
from reactor_run.frontend.reactors.events import ReactorEvents
from reactor_run.frontend.reactors.express_lane import SEND_BUFFER, ExpressLane
from reactor_run.frontend.reactors.lane_pool import LanePool
from reactor_run.frontend.reactors.open_websockets import OpenWebSockets
from reactor_run.frontend.reactors.process import ChildProcess, Command
from reactor_run.frontend.reactors.shared_clients import SharedClients
from reactor_run.frontend.reactors.terminal_loan import TerminalLoan
from reactor_run.frontend.reactors.zygote import Zygote
from reactor_run.offers import TAKEN, WRITTEN
from reactor_run.protocol.control_messages import (
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
    TerminalUsed,
    ToFrontEnd,
    TurnEnded,
)
from reactor_run.protocol.express import CANCEL, FIN, GONE, WITHDRAW
from reactor_run.pulse import Pulse

__all__ = ["DEAD", "READY", "RETIRING", "STARTING", "Reactor", "ReactorState"]


class ReactorState(Enum):
    """The state of a reactor process; the head of this file explains each."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "leaving"
    DEAD = "dead"


STARTING: Final = ReactorState.STARTING
READY: Final = ReactorState.READY
RETIRING: Final = ReactorState.RETIRING
DEAD: Final = ReactorState.DEAD

_COUNTED_FOR: Final = 0.01
"""Seconds for which the number of exchanges that wait for their clients is not counted again."""
_EXIT_MAX: Final = 2.0
"""Seconds that a process has to exit after it closed a link."""
_DUMP_MAX: Final = 0.5
"""Seconds that a stalled process has to write its stacks before it is killed."""
_NAMED_MAX: Final = 5
"""The most exchanges that the log names when a stalled reactor is killed."""


class Reactor:
    """A reactor process, from its start to its end."""

    def __init__(
        self,
        loop: Loop,
        owner: ReactorEvents[Reactor],
        name: str,
        command: Callable[[int], Command],
        *,
        directory: str | None = None,
        generation: int = 1,
        express: bool,
        direct: bool = False,
        terminal: TerminalLoan | None = None,
        zygote: Zygote | None = None,
        multiprocess: bool = False,
    ) -> None:
        """Start the process. `command`: makes its command line from the descriptor of its control
        channel. `directory`: where it starts; None: the current directory. `terminal`: what it gets
        as standard input; None: nothing. `zygote`: forks the process later; None: the command is
        executed now. `multiprocess`: other reactors run the app too.

        Raises OSError if the kernel refuses a part of that. Then no part of it is left.
        """
        self.loop = loop
        self.owner = owner
        self.name = name
        self.generation = generation
        self.state: ReactorState = STARTING
        self.capacity = 0
        self.in_flight = 0
        """The exchanges that occupy it."""
        self._waited = 0
        """The number of exchanges that waited only for their clients at the last count."""
        self._count_again = 0.0
        """When to count them again, in seconds of the loop's clock."""
        self.interface = ""
        self.runtime = ""
        """The runtime of an ASGI app."""
        self.runtime_reason = ""
        """Why the reactor chose this runtime; empty if the operator did."""
        self.inline = False
        """It runs its app in its loop, and reads nothing meanwhile."""
        self.ends_children = False
        """The children of its app end with it, even if it exits in order."""
        self.at_terminal = False
        """Its app uses the terminal: it may stall without limit."""
        self._terminal = terminal
        self._stalled = False
        """It was found to be stalled, and will be killed."""
        self.started = monotonic()
        self.deadline = self.check_at = float("inf")
        self.on_overdue: Callable[[], None] = lambda: None

        self.express: ExpressLane | None = None
        self._birth = Birth(
            loop,
            self,
            command,
            directory=directory,
            on_terminal=terminal is not None,
            zygote=zygote,
        )
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                self._control = ControlLink(self.loop, self, ours, self._hear)
                undo.callback(self._control.give_up)
                if zygote is None:
                    undo.callback(self._birth.start(theirs).abandon)
                self._share_pulse(undo)
                self.open_websockets = OpenWebSockets(loop, self._control.say)
                self.lanes = LanePool(loop, self, self._control.say, self._pulse.lanes)
                self.clients = SharedClients(self._control.say)
                if express:
                    self._open_express(undo, direct=direct)
                if zygote is not None:
                    self._birth.ask_zygote(theirs, multiprocess=multiprocess)
            undo.pop_all()

    def _share_pulse(self, undo: ExitStack) -> None:
        self._pulse, descriptor = Pulse.share()
        undo.callback(self._pulse.close)
        self._attention = Attention(self.loop, self._pulse, lambda: self.unstarted)
        try:
            self._control.say(PulseShared(descriptor), descriptor)
        finally:
            os.close(descriptor)

    def _open_express(self, undo: ExitStack, *, direct: bool) -> None:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self.express = ExpressLane(
                self.loop, self, ours, self.clients, self._pulse, direct=direct
            )
            undo.callback(self.loop.unwatch, ours.fileno())
            self._control.say(ExpressOpened(theirs.fileno()), theirs.fileno())
        self.loop.after_batch(self.express.flush)

    @property
    def pid(self) -> int:
        """The number of its process; 0: there is none yet."""
        return self._birth.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status of its process, negative for a signal; None until it was waited for."""
        process = self._birth.process
        return None if process is None else process.status

    # Exchanges -----------------------------------------------------------------------------------

    @property
    def served(self) -> int:
        """The number of exchanges that it was given since its start."""
        return self.lanes.carried if self.express is None else self.express.carried

    @property
    def takes_more(self) -> bool:
        """Whether it has room for an exchange. One that waits only for its client takes no room."""
        free = self.capacity - self.in_flight
        return free > 0 or free + self._recently_waiting > 0

    @property
    def waiting_for_client(self) -> int:
        """The number of exchanges in flight that wait only for their clients.

        0 for WSGI: there an exchange that waits still occupies a thread.
        """
        if self.interface == "wsgi":
            return 0
        express = 0 if self.express is None else self.express.waiting_for_client
        return express + self.lanes.waiting_for_client

    @property
    def _recently_waiting(self) -> int:
        """`waiting_for_client`, as it was at most _COUNTED_FOR ago: the count takes linear time."""
        now = self.loop.now
        if now >= self._count_again:
            self._count_again = now + _COUNTED_FOR
            self._waited = self.waiting_for_client
        return self._waited

    @property
    def websockets(self) -> int:
        """The number of its WebSockets: exchanges that occupy no capacity."""
        return self.open_websockets.count

    @property
    def attentive(self) -> bool:
        """Whether it would begin an exchange at once, as far as the front end can tell."""
        return self._attention.attentive

    def falls_behind(self, stuck: Exchange) -> None:
        """Note that it has not begun `stuck` for long. Until it does, it is not attentive."""
        self._attention.falls_behind(stuck)

    @property
    def step_began(self) -> float:
        """When the running step of an app began, in seconds of CLOCK_MONOTONIC; 0.0: none runs."""
        return self._attention.step_began

    def step_seconds(self, now: float) -> float:
        """Return how long the running step of an app has run, in seconds; 0.0: none runs.

        `now`: the time in seconds of the loop's clock.
        """
        return 0.0 if self.state is DEAD else self._attention.step_seconds(now)

    @property
    def stall_seconds(self) -> float:
        """The seconds of all steps of apps that have stalled its loop, and are over."""
        return self._attention.stall_seconds

    def has_begun(self, exchange: Exchange) -> bool:
        """Return whether the app of an exchange was called, or is about to be.

        Do not call this once the app is done.
        """
        return self._attention.has_begun(exchange)

    @property
    def unstarted(self) -> list[Exchange]:
        """The exchanges that it was given and has not begun, orphaned ones included."""
        if self.state is DEAD:
            return []
        lanes = self.lanes.unstarted
        return lanes if self.express is None else self.express.behind(self._pulse.begun[0]) + lanes

    @property
    def begun(self) -> list[Exchange]:
        """The exchanges that have begun and have no whole answer, WebSockets apart."""
        return [
            each
            for each in self.exchanges
            if each.state is RUNNING and not each.upgraded and self.has_begun(each)
        ]

    @property
    def running(self) -> list[Exchange]:
        """The exchanges whose app was called and is not done, WebSockets apart."""
        if self.state is DEAD:
            return []
        return [
            each
            for each in self.exchanges
            if not (each.app_done or each.upgraded) and self.has_begun(each)
        ]

    def start(self, exchange: Exchange) -> None:
        """Send it an exchange. Raises OSError if there is no descriptor for a plain lane."""
        exchange.reactor = self
        if self.express is not None:
            self.express.carry(exchange)
        else:
            self.lanes.carry(exchange)
        exchange.state = RUNNING
        exchange.dispatched = self.loop.now
        self.in_flight += 1

    @property
    def idle(self) -> bool:
        """Whether no app runs in it, and no answer is still to be read from it."""
        express = self.express
        return (
            not self.in_flight
            and not self.lanes.in_use
            and (express is None or not express.exchanges)
        )

    def client_sent_fin(self, exchange: Exchange) -> None:
        """Pass on that the client sends nothing more."""
        if exchange.lane is not None:
            exchange.lane.half_close()
        else:
            self._tell(exchange, FIN)

    def _tell(self, exchange: Exchange, word: int) -> bool:
        """Send a message of the kind `word` about an exchange, if it went express.

        Returns False for an exchange on a plain lane.
        """
        if not exchange.number or self.express is None:
            return False
        self.express.tell(exchange.number, word)
        return True

    def take_back(self, exchange: Exchange) -> bool:
        """Withdraw the offer of an exchange, if it has one.

        Return False if the reactor writes the answer already.
        """
        if exchange.offered:
            assert self.express is not None
            exchange.offered = not self.express.offers.withdraw(exchange.number)
        return not exchange.offered

    def cancel(self, exchange: Exchange) -> None:
        """End the app of an exchange that takes too long, as far as that is possible.

        An app in a coroutine is cancelled. A WSGI app cannot be cancelled: its reactor is replaced
        if the app runs in a thread, and killed if it runs in the loop.
        """
        if exchange.app_done:
            return
        begun = self.has_begun(exchange)
        number = self.lanes.number_of(exchange)
        if number is not None:
            self._control.say(Cancel(number))
        if exchange.state is RUNNING:
            self.abandon(exchange, CANCEL)
        else:
            self._tell(exchange, CANCEL)
        if not begun:
            # Another exchange occupies the reactor, not this one.
            return
        if self.inline:
            self.kill_stalled(f"{exchange.name} takes too long")
        elif self.interface == "wsgi":
            self.owner.reactor_spent(self, f"{exchange.name} occupies a thread for too long")

    def abandon(self, exchange: Exchange, word: int = GONE) -> None:
        """Stop reading the answer. The exchange occupies the reactor until its app is done.

        `word`: the kind of the message to the reactor, if the exchange went express.
        """
        exchange.state = ABANDONED
        exchange.request = b""
        lane, exchange.lane = exchange.lane, None
        if lane is not None:
            lane.abandon()
        self._tell(exchange, word)
        self._end_if_over(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """Ask the reactor to give back an exchange unless it has begun it.

        It may begin the exchange before it reads this.
        """
        exchange.withdrawing = True
        if not self._tell(exchange, WITHDRAW):
            self.lanes.withdraw(exchange)

    def withdrawn(self, exchange: Exchange) -> bool:
        """Note that the reactor never begins an exchange; return whether another may get it."""
        exchange.app_done = True
        self.in_flight -= 1
        if exchange.state is RUNNING:
            return True
        exchange.state = OVER
        return False

    def gave_back(self, exchanges: list[Exchange]) -> None:
        """Pass on that other reactors must get these exchanges."""
        self.owner.reactor_gave_back(self, exchanges)

    def hand_off(self, exchange: Exchange) -> Exchange:
        """Let another reactor answer an exchange; return a stand-in that still occupies this one.

        This reactor may begin the exchange all the same. Its answer is dropped then.
        """
        rest = exchange.leave_behind()
        if exchange.number and self.express is not None:
            self.express.exchanges[exchange.number] = rest
        else:
            self.lanes.replace(exchange, rest)
        self.abandon(rest)
        return rest

    def upgraded(self, exchange: Exchange) -> None:
        """Note that the connection of an exchange is a WebSocket now: it occupies no capacity."""
        if not exchange.app_done:
            # Otherwise its place is free already: on a plain lane, the end may come before the 101.
            self.in_flight -= 1
        self.open_websockets.opened()
        self.has_room()

    def answered(self, exchange: Exchange) -> None:
        """Note that the answer of an exchange has arrived whole."""
        exchange.state = ANSWERED
        exchange.request = b""
        if exchange.lane is not None:
            exchange.lane.answered()
        if exchange.app_done:
            self._end_if_over(exchange)

    def app_done(self, exchange: Exchange) -> None:
        """Note that the app of an exchange is done: its place is free."""
        if not exchange.app_done:
            exchange.app_done = True
            if not exchange.upgraded:
                self.in_flight -= 1
            if exchange.state is not RUNNING:
                self._end_if_over(exchange)
            elif exchange.lane is not None and exchange.lane.ended:
                # Its lane ended before an answer began, so there will be none.
                exchange.requester.answer_failed()

    def has_room(self) -> None:
        """Report that some of its exchanges are over."""
        self.owner.reactor_has_room(self)

    def _end_if_over(self, exchange: Exchange) -> None:
        """End an exchange whose app is done and whose answer is complete or not awaited."""
        if exchange.app_done and exchange.state in (ANSWERED, ABANDONED):
            exchange.state = OVER
            if exchange.number and self.express is not None:
                self.express.exchanges.pop(exchange.number, None)
            lane, exchange.lane = exchange.lane, None
            if lane is not None:
                lane.release()
            if exchange.upgraded:
                self.open_websockets.over()
                exchange.requester.websocket_over(exchange)

    # The control channel -------------------------------------------------------------------------

    def read_control(self) -> None:
        """Handle all control messages that have arrived."""
        self._control.read()

    def _hear(self, message: ToFrontEnd) -> None:
        match message:
            case LanesDone(done, drop, withdrawn, websockets):
                self.lanes.summarize(websockets)
                self.lanes.done(done, keep=True)
                self.lanes.done(drop, keep=False)
                given_back = self.lanes.withdrawn(withdrawn)
                if given_back:
                    self.gave_back(given_back)
                self.has_room()
            case TurnEnded(seconds):
                self._attention.turned(seconds, self.served)
                self.has_room()
            case RouteIsSlow(route, seconds):
                self.owner.reactor_found_slow(route, seconds)
            case Pong():
                self.owner.reactor_answered(self)
            case CapacityChanged(capacity):
                self.capacity = capacity
                log.debug("%s: the capacity is now %d exchanges", self.name, capacity)
                self.has_room()
            case Ready(interface, capacity, inline, runtime, reason):
                if self.state is STARTING:
                    self.interface = interface
                    self.runtime = runtime
                    self.runtime_reason = reason
                    self.capacity = capacity
                    self.inline = inline
                    self.state = READY
                    self.owner.reactor_ready(self)
            case TerminalUsed(begins):
                self.at_terminal = begins
                if self._terminal is not None:
                    (self._terminal.lend if begins else self._terminal.given_back)(self.pid)
            case Failed(line, details):
                self.owner.reactor_failed(self, line, details)

    # The process ---------------------------------------------------------------------------------

    def born(self) -> None:
        """Pass on that a zygote has forked its process, or that it was started instead."""
        self.owner.reactor_started(self)

    def never_born(self, status: int, message: str, details: str | None) -> None:
        """Note that there will be no process.

        `status`: as if there had been one. `message`, `details`: why; empty: it was not wanted.
        """
        if self.state is DEAD:
            return
        if message:
            self.owner.reactor_failed(self, message, details)
        self.hung_up()
        self._end()
        self.owner.reactor_died(self, status)

    def on_deadline(self) -> None:
        """Call `on_overdue`: the time for the present step of its life is over."""
        self.on_overdue()

    def retire(self) -> None:
        """Give it no more exchanges. It finishes those that it has."""
        if self.state in (STARTING, READY):
            self.state = RETIRING

    def stop(self, seconds: float) -> None:
        """Tell it to shut its app down within `seconds`, and to exit."""
        self.retire()
        self._control.say(Stop(seconds))

    def on_fault(self) -> None:
        """Kill it after an internal error: some of its messages may be lost."""
        self.kill()

    def kill(self) -> None:
        """Kill it, with the children of its app in its process group."""
        if self.state is not DEAD:
            self._birth.kill()

    def see_dead(self, seconds: float) -> None:
        """Block until it has ended, for at most `seconds`."""
        self._birth.see_dead(seconds)

    def hung_up(self) -> None:
        """Note that it closed a link: it is dead or about to die. The pidfd reports its end."""
        if self.state in (STARTING, READY):
            self._end_within(_EXIT_MAX)

    def kill_stalled(self, why: str, suspects: Iterable[Exchange] = ()) -> None:
        """Have a stalled process write its stacks, then kill it.

        `why`: the reason, for the log. `suspects`: the exchanges of which one may be the cause. The
        log names them.
        """
        if self._stalled:
            return
        self._stalled = True
        suspects = list(suspects)
        names = [exchange.name for exchange in suspects[:_NAMED_MAX]]
        log.error(
            "%s (pid %d): %s, killing it after it has written its stacks%s",
            self.name,
            self.pid,
            why,
            f"; {len(suspects)} begun exchanges: {', '.join(names)}" if names else "",
        )
        self._birth.dump()
        self._end_within(_DUMP_MAX)

    def _end_within(self, seconds: float) -> None:
        self.on_overdue = self.kill
        self.loop.set_deadline(self, seconds)
        if self.state in (STARTING, READY):
            self.state = RETIRING
            self.owner.reactor_ended(self)

    def ping(self) -> None:
        """Send a ping. It answers when its loop turns."""
        self._control.say(Ping(1))

    def exited(self, process: ChildProcess) -> None:
        """Handle the end of the process."""
        self.hung_up()
        process.signal_children(orderly=self.ends_children)
        self._end()
        process.end()
        self.owner.reactor_died(self, process.wait())

    def _end(self) -> None:
        """End its links and its exchanges. All that it sent before is read first."""
        loop = self.loop
        self.state = DEAD
        if self._terminal is not None:
            self._terminal.reclaim(self.pid)
        self._read_to_end()
        left, begun = self._left_over()
        self.in_flight = 0
        self.lanes.end()

        loop.forget(self)
        self._pulse.close()
        self._control.end()
        self.clients.end()
        if self.express is not None:
            self.express.end()
            loop.not_after_batch(self.express.flush)
        self.owner.reactor_left(self, left, begun)

    def _read_to_end(self) -> None:
        """Read all that the process sent before it ended.

        An internal error here costs what is unread. Without the guard the end would be handled
        again and again, as the pidfd stays readable.
        """
        try:
            if self.express is not None:
                self.express.read_to_end()
            self._control.read_to_end()
            self.lanes.read_to_end()
        except Exception:
            log.exception("internal error, please report it")

    def _left_over(self) -> tuple[list[Exchange], set[Exchange]]:
        """Return the unanswered exchanges, in order, and those that have begun."""
        left = []
        begun = set(self.begun)
        for exchange in self.exchanges:
            exchange.app_done = True
            self._end_if_over(exchange)
            if exchange.state is RUNNING and exchange.offered:
                self._settle_offer(exchange)
            if exchange.state is RUNNING:
                left.append(exchange)
        return left, begun

    def _settle_offer(self, exchange: Exchange) -> None:
        """Find out what the dead process has done with an offer of which it has told nothing."""
        assert self.express is not None
        state = self.express.offers.state(exchange.number)
        exchange.offered = False
        if state == WRITTEN:
            exchange.state = OVER
            del self.express.exchanges[exchange.number]
            exchange.requester.direct_whole(0, b"")
        elif state == TAKEN:
            exchange.request = b""
            exchange.requester.direct_unknown()

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges that are not over, in order."""
        express = () if self.express is None else self.express.exchanges.values()
        return list(dict.fromkeys((*express, *self.lanes.exchanges)))
