"""The front end's end of one reactor's express lane: whole requests out, whole answers in, many at
once.

Requests are gathered and sent when the batch is over; each read takes all answers that are there.
What follows for the exchange, and for the reactor's room, is the reactor's.
"""

from __future__ import annotations

import select
import socket
from itertools import count, takewhile
from typing import Final

from reactor_run.frontend.exchanges.exchange import OVER, RUNNING, Exchange
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import ERRORS, Loop
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.reactors.lane import has_bytes
from reactor_run.protocol.express import (
    ANSWER_DONE,
    DONE,
    WITHDRAWN,
    FrameError,
    pack_message,
    pack_request,
    read_answers,
)

__all__ = ["SEND_BUFFER", "ExpressLane"]

SEND_BUFFER: Final = 1 << 20
"""Bytes asked for as the kernel's buffer, each way."""

_READ: Final = 262144
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_space = memoryview(bytearray(_READ))


class ExpressLane:
    """One socketpair, our end."""

    def __init__(self, loop: Loop, owner: LinkOwner, sock: socket.socket) -> None:
        """Raises OSError if the kernel does not let it be watched."""
        sock.setblocking(False)
        self.exchanges: dict[int, Exchange] = {}
        """Those that are not over, by number."""
        self._loop = loop
        self._owner = owner
        self._sock = sock
        self._numbers = count(1)
        self._out: list[bytes | bytearray] = []
        """What the batch has gathered."""
        self._unsent = b""
        """A batch of which the kernel has not taken all."""
        self._sent = 0
        """How much of it the kernel has taken."""
        self._blocked = False
        """What is gathered must wait, or there is nobody to send it to any more."""
        self._partial = b""
        self._ended = False
        loop.watch(sock.fileno(), _IN, self._on_events)

    # Out -----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Send a request; it goes out with the batch."""
        request = exchange.request
        exchange.number = number = next(self._numbers)
        self.exchanges[number] = exchange
        self._out += (
            pack_request(exchange.requester.express_prefix, number, len(request)),
            request,
        )

    def running(self, number: int) -> Exchange | None:
        """The exchange with this number, if it waits for its answer."""
        exchange = self.exchanges.get(number)
        return exchange if exchange is not None and exchange.state is RUNNING else None

    def tell(self, number: int, kind: int) -> None:
        """Tell something about an exchange that was sent."""
        self._out.append(pack_message(number, kind))

    def flush(self) -> None:
        """Send what the batch gathered."""
        if self._out and not self._blocked:
            out = b"".join(self._out)
            self._out.clear()
            try:
                sent = self._sock.send(out)
            except OSError:
                # Full, or broken: then its pidfd tells.
                sent = 0
            if sent < len(out):
                self._unsent = out
                self._sent = sent
                self._blocked = True
                self._loop.modify(self._sock.fileno(), _IN | _OUT)

    def _send_on(self) -> None:
        """Go on with a batch of which the kernel did not take all."""
        try:
            self._sent += self._sock.send(memoryview(self._unsent)[self._sent :])
        except BlockingIOError:
            return
        except OSError:
            # It is dying: its pidfd tells.
            self._loop.modify(self._sock.fileno(), _IN)
            return
        if self._sent == len(self._unsent):
            self._unsent = b""
            self._sent = 0
            self._blocked = False
            self._loop.modify(self._sock.fileno(), _IN)

    def behind(self, begun: int) -> list[Exchange]:
        """The exchanges with greater numbers than this one, in order."""
        exchanges = self.exchanges
        numbers = list(takewhile(lambda number: number > begun, reversed(exchanges)))
        return [exchanges[number] for number in reversed(numbers)]

    # In ------------------------------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events & _OUT:
            self._send_on()
        if events & (_IN | ERRORS) and not self._read():
            self._owner.hung_up()
            self.end()

    def on_fault(self) -> None:
        """Nobody knows which answers were read."""
        self._owner.kill()

    def read_to_end(self) -> None:
        """Take what a reactor had sent before it died."""
        while not self._ended and has_bytes(self._sock) and self._read():
            pass

    def end(self) -> None:
        """Nothing comes over it any more, and nothing is to be sent."""
        if not self._ended:
            self._ended = self._blocked = True
            self._loop.unwatch(self._sock.fileno())
            self._loop.bury(self._sock)

    def _read(self) -> bool:
        """Take what is there, once; False at the end of the lane."""
        try:
            size = self._sock.recv_into(_space)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not size:
            return False
        data = bytes(_space[:size])
        if self._partial:
            data = self._partial + data
        owner = self._owner
        try:
            messages, consumed = read_answers(data)
        except FrameError as error:
            log.error("%s broke the framing of its express lane: %s", owner.name, error)
            owner.kill()
            return False
        self._partial = data[consumed:]
        exchanges = self.exchanges
        freed = False
        given_back: list[Exchange] = []
        for number, kind, payload in messages:
            exchange = exchanges.get(number)
            if exchange is None:
                continue
            if kind == ANSWER_DONE:
                # By far the most frequent: answered and done at once.
                del exchanges[number]
                exchange.app_done = True
                owner.in_flight -= 1
                freed = True
                if exchange.state is RUNNING:
                    exchange.state = OVER
                    if payload:
                        exchange.requester.answer_whole(payload)
                    else:
                        exchange.requester.answer_failed()
                else:
                    exchange.state = OVER
            elif kind == DONE:
                if exchange.state is RUNNING and exchange.lane is None:
                    # The announcement of its answer's lane was sent before, over another socket.
                    owner.read_control()
                    if exchange.state is RUNNING and exchange.lane is None:
                        exchange.requester.answer_failed()
                owner.app_done(exchange)
                freed = True
            elif kind == WITHDRAWN:
                del exchanges[number]
                if owner.withdrawn(exchange):
                    given_back.append(exchange)
                freed = True
            elif exchange.state is RUNNING:
                # An answer whose app still runs.
                if payload:
                    exchange.requester.answer_whole(payload)
                    owner.answered(exchange)
                else:
                    exchange.requester.answer_failed()
        if given_back:
            owner.gave_back(given_back)
        if freed:
            owner.has_room()
        return True
