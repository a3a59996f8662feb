"""The reactor's end of the express lane.

The express lane carries many exchanges at once. Most exchanges are one message each way. What does
not fit goes in pieces: stream.py.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from typing import Final

from reactor_run.incoming import Incoming
from reactor_run.offers import OFFERED
from reactor_run.outgoing import Outgoing
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    ASK,
    BODY,
    BUFFERED,
    BYTES,
    CANCEL,
    CREDIT_FOR_ANSWER,
    DONE,
    FIN,
    GRANT,
    PIECE_MAX,
    RELAY,
    REQUEST,
    WITHDRAW,
    WITHDRAWN,
    WRITTEN_MIN,
    FrameError,
    pack_message,
    pack_stored,
    pack_written,
    read_buffered,
    read_count,
    read_number,
    read_requests,
)
from reactor_run.reactor import fork
from reactor_run.reactor.links.client_sockets import ClientDuplicate, ClientSockets
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.links.stream import StreamEnd
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

__all__ = ["ExpressPort"]

_PIECES_MAX: Final = 1024
"""The most pieces that the kernel takes at once: IOV_MAX."""
_READS_MAX: Final = 4
"""Most reads in a row while each one fills its space: bodies that arrive in large pieces."""


class ExpressPort:
    """Reads batches of requests, and sends the answers of each batch at once."""

    def __init__(
        self,
        reactor: ReactorLoop,
        sock: socket.socket,
        clients: ClientSockets,
        on_request: Callable[[int, bytes, bytes], AppExchange],
        on_end: Callable[[], None],
        open_stream: Callable[[int], StreamEnd],
    ) -> None:
        """`clients`: the clients to which this reactor may write. `on_request` makes an exchange of
        its number, its frame's prefix and its request. `on_end` is called when the front end has
        closed the express lane. `open_stream` makes a stream for an exchange whose app is done."""
        sock.setblocking(False)
        self.streams: dict[int, StreamEnd] = {}
        """What does not fit into one message each way, by the number of the exchange. A stream can
        outlast its exchange: the client takes the end of an answer after the app is done."""
        self.ended = False
        """The front end has closed the express lane."""
        self._exchanges: dict[int, AppExchange] = {}
        """The exchanges in flight, by number."""
        self._reactor = reactor
        self._sock = sock
        self._clients = clients
        self._on_request = on_request
        self._on_end = on_end
        self._open_stream = open_stream
        self._incoming = Incoming(read_requests)
        self._out: list[bytes] = []
        """Messages that the next flush sends."""
        self._out_large = False
        """A large answer is among them, and is sent from where it is."""
        self._unsent = Outgoing()
        """Bytes of an earlier flush that the kernel has not taken."""
        reactor.watch(sock.fileno(), select.EPOLLIN, self._on_events)
        reactor.after_batch(self.flush)

    # Messages in ---------------------------------------------------------------------------------

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send()
        if events & ~select.EPOLLOUT:
            self._read()
            for _ in range(_READS_MAX - 1):
                if not self._incoming.more or self.ended:
                    break
                self._read()

    def _read(self) -> None:
        """Read once, and handle the messages."""
        try:
            messages = self._incoming.receive(self._sock)
        except BlockingIOError:
            return
        except OSError:
            messages = None
        if messages is None:
            self._end()
            return
        exchanges = self._exchanges
        streams = self.streams
        on_request = self._on_request
        for number, kind, prefix, payload in messages:
            if kind == REQUEST:
                exchanges[number] = on_request(number, prefix, payload)
            elif kind == BODY:
                stream = streams.get(number)
                if stream is not None:
                    stream.arrived(payload)
            else:
                self._on_message(number, kind, payload)

    def _on_message(self, number: int, kind: int, payload: bytes) -> None:
        """Handle a message about an exchange. It may be over."""
        stream = self.streams.get(number)
        exchange = self._exchanges.get(number)
        if kind == CREDIT_FOR_ANSWER:
            if stream is not None:
                stream.credited(read_count(payload))
        elif kind == BUFFERED:
            data = self._take_buffer(payload)
            if stream is not None:
                stream.arrived(data)
        elif kind == GRANT:
            if stream is not None:
                stream.granted(self._clients.find(read_number(payload)))
        elif kind == RELAY:
            if stream is not None:
                stream.relayed()
        elif kind == FIN:
            if stream is not None:
                stream.on_fin()
            if exchange is not None:
                exchange.on_fin()
        elif kind == WITHDRAW:
            if exchange is not None:
                self._withdraw(number, exchange)
        else:
            if stream is not None:
                stream.drop()
            if exchange is None:
                pass
            elif kind == CANCEL:
                self._reactor.cancel(exchange)
            else:
                self._reactor.give_up(exchange)

    def _take_buffer(self, payload: bytes) -> bytes:
        """Return a piece of a body that is in a buffer."""
        try:
            return self._reactor.pulse.request_buffers.take(*read_buffered(payload))
        except ValueError as error:
            raise FrameError(str(error)) from error

    def _withdraw(self, number: int, exchange: AppExchange) -> None:
        """Give an exchange back to the front end, if it has not begun. Otherwise it goes on."""
        if exchange.take_out():
            exchange.ended = True
            del self._exchanges[number]
            stream = self.streams.get(number)
            if stream is not None:
                stream.drop()
            self._out.append(pack_message(number, WITHDRAWN))

    def turn(self) -> None:
        """Send what is gathered, and block until there is a message or a function of `call_soon`.

        This is for an inline app, which waits in the loop's thread.
        """
        reactor = self._reactor
        self.flush()
        poll = select.poll()
        waiting = select.POLLOUT if self._unsent.size else 0
        poll.register(self._sock, select.POLLIN | waiting)
        poll.register(reactor.wakeup, select.POLLIN)
        for descriptor, events in poll.poll():
            if descriptor == reactor.wakeup:
                reactor.on_wakeup(events)
            else:
                self._on_events(events)

    def _end(self) -> None:
        """The front end has closed the express lane: no client reads an answer any more."""
        self.ended = True
        self._reactor.unwatch(self._sock.fileno())
        for stream in list(self.streams.values()):
            stream.drop()
        self._on_end()

    # Messages out: `flush` sends at the end of each batch what these methods gather --------------

    def gather(self, message: bytes, payload: bytes = b"") -> None:
        """Gather a message and its payload."""
        self._out.append(message)
        if payload:
            self._out.append(payload)

    def answer(self, number: int, pieces: list[bytes], size: int) -> None:
        """Gather a whole answer of `size` bytes, whose app still runs."""
        if size >= WRITTEN_MIN:
            self._answer_large(number, ANSWER, pieces, size)
        else:
            self._out.append(pack_message(number, ANSWER, size))
            self._out += pieces

    def over(self, number: int, pieces: list[bytes], size: int) -> None:
        """Gather a whole answer of `size` bytes, whose app has ended."""
        del self._exchanges[number]
        if size >= WRITTEN_MIN:
            self._answer_large(number, ANSWER_DONE, pieces, size)
        else:
            self._out.append(pack_message(number, ANSWER_DONE, size))
            self._out += pieces

    def _answer_large(self, number: int, kind: int, pieces: list[bytes], size: int) -> None:
        """Write a large answer to the client, or gather it."""
        if self._write(number, kind, pieces, size) or self._store(number, kind, pieces, size):
            return
        self._out.append(pack_message(number, kind, size))
        self._out += pieces
        self._out_large = True

    def _store(
        self, number: int, kind: int, pieces: Iterable[bytes | memoryview], size: int
    ) -> bool:
        """Gather a message whose payload is in a buffer; return False if no buffer is free."""
        pulse = self._reactor.pulse
        # A child of the app would use the same buffers as its parent.
        if fork.is_child or not pulse.shared:
            return False
        buffer = pulse.answer_buffers.put(pieces, size)
        if buffer is None:
            return False
        self._out.append(pack_stored(number, kind, buffer, size))
        return True

    def gather_piece(self, number: int, kind: int, piece: bytes | memoryview) -> None:
        """Gather a piece of an answer. The caller may reuse its memory."""
        size = len(piece)
        if kind != BYTES or size < WRITTEN_MIN or not self._store(number, kind, (piece,), size):
            self._out.append(pack_message(number, kind, size))
            self._out.append(bytes(piece))

    # Answers that this process writes to the client ----------------------------------------------

    def is_offered(self, number: int) -> bool:
        """Return whether this process may write the answer of an exchange. Thread-safe."""
        return self._reactor.pulse.offers.state(number) == OFFERED

    def take_offer(self, number: int) -> ClientDuplicate | None:
        """Return the client if the answer of an exchange may be written to it. Then it must be."""
        if fork.is_child:
            # It could not tell the front end what it has written.
            return None
        offers = self._reactor.pulse.offers
        duplicate = offers.take(number)
        if not duplicate:
            return None
        client = self._clients.find(duplicate)
        if client is None:
            # There was no free descriptor for it.
            offers.refuse(number)
        return client

    def refuse_offer(self, number: int) -> None:
        """Let the front end write the answer of an exchange."""
        self._reactor.pulse.offers.refuse(number)

    def _write(self, number: int, kind: int, pieces: list[bytes], size: int) -> bool:
        """Write a whole answer to the client, and gather a message of `kind` about it.

        Return False if it must be sent as one message instead: it may be, and there is no offer.
        """
        client = self.take_offer(number)
        if client is None:
            if size <= PIECE_MAX:
                return False
            self._write_on(number, kind, pieces)
            return True
        if len(pieces) > _PIECES_MAX:
            pieces = [b"".join(pieces)]
        try:
            written = client.sendmsg(pieces)
        except BlockingIOError:
            written = 0
        except OSError:
            written = -1
        head = pieces[0][: pieces[0].index(b"\r\n\r\n") + 4]
        if written == size:
            self._reactor.pulse.offers.written(number)
            self._out.append(pack_written(number, kind, size, head))
            return True
        self.gather(pack_message(number, ASK, len(head)), head)
        if written >= 0:
            self._write_on(number, kind, pieces, client, written)
            return True
        self.gather(pack_message(number, ABORT))
        if kind == ANSWER_DONE:
            self.gather(pack_message(number, DONE))
        return True

    def _write_on(
        self,
        number: int,
        kind: int,
        pieces: list[bytes],
        client: ClientDuplicate | None = None,
        written: int = 0,
    ) -> None:
        """Send a whole answer in pieces, of which `client` has taken `written` bytes."""
        self._open_stream(number).write_whole(pieces, client, written)
        if kind == ANSWER_DONE:
            self.gather(pack_message(number, DONE))

    # The end of an exchange ----------------------------------------------------------------------

    def done(self, number: int, summary: bytes = b"") -> None:
        """Tell the front end that an app has ended. Its answer is a message of its own, goes on in
        pieces, or is not wanted any more.

        `summary`: of a WebSocket that has ended.
        """
        if self._exchanges.pop(number, None) is not None:
            self.gather(pack_message(number, DONE, len(summary)), summary)

    def flush(self) -> None:
        """Send the gathered messages, unless bytes of an earlier flush still wait for the
        kernel."""
        if self._out and not self._unsent.size and not self.ended:
            out, self._out = self._out, []
            if not self._out_large or len(out) > _PIECES_MAX:
                out = [b"".join(out)]
            self._out_large = False
            size = sum(map(len, out))
            try:
                sent = self._sock.send(out[0]) if len(out) == 1 else self._sock.sendmsg(out)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The front end is gone. The next read finds this too, and then the process ends.
                return
            if sent < size:
                for piece in out:
                    self._unsent.add(piece)
                self._unsent.drop(sent)
                self._reactor.modify(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send(self) -> None:
        """Send bytes of an earlier flush: the kernel takes bytes again."""
        try:
            while self._unsent.size:
                self._unsent.send(self._sock)
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        self._reactor.modify(self._sock.fileno(), select.EPOLLIN)
        self.flush()
