"""Holds the bytes of answers that a client has not taken, up to a high-water mark.

Most answers are taken whole at once, and never come here. The others wait in memory, and for WSGI
then in a temporary file. Beyond the high-water mark the source of the answer is paused until the
client has taken enough.

The streams of one HTTP/2 connection share a bound on memory too. Beyond it their bytes wait in
files: the link may still bring a window of each (docs/lanes.md).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from reactor_run.frontend.clients.reading_rate import ReadingRate
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.exchanges.spool import Outbox

__all__ = ["ResponseWriter"]

_ANSWER_MAX: Final = 262144
"""The high-water mark: bytes in memory for one client beyond which the source is paused."""
_ANSWER_LOW: Final = 65536
"""The low-water mark: bytes in memory below which the source resumes."""
_SENDS_MAX: Final = 8
"""The most sends to one client in a row."""


class ResponseWriter:
    """The bytes that wait for one client, and its minimum rate."""

    loading = False
    """It waits for the disk. It never does."""

    __slots__ = (
        "_file_max",
        "_memory_left",
        "_outbox",
        "_paused",
        "_rate",
        "_transport",
    )

    def __init__(
        self,
        transport: Transport,
        file_max: int,
        rate: ReadingRate,
        memory_left: Callable[[], int] | None = None,
    ) -> None:
        """`file_max`: the bytes in a temporary file beyond which the source is paused; 0: no file.

        `rate`: has just begun. `memory_left`: tells how many bytes may be added in memory; None:
        no bound is shared.
        """
        self._memory_left = memory_left
        self._transport = transport
        self._file_max = file_max
        self._outbox = Outbox()
        self._rate = rate
        self._paused: AnswerSource | None = None
        """The source that is paused; None: there is none."""

    @property
    def waiting(self) -> int:
        """The bytes that the kernel has not taken."""
        return self._outbox.size

    @property
    def in_file(self) -> int:
        """The size of the temporary file in bytes."""
        return self._outbox.in_file

    @property
    def in_memory(self) -> int:
        """The bytes that wait in memory."""
        return self._outbox.in_memory

    def add(self, data: bytes | memoryview) -> None:
        """Keep a copy of `data`. Raises OSError if the file cannot be written."""
        memory_max = _ANSWER_MAX if self._file_max else None
        if self._memory_left is not None:
            memory_max = min(self.in_memory + self._memory_left(), _ANSWER_MAX)
        self._outbox.add(bytes(data), memory_max)

    def flush(self, now: float) -> None:
        """Send waiting bytes: the socket is writable again. Raises OSError after a reset."""
        outbox = self._outbox
        before = outbox.size
        try:
            for _ in range(_SENDS_MAX):
                outbox.send(self._transport)
                if not outbox.size:
                    break
        except BlockingIOError:
            pass
        if outbox.size:
            self._rate.credit(before - outbox.size, now)
        # The space of a file is freed only as a whole.
        if self._paused is not None and outbox.size <= _ANSWER_LOW and not outbox.in_file:
            source, self._paused = self._paused, None
            source.resume()

    def restrain(self, source: AnswerSource) -> None:
        """Pause the source if too many bytes wait for the client."""
        outbox = self._outbox
        crowded = outbox.size > _ANSWER_MAX or (
            self._memory_left is not None and self._memory_left() <= 0
        )
        if crowded and outbox.in_file >= self._file_max:
            source.pause()
            self._paused = source

    def release(self) -> None:
        """Forget the paused source: this answer has ended, and the source may carry another one."""
        self._paused = None

    # Slow clients --------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When the client is below the minimum rate, in seconds of the loop's clock; inf: never."""
        return self._rate.due if self._outbox.size else inf

    def is_overdue(self, now: float) -> bool:
        """Check the kernel's buffer; return whether the client is below the minimum rate."""
        return bool(self._outbox.size) and self._rate.is_overdue(now)

    def close(self) -> None:
        """Drop all bytes that wait."""
        self._outbox.close()
