"""The front end's end of an express lane: many whole requests out, many whole answers in.

The requests of one batch of events are sent together at its end. Each read takes all answers that
have arrived. The owner, a reactor, decides what an answer means for its capacity.
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
"""The size in bytes that the kernel is asked for, for the buffer of each direction."""

_READ: Final = 262144
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_space = memoryview(bytearray(_READ))


class ExpressLane:
    """One end of the socketpair between the front end and one reactor."""

    def __init__(self, loop: Loop, owner: LinkOwner, sock: socket.socket) -> None:
        """Raises OSError if the kernel refuses to watch `sock`."""
        sock.setblocking(False)
        self.exchanges: dict[int, Exchange] = {}
        """The exchanges that are not over, by number."""
        self._loop = loop
        self._owner = owner
        self._sock = sock
        self._numbers = count(1)
        self._out: list[bytes | bytearray] = []
        """The messages of this batch, not yet sent."""
        self._unsent = b""
        """A batch that the kernel has taken only in part; empty if there is none."""
        self._sent = 0
        """Bytes of `_unsent` that the kernel has taken."""
        self._blocked = False
        """Nothing can be sent now: the kernel's buffer is full, or the lane has ended."""
        self._partial = b""
        self._ended = False
        loop.watch(sock.fileno(), _IN, self._on_events)

    # Out -----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Add a request to the batch."""
        request = exchange.request
        exchange.number = number = next(self._numbers)
        self.exchanges[number] = exchange
        self._out += (
            pack_request(exchange.requester.express_prefix, number, len(request)),
            request,
        )

    def running(self, number: int) -> Exchange | None:
        """Return the exchange with this number if it waits for its answer, else None."""
        exchange = self.exchanges.get(number)
        return exchange if exchange is not None and exchange.state is RUNNING else None

    def tell(self, number: int, kind: int) -> None:
        """Add a message of `kind` about an exchange to the batch."""
        self._out.append(pack_message(number, kind))

    def flush(self) -> None:
        """Send the messages of the batch."""
        if self._out and not self._blocked:
            out = b"".join(self._out)
            self._out.clear()
            try:
                sent = self._sock.send(out)
            except OSError:
                # The buffer is full, or the lane is broken. The pidfd reports the end.
                sent = 0
            if sent < len(out):
                self._unsent = out
                self._sent = sent
                self._blocked = True
                self._loop.modify(self._sock.fileno(), _IN | _OUT)

    def _send_on(self) -> None:
        """Send the rest of a batch that the kernel took only in part."""
        try:
            self._sent += self._sock.send(memoryview(self._unsent)[self._sent :])
        except BlockingIOError:
            return
        except OSError:
            # The reactor is dying. The pidfd reports its end.
            self._loop.modify(self._sock.fileno(), _IN)
            return
        if self._sent == len(self._unsent):
            self._unsent = b""
            self._sent = 0
            self._blocked = False
            self._loop.modify(self._sock.fileno(), _IN)

    def behind(self, begun: int) -> list[Exchange]:
        """Return the exchanges with greater numbers than `begun`, in order."""
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
        """Kill the reactor after an internal error: some answers may be lost."""
        self._owner.kill()

    def read_to_end(self) -> None:
        """Read all that the reactor sent before it died."""
        while not self._ended and has_bytes(self._sock) and self._read():
            pass

    def end(self) -> None:
        """Close this end: nothing more is read or sent."""
        if not self._ended:
            self._ended = self._blocked = True
            self._loop.unwatch(self._sock.fileno())
            self._loop.bury(self._sock)

    def _read(self) -> bool:
        """Read once, and handle the messages; return False at the end of the lane."""
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
            log.error("%s: invalid frame on the express lane (%s), killing it", owner.name, error)
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
                # By far the most frequent message: the answer, and the app is done.
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
                    # The control channel may announce a lane for its answer: that was sent before.
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
                # The answer is complete, and the app still runs.
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
