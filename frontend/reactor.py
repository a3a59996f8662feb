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

import itertools
import os
import select
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any, Final, Protocol

from reactor_run.channel import ControlChannel
from reactor_run.frontend.exchange import ABANDONED, ANSWERED, OVER, RUNNING, Exchange
from reactor_run.frontend.lane import Lane
from reactor_run.frontend.log import log
from reactor_run.frontend.loop import ERRORS, Loop
from reactor_run.protocol.control import ControlError
from reactor_run.protocol.express import (
    ANSWER,
    DONE,
    EXPRESS_MAX,
    FIN,
    GONE,
    FrameError,
    pack_message,
    pack_request,
    read_answers,
)

__all__ = ["DEAD", "LEAVING", "READY", "STARTING", "Owner", "Reactor"]

STARTING: Final = 0
READY: Final = 1
LEAVING: Final = 2
DEAD: Final = 3

_READ: Final = 262144
_POOL_MAX: Final = 256
"""Lanes kept for later, of each sort. A lane is free a little later than its answer, so that more
are in use than there are exchanges; closing and opening the difference would cost more."""
_SEND_BUFFER: Final = 1 << 20
_EXIT_MAX: Final = 2.0
"""Seconds for a process to exit, once it has hung up."""

_space = memoryview(bytearray(_READ))


class Owner(Protocol):
    """Who is told what a reactor does."""

    def reactor_ready(self, reactor: Reactor) -> None: ...
    def reactor_has_room(self, reactor: Reactor) -> None: ...
    def reactor_ended(self, reactor: Reactor) -> None: ...
    def reactor_failed(self, reactor: Reactor, message: str, details: str | None) -> None: ...
    def reactor_died(self, reactor: Reactor, status: int) -> None: ...


class Reactor:
    """A process, from its start to its end."""

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        name: str,
        command: Callable[[int], list[str]],
        *,
        express: bool,
    ) -> None:
        """Start it. `command` makes its command line, given the control channel's descriptor.

        Raises OSError if the kernel refuses any of what it takes; then nothing is left of it.
        """
        self.loop = loop
        self.owner = owner
        self.name = name
        self.state = STARTING
        self.capacity = 0
        self.in_flight = 0
        """Exchanges that occupy it."""
        self.interface = ""
        self.started = monotonic()
        self.deadline = self.check_at = float("inf")
        self.on_overdue: Callable[[], None] = lambda: None

        self._numbers = itertools.count(1)
        self._exchanges: dict[int, Exchange] = {}
        """Those on the express lane."""
        self._lanes: dict[int, Lane] = {}
        """Those that we opened, by number, closed ones too until the reactor is done with them."""
        self._occupied: dict[int, Exchange] = {}
        """The exchanges on them, by the lane's number."""
        self._free: list[Lane] = []
        self._lane_numbers = itertools.count(1)
        self._answer_lanes: dict[int, Lane] = {}
        """Those that the reactor opened."""

        self._express: socket.socket | None = None
        self._out: list[bytes] = []
        self._unsent = b""
        self._partial = b""
        with ExitStack() as undo:
            self._start(command, undo)
            if express:
                self._open_express(undo)
            undo.pop_all()
        loop.after_batch(self.flush)

    def _start(self, command: Callable[[int], list[str]], undo: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        self._control = ControlChannel(ours)
        self._control_full = False
        undo.callback(ours.close)
        undo.callback(self._control.give_up)
        with theirs:
            self.process = subprocess.Popen(
                command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        undo.callback(self.process.wait)
        undo.callback(self.process.kill)
        self.pid = self.process.pid
        self._pidfd = os.pidfd_open(self.pid)
        undo.callback(os.close, self._pidfd)
        for fd, handler in ((ours.fileno(), self._on_control), (self._pidfd, self._on_exit)):
            self.loop.watch(fd, select.EPOLLIN, handler)
            undo.callback(self.loop.unwatch, fd)

    def _open_express(self, undo: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            ours.setblocking(False)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._control.send({"express": True, "fd": True}, theirs.fileno())
        self.loop.watch(ours.fileno(), select.EPOLLIN, self._on_express)
        self._express = ours

    # Exchanges out -------------------------------------------------------------------------------

    def start(self, exchange: Exchange) -> None:
        """Give it an exchange. Raises OSError if there is no descriptor for the lane it needs."""
        exchange.reactor = self
        request = exchange.request
        if (
            exchange.whole
            and self._express is not None
            and exchange.spool is None
            and len(request) <= EXPRESS_MAX
            and not exchange.head.upgrade
        ):
            exchange.number = number = next(self._numbers)
            self._exchanges[number] = exchange
            self._out += (
                pack_request(exchange.client.express_prefix, number, len(request)),
                request,
            )
        else:
            lane = self._free.pop() if self._free else self._open_lane()
            self._occupied[lane.number] = exchange
            lane.carry(exchange, exchange.client.lane_prefix + request)
        exchange.request = b""
        exchange.state = RUNNING
        self.in_flight += 1

    def _open_lane(self) -> Lane:
        ours, theirs = socket.socketpair()
        number = next(self._lane_numbers)
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            lane = Lane(self.loop, self, ours, number, opened_here=True)
            undo.callback(lane.close)
            self._control.send({"lane": number, "fd": True}, theirs.fileno())
            undo.pop_all()
        self._lanes[number] = lane
        return lane

    def client_sent_fin(self, exchange: Exchange) -> None:
        """The client asks for nothing more."""
        if exchange.number:
            self._out.append(pack_message(exchange.number, FIN))
        elif exchange.lane is not None:
            exchange.lane.half_close()

    def abandon(self, exchange: Exchange) -> None:
        """Nobody reads the answer any more. The app still occupies the reactor until it is done."""
        exchange.state = ABANDONED
        lane, exchange.lane = exchange.lane, None
        if lane is not None:
            lane.exchange = None
            lane.close()
            if not lane.opened_here:
                self.lane_is_lost(lane)
        if exchange.number:
            self._out.append(pack_message(exchange.number, GONE))
        self._end_if_over(exchange)

    def answered(self, exchange: Exchange) -> None:
        """The answer has come whole."""
        exchange.state = ANSWERED
        lane = exchange.lane
        if lane is not None:
            if not lane.opened_here:
                exchange.lane = None
                lane.release()
            elif not exchange.whole:
                lane.condemn()
        self._end_if_over(exchange)

    def _app_done(self, exchange: Exchange) -> None:
        """The reactor's word: the capacity is free."""
        if not exchange.app_done:
            exchange.app_done = True
            self.in_flight -= 1
            self._end_if_over(exchange)
            self.owner.reactor_has_room(self)

    def _end_if_over(self, exchange: Exchange) -> None:
        """Once the app is done and nobody waits for the answer, the exchange is over."""
        if exchange.app_done and exchange.state in (ANSWERED, ABANDONED):
            exchange.state = OVER
            if exchange.number:
                self._exchanges.pop(exchange.number, None)
            lane, exchange.lane = exchange.lane, None
            if lane is not None:
                lane.release()

    # The express lane ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the batch gathered."""
        if self._out and not self._unsent:
            out = b"".join(self._out)
            self._out.clear()
            if self._express is not None:
                self._send(out)
        if self._control.waiting != self._control_full:
            self._control_full = self._control.waiting
            events = select.EPOLLIN | (select.EPOLLOUT if self._control_full else 0)
            self.loop.modify(self._control.fileno(), events)

    def _send(self, data: bytes) -> None:
        assert self._express is not None
        try:
            sent = self._express.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It is dying: its pidfd tells.
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self.loop.modify(self._express.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _on_express(self, events: int) -> None:
        assert self._express is not None
        if events & select.EPOLLOUT:
            self.loop.modify(self._express.fileno(), select.EPOLLIN)
            unsent, self._unsent = self._unsent, b""
            self._send(unsent)
        if events & (select.EPOLLIN | ERRORS) and not self._read_express():
            self._ended()
            self._end_express()

    def _end_express(self) -> None:
        """Nothing comes over it any more, and nothing is to be sent."""
        if self._express is not None:
            self.loop.unwatch(self._express.fileno())
            self.loop.bury(self._express)
            self._express = None
            self._unsent = b""

    def _read_express(self) -> bool:
        """Take what is there, once; False at the end of the lane."""
        assert self._express is not None
        try:
            size = self._express.recv_into(_space)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not size:
            return False
        data = bytes(_space[:size])
        if self._partial:
            data = self._partial + data
        try:
            messages, consumed = read_answers(data)
        except FrameError as error:
            log.error("%s broke the framing of its express lane: %s", self.name, error)
            self.kill()
            return False
        self._partial = data[consumed:]
        exchanges = self._exchanges
        freed = False
        for number, kind, payload in messages:
            exchange = exchanges.get(number)
            if exchange is None:
                continue
            if kind == DONE:
                if exchange.state == RUNNING and exchange.lane is None:
                    # The announcement of its answer's lane was sent before, over another socket.
                    self.read_control()
                    if exchange.state == RUNNING and exchange.lane is None:
                        exchange.client.answer_failed(exchange)
                self._fail_if_ended(exchange)
                self._app_done(exchange)
            elif kind == ANSWER:
                if exchange.state == RUNNING:
                    exchange.client.answer_whole(exchange, payload)
                    self.answered(exchange)
            else:
                # By far the most frequent: answered and done at once.
                del exchanges[number]
                exchange.app_done = True
                self.in_flight -= 1
                freed = True
                if exchange.state == RUNNING:
                    exchange.state = OVER
                    exchange.client.answer_whole(exchange, payload)
                else:
                    exchange.state = OVER
        if freed:
            self.owner.reactor_has_room(self)
        return True

    # The control channel -------------------------------------------------------------------------

    def _on_control(self, _: int) -> None:
        self._control.flush()
        if self._hear_more() is None:
            self._ended()
            self._end_control()

    def _end_control(self) -> None:
        """Nothing is heard any more, and nothing is to be told."""
        self.loop.unwatch(self._control.fileno())
        self._control.give_up()
        self._control_full = False

    def read_control(self) -> None:
        """Take all control messages that are there."""
        while self._hear_more():
            pass

    def _hear_more(self) -> int | None:
        """Read once; how many messages there were, None at the end of the channel."""
        try:
            messages = self._control.receive()
            if messages is None:
                self._ended()
                return None
            for message in messages:
                self._hear(message)
            return len(messages)
        except (ControlError, KeyError, TypeError, ValueError) as error:
            log.error("%s sent a control message that is none: %r", self.name, error)
            self.kill()
            return None

    def _ended(self) -> None:
        """It is dead, or as good as dead; its pidfd will tell. Nothing more is to be sent to it."""
        if self.state in (STARTING, READY):
            self.state = LEAVING
            self.on_overdue = self.kill
            self.loop.set_deadline(self, _EXIT_MAX)
            self.owner.reactor_ended(self)

    def _hear(self, message: dict[str, Any]) -> None:
        if "done" in message or "drop" in message:
            for number in message.get("done", ()):
                self._lane_done(number, keep=True)
            for number in message.get("drop", ()):
                self._lane_done(number, keep=False)
            self.owner.reactor_has_room(self)
        elif "answer" in message:
            self._answer_moves(message["answer"], message["lane"], message)
        elif "capacity" in message:
            self.capacity = int(message["capacity"])
            log.debug("%s takes %d exchanges at once", self.name, self.capacity)
            self.owner.reactor_has_room(self)
        elif "ready" in message:
            if self.state == STARTING:
                self.capacity = int(message["ready"]["capacity"])
                self.interface = message["ready"]["interface"]
                self.state = READY
                self.owner.reactor_ready(self)
        elif "failed" in message:
            self.owner.reactor_failed(self, message["failed"], message.get("details"))

    def _lane_done(self, number: int, *, keep: bool) -> None:
        """The app of the exchange on a lane that we opened is done."""
        exchange = self._occupied.pop(number, None)
        lane = self._lanes.get(number)
        if lane is not None:
            if not keep:
                lane.condemn()
            if lane.closed:
                del self._lanes[number]
        if exchange is not None and not exchange.app_done:
            exchange.app_done = True
            self.in_flight -= 1
            self._fail_if_ended(exchange)
            self._end_if_over(exchange)

    def has_word_on(self, exchange: Exchange) -> bool:
        """It lives, as far as is known, and will tell when the exchange's app is done."""
        return self.state == READY and not exchange.app_done

    def _fail_if_ended(self, exchange: Exchange) -> None:
        """The app is done; if the answer's lane has ended before it began, there will be none."""
        if exchange.state == RUNNING and exchange.lane is not None and exchange.lane.ended:
            exchange.client.answer_failed(exchange)

    def _answer_moves(self, number: int, lane_number: int | None, message: dict[str, Any]) -> None:
        """The answer of an express exchange comes over a lane that the reactor opened."""
        exchange = self._exchanges.get(number)
        lane = None if lane_number is None else self._answer_lanes.get(lane_number)
        if message.get("fd") is not None and lane_number is not None:
            lane = self._adopt_lane(message["fd"], lane_number)
        if exchange is None or exchange.state != RUNNING:
            if lane is not None:
                lane.close()
                self._answer_lanes.pop(lane.number, None)
        elif lane is None or lane.closed:
            log.error("%s could not open a lane for an answer", self.name)
            exchange.client.answer_failed(exchange)
        else:
            lane.carry(exchange)

    def _adopt_lane(self, descriptor: int, number: int) -> Lane | None:
        """A lane that the reactor opened; None if it cannot be one."""
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            log.error("%s sent a lane that is no socket: %s", self.name, error.strerror)
            os.close(descriptor)
            return None
        try:
            lane = Lane(self.loop, self, sock, number, opened_here=False)
        except OSError as error:
            log.error("a lane of %s cannot be read: %s", self.name, error.strerror)
            sock.close()
            return None
        self._answer_lanes[number] = lane
        return lane

    def lane_is_free(self, lane: Lane) -> None:
        """A lane is ready for another exchange."""
        if lane.opened_here:
            if self.state == READY and len(self._free) < _POOL_MAX:
                self._free.append(lane)
            else:
                lane.close()
                self.lane_is_lost(lane)
        elif sum(other.exchange is None for other in self._answer_lanes.values()) <= _POOL_MAX:
            self._control.send({"free": lane.number})
        else:
            lane.close()
            self.lane_is_lost(lane)

    def lane_is_lost(self, lane: Lane) -> None:
        """An idle lane ended."""
        if lane.opened_here:
            if lane in self._free:
                self._free.remove(lane)
            self._lanes.pop(lane.number, None)
        else:
            self._answer_lanes.pop(lane.number, None)

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
        self._control.send({"stop": seconds})

    def on_fault(self) -> None:
        """Nobody knows what was heard of it."""
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()

    def _on_exit(self, _: int) -> None:
        """The process has ended. What it sent before is read first."""
        loop = self.loop
        self._ended()
        self.state = DEAD
        if self._express is not None:
            while self._more(self._express) and self._read_express():
                pass
        while self._more(self._control.sock) and self._hear_more() is not None:
            pass
        lanes = [*self._lanes.values(), *self._answer_lanes.values()]
        for lane in lanes:
            while not lane.closed and lane.exchange is not None and self._more(lane.sock):
                lane.read(hung_up=True)
        # Some are only on their lane: their app is done, and their answer was not.
        on_lanes = [lane.exchange for lane in lanes if lane.exchange is not None]
        for exchange in [*self._exchanges.values(), *self._occupied.values(), *on_lanes]:
            if exchange.state == RUNNING:
                exchange.client.answer_failed(exchange)
            exchange.app_done = True
            self._end_if_over(exchange)
        for lane in lanes:
            lane.close()
        self.in_flight = 0
        self._exchanges.clear()
        self._occupied.clear()
        self._lanes.clear()
        self._answer_lanes.clear()
        self._free.clear()

        loop.forget(self)
        loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._end_control()
        loop.bury(self._control.sock)
        self._end_express()
        loop.not_after_batch(self.flush)
        self.owner.reactor_died(self, self.process.wait())

    @staticmethod
    def _more(sock: socket.socket) -> bool:
        try:
            return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False
