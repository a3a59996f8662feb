"""The body of a request that arrives in pieces on the express lane.

It has a window: the front end stops after WINDOW bytes that were not credited.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from reactor_run.protocol.express import CREDIT_FOR_BODY, WINDOW, pack_count
from reactor_run.pulse import BEGUN, STREAM_SLOTS, WAITS, Pulse

__all__ = ["BodyLoop", "BodyPort", "StreamBody"]


class BodyPort(Protocol):
    """The part of the express port that a body uses."""

    def gather(self, message: bytes, payload: bytes = b"") -> None:
        """Send a message at the next flush."""


class BodyLoop(Protocol):
    """The part of the reactor's loop that a body uses."""

    pulse: Pulse

    def flush_soon(self) -> None:
        """Flush before the loop waits."""


class StreamBody:
    """The pieces of one body that the app has not taken. It belongs to the loop's thread."""

    __slots__ = ("_loop", "_number", "_pieces", "_port", "_to_credit", "fin")

    def __init__(self, loop: BodyLoop, port: BodyPort, number: int) -> None:
        self.fin = False
        """The client has sent FIN, after the pieces that have arrived."""
        self._loop = loop
        self._port = port
        self._number = number
        self._pieces: deque[bytes] | None = None
        """None: there was no piece yet."""
        self._to_credit = 0
        """Bytes that the app has taken since the last credit."""
        self.wait_ends()

    def arrived(self, data: bytes) -> None:
        """Take a piece from the front end."""
        if self._pieces is None:
            self._pieces = deque()
        self._pieces.append(data)

    @property
    def readable(self) -> bool:
        """Whether `take` returns at once what the app gets next."""
        return bool(self._pieces) or self.fin

    def take(self) -> bytes | None:
        """Return the next piece; b"" after FIN; None if none has arrived.

        The caller must call `taken` in the loop's thread.
        """
        if not self._pieces:
            return b"" if self.fin else None
        return self._pieces.popleft()

    def taken(self, size: int) -> None:
        """Credit the front end with what the app has taken, when it is half of the window."""
        self._to_credit += size
        if self._to_credit >= WINDOW // 2:
            count, self._to_credit = self._to_credit, 0
            self._port.gather(pack_count(self._number, CREDIT_FOR_BODY, count))
            self._loop.flush_soon()

    def drop(self) -> None:
        """Forget the pieces that have arrived: the app takes no more."""
        self._pieces = None

    def wait_begins(self) -> None:
        """Show the front end that the app waits for more of the body."""
        self._loop.pulse.streams[self._number % STREAM_SLOTS] = WAITS

    def wait_ends(self) -> None:
        """Show the front end that the app waits no longer."""
        self._loop.pulse.streams[self._number % STREAM_SLOTS] = BEGUN
