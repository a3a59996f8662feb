"""The pulse: shared memory that tells what a reactor's app does and which exchanges have begun.

A reactor whose loop is stalled can send no message, but its memory can be read. The reactor writes
the pulse as it goes on, and the front end reads it when it has to know.

    bytes        content                                                    written by
    0 to 7       a float: since when a step of an app runs in the loop,     reactor
                 in seconds of CLOCK_MONOTONIC; 0.0 between steps
    8 to 15      an integer: the number of the last exchange of the         reactor
                 express lane that has begun
    16           a byte: 1 if the front end waits for the end of a batch    front end; reactor,
                                                                            when it tells that
    17 to 32767  a byte for each lane: NOT_BEGUN, BEGUN or WAITS, of the    front end, before it
                 exchange on that lane                                      sends a request; reactor
    32768 to     a byte for each number of the express lane, modulo         reactor
    65535        STREAM_SLOTS: BEGUN or WAITS, if its request goes in
                 pieces
    65536 on     an integer for each number of the express lane, modulo     both
                 OFFER_SLOTS: what became of its offer (offers.py)
    73728 to     the same: the number of its client's socket                front end
    81919
    81920 on     an integer for each buffer: whether it is used             both
                 (buffers.py)
    86016 on     BUFFERS buffers for pieces of request bodies, then         front end; reactor
                 BUFFERS for answers

An exchange begins just before its app is called. The reactor writes so before it calls the app, so
an exchange that has not begun has had no effect. The exchanges of the express lane have rising
numbers and begin in that order, so one number tells of them all. Lanes begin their exchanges in any
order. A lane has one exchange at a time, so one byte per lane is enough. The front end chooses this
byte, the slot of the lane, when it opens the lane.

Two requests in pieces whose numbers differ by a multiple of STREAM_SLOTS share a byte. While both
are in flight, the front end may count one exchange too many or too few as waiting for its client.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, TypeAlias

from reactor_run.buffers import BUFFER_SIZE, Buffers
from reactor_run.offers import Offers

__all__ = [
    "BEGUN",
    "BUFFERS",
    "NOT_BEGUN",
    "OFFER_SLOTS",
    "SLOTS",
    "SLOW",
    "STALLED_AFTER",
    "STALL_BUDGET_SECONDS",
    "STREAM_SLOTS",
    "WAITS",
    "Pulse",
    "Word",
]

STALLED_AFTER: Final = 0.001
"""A step that takes more seconds than this counts as a stall of the loop."""
SLOW: Final = 0.005
"""A step that takes more seconds than this puts the reactor under a stall budget. The budget lasts
STALL_BUDGET_SECONDS."""
STALL_BUDGET_SECONDS: Final = 1.0
"""Seconds for which a reactor stays under a stall budget after a slow step. Meanwhile the front end
bounds the exchanges that it holds unstarted. The reactor tells the end of a batch if the front end
waits for it."""

NOT_BEGUN: Final = 0
"""The exchange on this lane has not begun."""
BEGUN: Final = 1
"""The exchange on this lane has begun."""
WAITS: Final = 2
"""The exchange has begun, and its app waits for more of the request's body."""

Word: TypeAlias = "memoryview[float]"

_MARKS: Final = 81920
_SPACE: Final = 86016
_AWAITED: Final = 16
_LANES: Final = 17
_STREAMS: Final = 32768
_OFFERS: Final = 65536
SLOTS: Final = _STREAMS - _LANES
"""Most lanes that can have a byte at once."""
STREAM_SLOTS: Final = _OFFERS - _STREAMS
"""The number of bytes for requests in pieces on the express lane."""
OFFER_SLOTS: Final = (_MARKS - _OFFERS) // 16
"""The most offers that there can be at once."""
BUFFERS: Final = 32
"""The number of buffers in each direction."""
_SIZE: Final = _SPACE + 2 * BUFFERS * BUFFER_SIZE


class Pulse:
    """The shared memory, as views, offers and buffers."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: descriptor of the memory, which may be closed afterwards. None: memory that is not
        shared.

        Raises OSError if memory or descriptors are short, and ValueError if the memory has another
        size.
        """
        self.shared = fd is not None
        """Another process may have this memory."""
        self._memory = mmap.mmap(-1 if fd is None else fd, _SIZE)
        self._view = memoryview(self._memory)
        self.since: Word = self._view[:8].cast("d")
        self.begun: memoryview[int] = self._view[8:_AWAITED].cast("Q")
        self.awaited: memoryview[int] = self._view[_AWAITED:_LANES]
        self.lanes: memoryview[int] = self._view[_LANES:_STREAMS]
        self.streams: memoryview[int] = self._view[_STREAMS:_OFFERS]
        words = self._view[_OFFERS:_MARKS].cast("Q")
        self.offers = Offers(words[:OFFER_SLOTS], words[OFFER_SLOTS:])
        words.release()
        marks = self._view[_MARKS : _MARKS + 16 * BUFFERS].cast("Q")
        half = _SPACE + BUFFERS * BUFFER_SIZE
        self.request_buffers = Buffers(marks[:BUFFERS], self._view[_SPACE:half])
        self.answer_buffers = Buffers(marks[BUFFERS:], self._view[half:])
        marks.release()

    @classmethod
    def share(cls) -> tuple[Pulse, int]:
        """Return a new pulse, and a descriptor by which another process can map it. Raises
        OSError."""
        fd = os.memfd_create("reactor-run-pulse", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _SIZE)
            return cls(fd), fd
        except OSError:
            os.close(fd)
            raise

    def close(self) -> None:
        """Release the memory, and Python's own descriptor of it."""
        self.offers.release()
        self.request_buffers.release()
        self.answer_buffers.release()
        for view in self.since, self.begun, self.awaited, self.lanes, self.streams, self._view:
            view.release()
        self._memory.close()
