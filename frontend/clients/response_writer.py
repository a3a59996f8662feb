"""An answer on its way to a client that takes, or gets, it in more than one piece.

Most answers are whole and taken at once: these never come here. What the client does not take waits
in memory, and for WSGI apps then in a temporary file. Beyond its bounds the lane that the answer
comes in on is paused, until the client has taken enough.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from math import inf
from typing import Final

from reactor_run.frontend.clients.min_rate import Patience
from reactor_run.frontend.exchanges.spool import Outbox
from reactor_run.frontend.log import limited
from reactor_run.frontend.reactors.lane import Lane

__all__ = ["Answer"]

_ANSWER_MAX: Final = 262144
"""Bytes of an answer that are held in memory for a client."""
_ANSWER_LOW: Final = 65536
"""Bytes of it below which more is read from the lane."""
_SENDS_MAX: Final = 8
"""Sends to one client in a row."""
_RESET: Final = struct.pack("ii", 1, 0)


class Answer:
    """Interim answers, the final one, and what of them the client has not taken."""

    __slots__ = (
        "_file_max",
        "_outbox",
        "_patience",
        "_paused",
        "_sock",
        "_unread",
        "_until_close",
        "begun",
    )

    def __init__(self, sock: socket.socket, file_max: int, patience: Patience) -> None:
        """`file_max`: bytes that may wait in a temporary file; 0: none."""
        self._sock = sock
        self._file_max = file_max
        self._outbox = Outbox()
        self._patience = patience
        self._unread = 0
        """Bytes that the kernel still held for the client when it was looked at last."""
        self._paused: Lane | None = None
        """The lane that waits for the client to take more."""
        self._until_close = False
        self.begun = False
        """Bytes of a final answer have been sent: there can be no other."""

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken."""
        return self._outbox.size

    @property
    def in_file(self) -> int:
        """Bytes of the temporary file."""
        return self._outbox.in_file

    def begin(self, *, until_close: bool) -> None:
        """What is written from now on is the final answer, which may last until the close."""
        self.begun = True
        self._until_close = until_close

    def write(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes, keep the rest; `data` is only lent.

        Raises OSError: the client is gone, or the temporary file cannot be written.
        """
        if not self._outbox.size:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        try:
            self._outbox.add(bytes(data), _ANSWER_MAX if self._file_max else None)
        except OSError as error:
            limited.error("an answer could not be spooled: %s", error)
            raise

    def flush(self, now: float) -> None:
        """The client takes bytes again. Raises OSError: it is gone."""
        outbox = self._outbox
        before = outbox.size
        try:
            for _ in range(_SENDS_MAX):
                outbox.send(self._sock)
                if not outbox.size:
                    break
        except BlockingIOError:
            pass
        self._look(before - outbox.size, now)
        # A file gives its space back only as a whole.
        if self._paused is not None and outbox.size <= _ANSWER_LOW and not outbox.in_file:
            lane, self._paused = self._paused, None
            lane.resume()

    def restrain(self, lane: Lane) -> None:
        """Leave the lane alone while the client has too much to take already."""
        outbox = self._outbox
        if outbox.size > _ANSWER_MAX and outbox.in_file >= self._file_max:
            lane.pause()
            self._paused = lane

    def release(self) -> None:
        """Nothing more comes: the lane may be another exchange's from now on."""
        self._paused = None

    # Slow clients --------------------------------------------------------------------------------

    def begin_to_wait(self, now: float) -> None:
        """The client is to take what has not gone."""
        self._unread = self._ask_kernel()
        self._patience.begin(now)

    @property
    def due(self) -> float:
        """When the client has to have taken more, by the loop's clock."""
        return self._patience.due if self._outbox.size else inf

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
            unread = self._ask_kernel()
            self._patience.moved(max(self._unread + sent - unread, 0), now)
            self._unread = unread

    def _ask_kernel(self) -> int:
        """SIOCOUTQ of tcp(7), unix(7): what the other end has not acknowledged, or not read."""
        return int.from_bytes(fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    # The end -------------------------------------------------------------------------------------

    def cut(self) -> None:
        """It will not be completed: have the end of the connection show that."""
        if self._until_close:
            # The end would look like the end of the answer: only a reset tells.
            self.reset()

    def reset(self) -> None:
        """Have the kernel forget what the client has not taken, once the connection is closed."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        """Drop what the client has not taken."""
        self._outbox.close()
