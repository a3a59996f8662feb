"""A request body that is still to come when its head is read: where it goes while it comes.

    collected   kept here until all of it has come, for an app that shall not wait for it: always
                for WSGI, and for ASGI if it is small
    passed on   to the exchange's lane; while the exchange waits in the queue, to its request
    drained     read and dropped, because the answer is complete: the connection goes on behind it

It knows the body's framing and bounds, not the client's connection: that reads the bytes, and
decides what becomes of it when they are refused. It reads at most PIECES_MAX chunks at a time. What
has come beyond those is `postponed`: the connection feeds it in a later turn of the loop, and reads
nothing from the client before.
"""

from __future__ import annotations

from typing import Final

from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.exchanges.exchange import KEPT_MAX, WAITING, Exchange
from reactor_run.frontend.exchanges.spool import Spool
from reactor_run.protocol import policy
from reactor_run.protocol.body import CHUNKED, PIECES_MAX, body_reader
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.request import RequestHead, reframe

__all__ = ["COLLECT_MAX", "READ_MAX", "RequestBody", "is_small"]

COLLECT_MAX: Final = 65536
"""Bytes of a body that is collected for an ASGI app too: while it comes it needs no reactor."""

READ_MAX: Final = 262144
"""Bytes of one read, at most: the larger, the less a byte costs."""
_READ_MIN: Final = 65536
"""The same of what only waits, and of a body of which less is left, or nothing has come."""
_READ_CHUNKS: Final = 16384
"""The same of a body in chunks so small that one read takes several turns."""
_WAITING_MAX: Final = 262144
"""Bytes of a request that may wait in the queue, before its client is read no further."""
_DRAIN_MAX: Final = 262144
"""Bytes of an unwanted body that are read so that the connection can go on."""


def is_small(head: RequestHead) -> bool:
    """Whether a body is small, and comes without the app's leave (RFC 9110 §10.1.1)."""
    return 0 < head.body <= COLLECT_MAX and not head.expect_continue


class RequestBody:
    """One body, from the first byte behind its head to its end."""

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
        """`size_max`: bytes of the largest body that is taken; 0 is no bound."""
        self.rate = rate
        self._head = head
        self._size_max = size_max
        self._reader = body_reader(head.body)
        self._spool = Spool() if collect else None
        self.postponed: memoryview | None = None
        """Bytes that have come and that `feed` is to be given in a later turn of the loop."""
        self._chunked_read = _READ_MIN
        """Bytes to read at once of a chunked body."""
        self._drain_until = 0
        """Bytes at which the connection is not worth reading the body to its end."""

    @property
    def complete(self) -> bool:
        """It has come to its end."""
        return self._reader.complete

    @property
    def awaits_permission(self) -> bool:
        """The client may wait for 100 Continue before it sends any of it (RFC 9110 §10.1.1)."""
        return self._head.expect_continue and self._reader.received == 0

    def read_size(self, exchange: Exchange | None) -> int:
        """Bytes to read at once. Behind a body whose end is known few belong to later requests."""
        if exchange is not None and exchange.state is WAITING and self._spool is None:
            return _READ_MIN
        if self._head.body == CHUNKED:
            return self._chunked_read
        return min(max(self._head.body - self._reader.received, _READ_MIN), READ_MAX)

    def feed(self, data: memoryview) -> int:
        """Read PIECES_MAX chunks of `data`; return the index at which they, or the body, end.

        `data` is only lent. Raises Rejected, and OSError if the temporary file of a collected body
        cannot be written.
        """
        reader = self._reader
        parts: list[memoryview] | None = None if self._spool is None else []
        end = reader.feed(data, 0, parts, PIECES_MAX)
        self._chunked_read = READ_MAX if end == len(data) else _READ_CHUNKS
        # A chunked body tells its size only by and by.
        if 0 < self._size_max < reader.received:
            raise Rejected(policy.BODY_TOO_LARGE)
        if self._spool is not None and parts:
            self._spool.write(parts[0] if len(parts) == 1 else b"".join(parts))
        return end

    def take_postponed(self) -> memoryview | None:
        """Return `postponed`, to be fed now."""
        data, self.postponed = self.postponed, None
        return data

    # Collected -----------------------------------------------------------------------------------

    @property
    def collected(self) -> bool:
        """It is kept here until all of it has come."""
        return self._spool is not None

    def hand_over(self, exchange: Exchange) -> None:
        """Give the exchange, whose request is its head so far, all that was collected."""
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
        """Nobody wants what was collected."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    # Passed on -----------------------------------------------------------------------------------

    def pass_on(self, exchange: Exchange, data: memoryview) -> bool:
        """Send `data`, as it came, after the exchange's request; whether there is room for more.

        `data` is only lent. Once the lane does not take all of it, there is none until it has; for
        a lane that has taken nothing there is as much as in the queue.
        """
        exchange.whole = self._reader.complete
        if exchange.state is WAITING:
            _append(exchange, data)
            return len(exchange.request) <= _WAITING_MAX
        lane = exchange.lane
        if lane is None:
            return True
        if exchange.request:
            kept = not lane.begun or len(exchange.request) + len(data) <= KEPT_MAX
            if kept:
                _append(exchange, data)
            else:
                exchange.request = b""
        lane.write(data)
        if not lane.begun:
            # It is broken: another reactor will be given all of it.
            return len(exchange.request) <= _WAITING_MAX
        return not lane.out.size

    # Drained -------------------------------------------------------------------------------------

    def may_be_drained(self, status: int) -> bool:
        """Whether the connection may outlive an answer that comes before the body is whole."""
        head = self._head
        if self.awaits_permission:
            # Nobody knows whether the client will send the body now.
            return False
        if status < 300:
            # A good answer may come while the body does, and end after it.
            return True
        return head.body != CHUNKED and head.body - self._reader.received <= _DRAIN_MAX

    def drain(self) -> None:
        """What comes from now on is dropped."""
        self._drain_until = self._reader.received + _DRAIN_MAX

    @property
    def too_long_to_drain(self) -> bool:
        """More of it came since than the connection is worth."""
        return self._reader.received > self._drain_until


def _append(exchange: Exchange, data: memoryview) -> None:
    """Add `data` to the exchange's request. A bytearray grows without being copied each time."""
    request = exchange.request
    if not isinstance(request, bytearray):
        exchange.request = request = bytearray(request)
    request += data
