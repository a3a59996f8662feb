"""The reactor's end of the express lane.

The express lane carries many exchanges at once. Each request and each answer is one whole message.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from reactor_run.protocol.express import (
    ANSWER,
    ANSWER_DONE,
    CANCEL,
    DONE,
    FIN,
    REQUEST,
    WITHDRAW,
    WITHDRAWN,
    pack_message,
    read_requests,
)
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.loop.reactor_loop import ReactorLoop

__all__ = ["ExpressPort"]

_READ = 262144


class ExpressPort:
    """Reads batches of requests, and sends the answers of each batch at once."""

    def __init__(
        self,
        reactor: ReactorLoop,
        sock: socket.socket,
        on_request: Callable[[int, bytes, bytes], AppExchange],
        on_end: Callable[[], None],
    ) -> None:
        """`on_request` makes an exchange of its number, its frame's prefix and its request.
        `on_end` is called when the front end has closed the express lane."""
        sock.setblocking(False)
        self._exchanges: dict[int, AppExchange] = {}
        """The exchanges in flight, by number."""
        self._reactor = reactor
        self._sock = sock
        self._on_request = on_request
        self._on_end = on_end
        self._space = memoryview(bytearray(_READ))
        self._partial = b""
        self._out: list[bytes] = []
        self._unsent = b""
        reactor.watch(sock.fileno(), select.EPOLLIN, self._on_events)
        reactor.after_batch(self.flush)

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._reactor.modify(self._sock.fileno(), select.EPOLLIN)
            unsent, self._unsent = self._unsent, b""
            self._send(unsent)
        if events & ~select.EPOLLOUT:
            try:
                size = self._sock.recv_into(self._space)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if size == 0:
                self._reactor.unwatch(self._sock.fileno())
                self._on_end()
                return
            data = bytes(self._space[:size])
            if self._partial:
                data = self._partial + data
            messages, consumed = read_requests(data)
            self._partial = data[consumed:]
            exchanges = self._exchanges
            on_request = self._on_request
            for number, kind, prefix, payload in messages:
                if kind == REQUEST:
                    exchanges[number] = on_request(number, prefix, payload)
                    continue
                exchange = exchanges.get(number)
                if exchange is None:
                    pass
                elif kind == FIN:
                    exchange.on_fin()
                elif kind == CANCEL:
                    self._reactor.cancel(exchange)
                elif kind == WITHDRAW:
                    self._withdraw(number, exchange)
                else:
                    self._reactor.give_up(exchange)

    def _withdraw(self, number: int, exchange: AppExchange) -> None:
        """Give an exchange back to the front end, if it has not begun. Otherwise it goes on."""
        if exchange.take_out():
            exchange.ended = True
            del self._exchanges[number]
            self._out.append(pack_message(number, WITHDRAWN))

    # `flush` sends the messages that these methods gather, at the end of each batch.

    def answer(self, number: int, pieces: list[bytes], size: int) -> None:
        """Gather a whole answer of `size` bytes, whose app still runs."""
        self._out.append(pack_message(number, ANSWER, size))
        self._out += pieces

    def over(self, number: int, pieces: list[bytes], size: int) -> None:
        """Gather a whole answer of `size` bytes, whose app has ended."""
        del self._exchanges[number]
        self._out.append(pack_message(number, ANSWER_DONE, size))
        self._out += pieces

    def done(self, number: int) -> None:
        """Tell the front end that an app has ended. Its answer was gathered before, is on a plain
        lane, or is not wanted any more."""
        if self._exchanges.pop(number, None) is not None:
            self._out.append(pack_message(number, DONE))

    def flush(self) -> None:
        """Send the gathered messages, unless bytes of an earlier flush still wait for the
        kernel."""
        if self._out and not self._unsent:
            out = b"".join(self._out)
            self._out.clear()
            self._send(out)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The front end is gone. The next read finds this too, and then the process ends.
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._reactor.modify(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        else:
            self.flush()
