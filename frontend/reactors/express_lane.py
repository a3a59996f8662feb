"""The front end's end of an express lane: many requests out, many answers in.

Most exchanges are one message each way. What does not fit goes in pieces: express_stream.py. The
messages of one batch of events are sent together at its end. Each read takes all messages that have
arrived. The owner, a reactor, decides what an answer means for its capacity.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from itertools import takewhile
from typing import Final

from reactor_run.frontend.exchanges.exchange import ANSWERED, KEPT_MAX, OVER, RUNNING, Exchange
from reactor_run.frontend.exchanges.ports import ClientSocket, Requester
from reactor_run.frontend.log import limited, log
from reactor_run.frontend.loop.epoll import ERRORS, Loop
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.reactors.express_stream import ExpressStream
from reactor_run.frontend.reactors.shared_clients import SharedClients
from reactor_run.frontend.sockets.peek import has_bytes
from reactor_run.incoming import Incoming
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    CREDIT_FOR_BODY,
    DONE,
    PIECE_MAX,
    STORED,
    WITHDRAWN,
    WRITTEN_MIN,
    FrameError,
    pack_message,
    pack_request,
    read_answers,
    read_stored,
    read_written,
)
from reactor_run.protocol.response_head import BadResponse
from reactor_run.protocol.websocket.summary import Summary
from reactor_run.pulse import Pulse

__all__ = ["SEND_BUFFER", "ExpressLane"]

SEND_BUFFER: Final = 1 << 20
"""The size in bytes that the kernel is asked for, for the buffer of each direction."""

_DIRECT_MIN: Final = 16384
"""A payload of at least so many bytes is not copied into the batch, but sent at once after it."""
SHARED_AFTER: Final = 8
"""Large answers after which a connection probably gets more. Before, a duplicate of its socket
would cost more than it spares."""
_ROOM_FOR: Final = 8
"""Streams that read on at once when the kernel takes bytes again."""
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class ExpressLane:
    """One end of the socketpair between the front end and one reactor."""

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        sock: socket.socket,
        clients: SharedClients,
        pulse: Pulse,
        *,
        direct: bool,
    ) -> None:
        """`clients`: whose sockets the reactor has. `direct`: it may write answers to them. Raises
        OSError if the kernel refuses to watch `sock`."""
        sock.setblocking(False)
        self.streams: dict[int, ExpressStream] = {}
        """What does not fit into one message each way, by the number of the exchange."""
        self.marks = pulse.streams
        self.offers = pulse.offers
        self.buffers = pulse.request_buffers
        self._answers = pulse.answer_buffers
        self._makes_offers = direct and self.offers.possible
        self._clients = clients
        self.exchanges: dict[int, Exchange] = {}
        """The exchanges that are not over, by number."""
        self._loop = loop
        self._owner = owner
        self._sock = sock
        self.carried = 0
        """How many exchanges it was given. The last one has this number."""
        self._out: list[bytes | bytearray | memoryview] = []
        """The messages of this batch, not yet sent."""
        self._unsent = b""
        """A batch that the kernel has taken only in part; empty if there is none."""
        self._sent = 0
        """Bytes of `_unsent` that the kernel has taken."""
        self.blocked = False
        """Nothing can be sent now: the kernel's buffer is full, or the lane has ended."""
        self._waiting: deque[ExpressStream] = deque()
        """Streams whose clients are not read, because the kernel took no bytes."""
        self._incoming = Incoming(read_answers)
        self._ended = False
        loop.watch(sock.fileno(), _IN, self._on_events)

    # Out -----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Add a request to the batch."""
        request = exchange.request
        self.carried = exchange.number = number = self.carried + 1
        self.exchanges[number] = exchange
        size = len(request)
        if size > PIECE_MAX or not exchange.whole or exchange.spool is not None:
            self._carry_in_pieces(exchange, request)
            return
        if self._clients.numbers and self._makes_offers:
            self._offer(exchange)
        out = self._out
        out.append(pack_request(exchange.requester.express_prefix, number, size))
        out.append(request)
        if size >= _DIRECT_MIN and not self.blocked:
            self._send_now()

    def _offer(self, exchange: Exchange) -> None:
        """Let the reactor write the answer to the client, if it has a duplicate of the socket."""
        client = exchange.requester.offer()
        duplicate = 0 if client is None else self._clients.find(client)
        if duplicate:
            exchange.offered = self.offers.make(exchange.number, duplicate, self.exchanges)

    def _carry_in_pieces(self, exchange: Exchange, request: bytes | bytearray) -> None:
        """Add a request that is long or has not arrived whole: its head, then what there is."""
        exchange.lane = stream = ExpressStream(self, exchange)
        # The reactor gets the head whole.
        first = max(PIECE_MAX, exchange.head.size)
        head = bytes(memoryview(request)[:first])
        frame = pack_request(exchange.requester.express_prefix, exchange.number, len(head))
        self.gather(frame, head)
        stream.write(memoryview(request)[first:])
        stream.send_on()
        if len(request) > KEPT_MAX:
            exchange.request = b""

    def gather(self, message: bytes, payload: bytes | memoryview = b"") -> None:
        """Add a message and its payload to the batch.

        The caller may reuse the memory of `payload` after the call.
        """
        self._out.append(message)
        if not payload:
            return
        if len(payload) < _DIRECT_MIN or self.blocked:
            self._out.append(bytes(payload))
            return
        self._out.append(payload)
        self._send_now()

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
        if self._out and not self.blocked:
            out = b"".join(self._out)
            self._out.clear()
            try:
                sent = self._sock.send(out)
            except OSError:
                # The buffer is full, or the lane is broken. The pidfd reports the end.
                sent = 0
            if sent < len(out):
                self._wait_to_send(out, sent)

    def _send_now(self) -> None:
        """Send the messages of the batch, of which the last is large, without a copy."""
        out = self._out
        large = out.pop()
        head = b"".join(out)
        out.clear()
        try:
            sent = self._sock.sendmsg((head, large))
        except OSError:
            sent = 0
        if sent < len(head) + len(large):
            self._wait_to_send(b"".join((head, large)), sent)

    def _wait_to_send(self, out: bytes, sent: int) -> None:
        """Keep what the kernel has not taken, and send it when the lane is writable."""
        self._unsent = out
        self._sent = sent
        self.blocked = True
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
            self.blocked = False
            self._loop.modify(self._sock.fileno(), _IN)
            self._give_room()

    def await_room(self, stream: ExpressStream) -> None:
        """Call `has_room` of `stream` once the kernel takes bytes again."""
        self._waiting.append(stream)

    def _give_room(self) -> None:
        """Let a few streams read on. Each may fill the kernel's buffer again."""
        for _ in range(min(len(self._waiting), _ROOM_FOR)):
            self._waiting.popleft().has_room()
        if self._waiting and not self.blocked:
            self._loop.defer(self._give_room)

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
            self._ended = self.blocked = True
            self._loop.unwatch(self._sock.fileno())
            self._loop.bury(self._sock)

    def _read(self) -> bool:
        """Read once, and handle the messages; return False at the end of the lane."""
        owner = self._owner
        try:
            messages = self._incoming.receive(self._sock)
        except BlockingIOError:
            return True
        except OSError:
            return False
        except FrameError as error:
            log.error("%s: invalid frame on the express lane (%s), killing it", owner.name, error)
            owner.kill()
            return False
        if messages is None:
            return False
        exchanges = self.exchanges
        freed = False
        given_back: list[Exchange] = []
        for number, sent, data in messages:
            kind, payload = sent, data
            if sent == STORED:
                kind, payload = self._take_stored(data)
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
                    if exchange.offered or len(payload) >= WRITTEN_MIN:
                        self._answer(exchange, payload)
                    elif payload:
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
                if exchange.upgraded:
                    exchange.websocket = self._read_summary(payload)
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
                if (
                    exchange.state is ANSWERED
                    and number in self.streams
                    and kind == CREDIT_FOR_BODY
                ):
                    self._on_piece(exchange, kind, payload)
            elif kind != ANSWER or exchange.lane is not None:
                self._on_piece(exchange, kind, payload)
            elif payload:
                # The answer is complete, and the app still runs.
                self._answer(exchange, payload)
                if exchange.state is RUNNING:
                    owner.answered(exchange)
            else:
                exchange.requester.answer_failed()
        if given_back:
            owner.gave_back(given_back)
        if freed:
            owner.has_room()
        return True

    def _take_stored(self, message: bytes) -> tuple[int, bytes]:
        """Return the kind and the payload of a message whose payload is in a buffer."""
        try:
            kind, buffer, size = read_stored(message)
            return kind, self._answers.take(buffer, size)
        except (FrameError, ValueError) as error:
            owner = self._owner
            log.error("%s: invalid frame on the express lane (%s), killing it", owner.name, error)
            owner.kill()
            return ABORT, b""

    def _answer(self, exchange: Exchange, payload: bytes) -> None:
        """Pass on a whole answer, which the reactor may have written to the client."""
        requester = exchange.requester
        if exchange.offered and self.offers.was_taken(exchange.number):
            try:
                requester.direct_whole(*read_written(payload))
            except FrameError as error:
                limited.error("%s sent an invalid answer: %s", self._owner.name, error)
                requester.direct_unknown()
                requester.answer_failed()
        elif payload:
            if self._makes_offers and len(payload) >= WRITTEN_MIN:
                self._expect_large(requester)
            requester.answer_whole(payload)
        else:
            requester.answer_failed()

    def _expect_large(self, requester: Requester) -> None:
        """Prepare for offers if the client has got many large answers: share its socket."""
        client = requester.offer()
        if client is None:
            return
        client.large_answers += 1
        if client.large_answers >= SHARED_AFTER:
            try:
                self._clients.share(client)
            except OSError as error:
                limited.warning("a client's answers are relayed, as it cannot be shared: %s", error)

    def _read_summary(self, payload: bytes) -> Summary | None:
        """Return the summary of a WebSocket whose app is done; None if it is wrong."""
        try:
            return Summary.read(payload)
        except ValueError as error:
            limited.error("%s: %s", self._owner.name, error)
            return None

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
