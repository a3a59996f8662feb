"""The front end's end of an express lane: many requests out, many answers in.

Most exchanges are one message each way. What does not fit goes in pieces: express_stream.py. The
messages of one batch of events are sent together at its end. Each read takes all messages that have
arrived. The owner, a reactor, decides what an answer means for its capacity.
"""

from __future__ import annotations

import select
import socket
from itertools import count, takewhile
from typing import Final

from reactor_run.frontend.exchanges.exchange import ANSWERED, KEPT_MAX, OVER, RUNNING, Exchange
from reactor_run.frontend.exchanges.ports import ClientSocket
from reactor_run.frontend.log import limited, log
from reactor_run.frontend.loop.epoll import ERRORS, Loop
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.reactors.express_stream import ExpressStream
from reactor_run.frontend.reactors.lane import has_bytes
from reactor_run.frontend.reactors.shared_clients import SharedClients
from reactor_run.protocol.express import (
    ANSWER,
    ANSWER_DONE,
    CREDIT_FOR_BODY,
    DONE,
    EXPRESS_MAX,
    WAITS,
    WITHDRAWN,
    FrameError,
    pack_message,
    pack_request,
    read_answers,
)
from reactor_run.protocol.response_head import BadResponse

__all__ = ["SEND_BUFFER", "ExpressLane"]

SEND_BUFFER: Final = 1 << 20
"""The size in bytes that the kernel is asked for, for the buffer of each direction."""

_READ: Final = 262144
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_CREDITS: Final = (CREDIT_FOR_BODY, WAITS)
"""The messages that an app which reads on after its answer may cause."""

_space = memoryview(bytearray(_READ))


class ExpressLane:
    """One end of the socketpair between the front end and one reactor."""

    def __init__(
        self, loop: Loop, owner: LinkOwner, sock: socket.socket, clients: SharedClients
    ) -> None:
        """`clients`: whose sockets the reactor has. Raises OSError if the kernel refuses to watch
        `sock`."""
        sock.setblocking(False)
        self.streams: dict[int, ExpressStream] = {}
        """What does not fit into one message each way, by the number of the exchange."""
        self._clients = clients
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
        size = len(request)
        if size > EXPRESS_MAX or not exchange.whole or exchange.spool is not None:
            self._carry_in_pieces(exchange, request)
            return
        self._out += (pack_request(exchange.requester.express_prefix, number, size), request)

    def _carry_in_pieces(self, exchange: Exchange, request: bytes | bytearray) -> None:
        """Add a request that is long or has not arrived whole: its head, then what there is."""
        exchange.lane = stream = ExpressStream(self, exchange)
        # The reactor gets the head whole.
        first = max(EXPRESS_MAX, exchange.head.size)
        head = bytes(request[:first])
        self._out += (
            pack_request(exchange.requester.express_prefix, exchange.number, len(head)),
            head,
        )
        if len(request) > first or exchange.spool is not None:
            stream.write(memoryview(request)[first:])
        if len(request) > KEPT_MAX:
            exchange.request = b""

    def gather(self, message: bytes, payload: bytes = b"") -> None:
        """Add a message and its payload to the batch."""
        self._out.append(message)
        if payload:
            self._out.append(payload)

    def share(self, client: ClientSocket) -> int:
        """Send the reactor a duplicate of a client's socket, unless it has one; return its number.

        Raises OSError.
        """
        return self._clients.share(client)

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
            if kind == ANSWER_DONE and exchange.lane is None:
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
            elif kind == ANSWER_DONE:
                if exchange.state is RUNNING:
                    self._on_piece(exchange, ANSWER, payload)
                owner.app_done(exchange)
                freed = True
            elif kind == DONE:
                stream = self.streams.get(number)
                if exchange.state is RUNNING and (stream is None or not stream.answer_begun):
                    exchange.requester.answer_failed()
                owner.app_done(exchange)
                freed = True
            elif kind == WITHDRAWN:
                del exchanges[number]
                stream = self.streams.pop(number, None)
                if exchange.state is RUNNING and stream is not None and stream.answer_begun:
                    exchange.requester.answer_failed()
                if owner.withdrawn(exchange):
                    given_back.append(exchange)
                freed = True
            elif exchange.state is not RUNNING:
                # Its client is gone, or has the whole answer. Its app may read on.
                if exchange.state is ANSWERED and number in self.streams and kind in _CREDITS:
                    self._on_piece(exchange, kind, payload)
            elif kind != ANSWER or exchange.lane is not None:
                self._on_piece(exchange, kind, payload)
            elif payload:
                # The answer is complete, and the app still runs.
                exchange.requester.answer_whole(payload)
                owner.answered(exchange)
            else:
                exchange.requester.answer_failed()
        if given_back:
            owner.gave_back(given_back)
        if freed:
            owner.has_room()
        return True

    def _on_piece(self, exchange: Exchange, kind: int, payload: bytes) -> None:
        """Handle a message about an exchange that goes in pieces."""
        stream = self.streams.get(exchange.number)
        if stream is None:
            exchange.lane = stream = ExpressStream(self, exchange)
        try:
            stream.handle(kind, payload)
        except (BadResponse, FrameError) as error:
            limited.error("%s sent an invalid answer: %s", self._owner.name, error)
            if exchange.state is RUNNING:
                exchange.requester.answer_failed()

    @property
    def waiting_for_client(self) -> int:
        """The number of exchanges that wait only for their clients."""
        return sum(stream.waits_for_client for stream in self.streams.values())
