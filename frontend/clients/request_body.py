"""A request body that arrives after its head: collects it, passes it on or drops it.

    collected   kept here until all of it has arrived, so that no app waits for it: always for WSGI,
                and for ASGI if the body is small
    passed on   sent to the lane of the exchange; while the exchange is queued, kept with its
                request
    drained     read and dropped, because the answer is complete and the connection goes on

This file knows the framing and the limits of the body. The connection reads the bytes, and decides
what to do when they break a rule. One call of `feed` reads at most PIECES_MAX chunks. The bytes
after those are `postponed`: the connection feeds them in a later turn of the loop, and reads
nothing from the client before.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.exchanges.exchange import KEPT_MAX, WAITING, Exchange
from reactor_run.frontend.exchanges.spool import Spool
from reactor_run.protocol import policy
from reactor_run.protocol.body import CHUNKED, PIECES_MAX, body_reader
from reactor_run.protocol.express import PIECE_MAX
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import RequestHead, reframe

__all__ = ["COLLECT_MAX", "READ_MAX", "RequestBody", "is_small"]

COLLECT_MAX: Final = 131072
"""The largest body in bytes that is collected for ASGI. It occupies no reactor while it arrives."""

READ_MAX: Final = PIECE_MAX
"""The most bytes of one read. A larger read costs less per byte."""
_READ_MIN: Final = 65536
"""The bytes of one read for a queued exchange, for the last part of a body, and for the first read
of a chunked body."""
_READ_CHUNKS: Final = 16384
"""The bytes of one read for a body in chunks so small that one read takes several turns."""
_WAITING_MAX: Final = 262144
"""The most bytes of a request in the queue. Beyond this its client is not read."""
_DRAIN_MAX: Final = 262144
"""The most bytes of an unwanted body that are drained to keep the connection."""


def is_small(head: RequestHead) -> bool:
    """Return whether a body is small and does not wait for 100 Continue (RFC 9110 §10.1.1)."""
    return 0 < head.body <= COLLECT_MAX and not head.expect_continue


class RequestBody:
    """A request body, from the first byte after the head to its end."""

    __slots__ = (
        "_chunked_read",
        "_drain_until",
        "_head",
        "_reader",
        "_size_max",
        "_spool",
        "postponed",
        "rate",
    )

    def __init__(
        self, head: RequestHead, size_max: int, rate: MinimumRate, *, collect: bool
    ) -> None:
        """`size_max`: the largest body in bytes; 0: no limit. `rate`: of the client.

        `collect`: keep the body here until all of it has arrived.
        """
        self.rate = rate
        self._head = head
        self._size_max = size_max
        self._reader = body_reader(head.body)
        self._spool = Spool() if collect else None
        self.postponed: memoryview | None = None
        """Bytes that have arrived, for `feed` in a later turn of the loop; None: there are none."""
        self._chunked_read = _READ_MIN
        """The bytes of the next read of a chunked body."""
        self._drain_until = 0
        """The size in bytes at which draining stops and the connection ends."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        return self._reader.complete

    @property
    def awaits_permission(self) -> bool:
        """Whether the client may wait for 100 Continue, and has sent no byte (RFC 9110 §10.1.1)."""
        return self._head.expect_continue and self._reader.received == 0

    def read_size(self, exchange: Exchange | None) -> int:
        """Return the size of the next read in bytes. It leaves most later requests unread.

        0: nothing should be read until the exchange's link has room.
        """
        if self._head.body == CHUNKED:
            size = self._chunked_read
        else:
            size = min(max(self._head.body - self._reader.received, _READ_MIN), READ_MAX)
        if exchange is None or self._spool is not None:
            return size
        if exchange.state is WAITING:
            return _READ_MIN
        return size if exchange.lane is None else min(size, exchange.lane.room())

    def space(self, exchange: Exchange | None, wanted: int) -> memoryview | None:
        """Return memory into which `wanted` bytes should be read; None: any other."""
        if exchange is None or exchange.lane is None or self._spool is not None:
            return None
        return exchange.lane.space() if wanted >= _READ_CHUNKS else None

    def feed(self, data: memoryview) -> int:
        """Read at most PIECES_MAX chunks of `data`; return the index where they or the body end.

        The caller may reuse the memory of `data` after the call. Raises Rejected, and OSError if
        the temporary file of a collected body cannot be written.
        """
        reader = self._reader
        parts: list[memoryview] | None = None if self._spool is None else []
        end = reader.feed(data, 0, parts, PIECES_MAX)
        self._chunked_read = READ_MAX if end == len(data) else _READ_CHUNKS
        # The size of a chunked body is not known before its end.
        if 0 < self._size_max < reader.received:
            raise Rejected(policy.BODY_TOO_LARGE)
        if self._spool is not None and parts:
            self._spool.write(parts[0] if len(parts) == 1 else b"".join(parts))
        return end

    def take_postponed(self) -> memoryview | None:
        """Return `postponed` and clear it. The caller feeds the bytes."""
        data, self.postponed = self.postponed, None
        return data

    # Collected -----------------------------------------------------------------------------------

    @property
    def collected(self) -> bool:
        """Whether the body is kept here until all of it has arrived."""
        return self._spool is not None

    def hand_over(self, exchange: Exchange) -> None:
        """Give the collected body to the exchange, whose request was only the head so far."""
        spool, self._spool = self._spool, None
        assert spool is not None
        exchange.whole = True
        if self._head.body == CHUNKED or self._head.expect_continue:
            exchange.request = reframe(self._head, spool.size)
        if spool.in_memory:
            exchange.request = b"".join((exchange.request, spool.content()))
        else:
            exchange.spool = spool

    def drop(self) -> None:
        """Drop the collected bytes."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    # Passed on -----------------------------------------------------------------------------------

    def pass_on(self, exchange: Exchange, data: memoryview) -> bool:
        """Send `data` unchanged after the request; return whether there is room for more.

        The caller may reuse the memory of `data` after the call. There is no room while a lane has
        not taken all bytes. A lane that has taken no byte has as much room as the queue.
        """
        exchange.whole = self._reader.complete
        if exchange.state is WAITING:
            _append(exchange, data)
            return len(exchange.request) <= _WAITING_MAX
        lane = exchange.lane
        if lane is None:
            return True
        if exchange.request:
            announced = self._head.size + self._head.body
            needed = max(len(exchange.request) + len(data), announced)
            if needed <= KEPT_MAX or not lane.begun:
                _append(exchange, data)
            else:
                exchange.request = b""
        lane.write(data)
        if not lane.begun:
            # The lane is broken. All of the request will go to another reactor.
            return len(exchange.request) <= _WAITING_MAX
        return lane.room() > 0

    # Drained -------------------------------------------------------------------------------------

    def may_be_drained(self, status: int) -> bool:
        """Return whether the connection may go on after an answer that precedes the whole body."""
        head = self._head
        if self.awaits_permission:
            # The client may send the body now, or may not.
            return False
        if status < 300:
            # A successful answer may begin while the body arrives, and end after it.
            return True
        return head.body != CHUNKED and head.body - self._reader.received <= _DRAIN_MAX

    def drain(self) -> None:
        """Drop the rest of the body, at most _DRAIN_MAX bytes."""
        self._drain_until = self._reader.received + _DRAIN_MAX

    @property
    def too_long_to_drain(self) -> bool:
        """Whether more than _DRAIN_MAX bytes have arrived since `drain`."""
        return self._reader.received > self._drain_until


def _append(exchange: Exchange, data: memoryview) -> None:
    """Add `data` to the request of the exchange. A bytearray grows without a copy each time."""
    request = exchange.request
    if not isinstance(request, bytearray):
        exchange.request = request = bytearray(request)
    request += data
