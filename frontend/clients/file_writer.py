"""Sends a part of a file to one client, as the client takes it and the disk gives it.

Bytes that are in memory go by sendfile(2), from the page cache to the socket. If the next ones are
not, a thread loads them, and the client is not watched meanwhile: the minimum rate is about clients
and not about disks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.clients.reading_rate import ReadingRate
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.exchanges.ports import AnswerSource
from reactor_run.frontend.static.content import LOAD, FileShrunk, load, ready

if TYPE_CHECKING:
    from reactor_run.frontend.static.disk_threads import DiskThreads

__all__ = ["FilePart", "FileWriter"]

_SENDS_MAX: Final = 8
"""The most calls of sendfile for one client in a row."""
_SEND: Final = 262144
"""The most bytes in one call."""


class FilePart:
    """The bytes of an open file that an answer has. They are sent once.

    start, end: of the bytes; `end` is behind the last one. place: the next one.
    """

    __slots__ = ("end", "fd", "loaded", "place", "start", "threads")

    def __init__(self, threads: DiskThreads, fd: int, start: int, end: int) -> None:
        """`threads`: load what is not in memory. The part owns `fd`."""
        self.threads = threads
        self.fd = fd
        self.start = self.place = start
        self.end = end
        self.loaded = start
        """The bytes before this place were loaded a moment ago."""

    @property
    def sent(self) -> int:
        """How many bytes the kernel has taken."""
        return self.place - self.start

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FileWriter:
    """The head of an answer and a part of a file, and the client's minimum rate."""

    in_file = 0
    """The size of a temporary file in bytes. It uses none."""
    in_memory = 0
    """The bytes of the file that wait in memory. It reads them as the client takes them."""

    __slots__ = ("_head", "_make_rate", "_on_loaded", "_part", "_rate", "_transport", "loading")

    def __init__(
        self,
        transport: Transport,
        head: bytes,
        part: FilePart,
        make_rate: Callable[[], ReadingRate],
        on_loaded: Callable[[FileWriter], None],
    ) -> None:
        """`make_rate`: called when the client is waited for. `on_loaded`: called with this writer
        when it can go on after `loading`."""
        self._transport = transport
        self._head = memoryview(head)
        self._part = part
        self._make_rate = make_rate
        self._on_loaded = on_loaded
        self._rate: ReadingRate | None = None
        self.loading = False
        """It waits for the disk."""

    @property
    def waiting(self) -> int:
        """The bytes that the kernel has not taken."""
        return len(self._head) + self._part.end - self._part.place

    def flush(self, now: float) -> None:
        """Send bytes. Raises OSError after a reset, and FileShrunk."""
        if self.loading:
            return
        before = self.waiting
        cold = False
        try:
            cold = self._send()
        except BlockingIOError:
            pass
        if not self.waiting:
            self._part.close()
        elif cold:
            self._rate = None
            self._load()
        elif self._rate is None:
            self._rate = self._make_rate()
        else:
            self._rate.credit(before - self.waiting, now)

    def _send(self) -> bool:
        """Return whether the next bytes are not in memory. Raises BlockingIOError if the client
        takes no more."""
        transport, part = self._transport, self._part
        while self._head:
            self._head = self._head[transport.send(self._head) :]
        for _ in range(_SENDS_MAX):
            count = min(part.end - part.place, _SEND)
            if not count:
                break
            if part.place >= part.loaded:
                count = ready(part.fd, part.place, count)
                if not count:
                    return True
                part.loaded = part.place + count
            else:
                count = min(count, part.loaded - part.place)
            sent = transport.send_file(part.fd, part.place, count)
            if not sent:
                raise FileShrunk
            part.place += sent
        return False

    def _load(self) -> None:
        """Have a thread load the next bytes. It has a descriptor of its own, as a client may leave
        meanwhile."""
        part = self._part
        fd = os.dup(part.fd)
        place, count = part.place, min(part.end - part.place, LOAD)
        self.loading = True

        def work() -> int:
            try:
                return load(fd, place, count)
            finally:
                os.close(fd)

        def then(outcome: int | Exception) -> None:
            self.loading = False
            # After an error, sendfile meets it too.
            part.loaded = place + (outcome if isinstance(outcome, int) and outcome else count)
            self._on_loaded(self)

        part.threads.run(work, then)

    def restrain(self, source: AnswerSource) -> None:
        """Do nothing: a file has no source that could pause."""

    def release(self) -> None:
        """Do nothing: a file has no source."""

    @property
    def due(self) -> float:
        """When the client is below the minimum rate, in seconds of the loop's clock; inf: never."""
        return inf if self._rate is None else self._rate.due

    def is_overdue(self, now: float) -> bool:
        """Check the kernel's buffer; return whether the client is below the minimum rate."""
        return self._rate is not None and self._rate.is_overdue(now)

    def close(self) -> None:
        """Close the file."""
        self._part.close()
