"""The bytes that a client has not taken: they wait here, and are bounded.

Most answers are taken whole and at once: these never come here. The rest waits in memory, and of a
WSGI app then in a temporary file. Beyond the bounds the source of the answer is paused until the
client has taken enough.
"""

from __future__ import annotations

from math import inf
from typing import Final

from reactor_run.frontend.clients.min_rate import MinimumRate
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.exchanges.spool import Outbox

__all__ = ["ResponseWriter"]

_ANSWER_MAX: Final = 262144
"""Bytes of an answer that are held in memory for a client."""
_ANSWER_LOW: Final = 65536
"""Bytes of it below which the source goes on."""
_SENDS_MAX: Final = 8
"""Sends to one client in a row."""


class ResponseWriter:
    """What of its answers one client has not taken."""

    __slots__ = (
        "_file_max",
        "_outbox",
        "_paused",
        "_rate",
        "_transport",
        "_unread",
    )

    def __init__(self, transport: Transport, file_max: int, rate: MinimumRate) -> None:
        """`file_max`: bytes that may wait in a temporary file; 0: none."""
        self._transport = transport
        self._file_max = file_max
        self._outbox = Outbox()
        self._rate = rate
        self._unread = 0
        """Bytes that the kernel still held for the client when it was looked at last."""
        self._paused: AnswerSource | None = None
        """The source that waits for the client to take more."""

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken."""
        return self._outbox.size

    @property
    def in_file(self) -> int:
        """Bytes of the temporary file."""
        return self._outbox.in_file

    def add(self, data: bytes | memoryview) -> None:
        """Keep `data`, which is only lent. Raises OSError if the file cannot be written."""
        self._outbox.add(bytes(data), _ANSWER_MAX if self._file_max else None)

    def flush(self, now: float) -> None:
        """The client takes bytes again. Raises OSError: it is gone."""
        outbox = self._outbox
        before = outbox.size
        try:
            for _ in range(_SENDS_MAX):
                outbox.send(self._transport)
                if not outbox.size:
                    break
        except BlockingIOError:
            pass
        self._look(before - outbox.size, now)
        # A file gives its space back only as a whole.
        if self._paused is not None and outbox.size <= _ANSWER_LOW and not outbox.in_file:
            source, self._paused = self._paused, None
            source.resume()

    def restrain(self, source: AnswerSource) -> None:
        """Pause the source if too much waits for the client already."""
        outbox = self._outbox
        if outbox.size > _ANSWER_MAX and outbox.in_file >= self._file_max:
            source.pause()
            self._paused = source

    def release(self) -> None:
        """The source brings nothing more of this answer, and may bring another's."""
        self._paused = None

    # Slow clients --------------------------------------------------------------------------------

    def begin_to_wait(self, now: float) -> None:
        """Bytes begin to wait: it is the client's turn."""
        self._unread = self._transport.unacknowledged
        self._rate.begin(now)

    @property
    def due(self) -> float:
        """When the client has to have taken more, by the loop's clock."""
        return self._rate.due if self._outbox.size else inf

    def is_overdue(self, now: float) -> bool:
        """The client has taken too little, in too long a time."""
        if self.due <= now:
            self._look(0, now)
        return self.due <= now

    def _look(self, sent: int, now: float) -> None:
        """See what the client has taken since; `sent` more bytes were given to the kernel.

        The kernel asks for more only when a third of its buffer is free, or more. That may be
        megabytes, and minutes: a client is slow only if it takes nothing of those either.
        """
        if self._outbox.size:
            unread = self._transport.unacknowledged
            self._rate.moved(max(self._unread + sent - unread, 0), now)
            self._unread = unread

    def close(self) -> None:
        """Drop what the client has not taken."""
        self._outbox.close()
