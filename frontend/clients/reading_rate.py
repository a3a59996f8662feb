"""Judges whether a client reads its answer fast enough, by what leaves the kernel's buffer.

The kernel asks for more bytes only when a third of its buffer is free. That may be megabytes, and
may take minutes. So the bytes that leave the buffer count, whether or not more were written.
"""

from __future__ import annotations

from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.transport import Transport

__all__ = ["ReadingRate"]


class ReadingRate:
    """The minimum rate of one client that has an answer to read."""

    __slots__ = ("_rate", "_transport", "_unread")

    def __init__(self, transport: Transport, rate: MinimumRate, now: float) -> None:
        """Start: bytes begin to wait for the client. `now`: in seconds of the loop's clock."""
        self._transport = transport
        self._rate = rate
        self._unread = transport.unacknowledged
        """The bytes that the kernel held for the client at the last check."""
        rate.begin(now)

    @property
    def due(self) -> float:
        """When the client is below the minimum rate, in seconds of the loop's clock; inf: never."""
        return self._rate.due

    def credit(self, sent: int, now: float) -> None:
        """Credit the client with what it has read since the last check.

        `sent`: bytes that the kernel has taken since.
        """
        unread = self._transport.unacknowledged
        self._rate.moved(max(self._unread + sent - unread, 0), now)
        self._unread = unread

    def is_overdue(self, now: float) -> bool:
        """Check the kernel's buffer; return whether the client is below the minimum rate."""
        if self.due <= now:
            self.credit(0, now)
        return self.due <= now
