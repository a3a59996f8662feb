"""Buffers in shared memory, by which one process gives the other large payloads.

A giver puts bytes into a free buffer. It marks the buffer as used, and sends a message with its
number and the count of bytes. The taker copies them out when it reads the message, and marks the
buffer as free. So these bytes do not cross a socket between the two. The front end gives pieces of
request bodies, and reads them from its clients into the buffers. A reactor gives answers.

Without the C extension there are no buffers: nothing else orders the copy and the mark for the
other process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from reactor_run.native import NATIVE, swap_word

__all__ = ["BUFFER_SIZE", "Buffers"]

BUFFER_SIZE: Final = 131072
"""The bytes of one buffer: the most that one read takes from a client, and the most of a whole
answer that is relayed."""

_FREE: Final = 0
_USED: Final = 1


class Buffers:
    """The buffers between the front end and one reactor, in one direction."""

    def __init__(self, marks: memoryview[int], space: memoryview) -> None:
        """`marks`: a word of 8 bytes for each buffer. `space`: their bytes."""
        self._marks = marks
        self._space = space
        self._free = deque(range(len(marks))) if NATIVE else deque[int]()
        """Buffers of which the giver knows that they are free."""

    def release(self) -> None:
        """Release the memory."""
        self._marks.release()
        self._space.release()

    # The giver -----------------------------------------------------------------------------------

    def space(self) -> memoryview | None:
        """Return a free buffer; None: there is none. The next call may return it again."""
        free = self._free
        if not free:
            if NATIVE:
                free += [at for at, mark in enumerate(self._marks.tolist()) if mark == _FREE]
            if not free:
                return None
        start = free[0] * BUFFER_SIZE
        return self._space[start : start + BUFFER_SIZE]

    def holds(self, data: bytes | memoryview) -> bool:
        """Return whether `data` begins the buffer that the last call of `space` has returned.

        It must not be a part of another buffer.
        """
        return isinstance(data, memoryview) and data.obj is self._space.obj

    def use(self) -> int:
        """Mark that buffer as used; return its number."""
        number = self._free.popleft()
        self._marks[number] = _USED
        return number

    def put(self, pieces: Iterable[bytes | memoryview], size: int) -> int | None:
        """Fill a buffer with `pieces` of `size` bytes in all; return its number. None: they do not
        fit, or none is free."""
        space = self.space() if size <= BUFFER_SIZE else None
        if space is None:
            return None
        at = 0
        for piece in pieces:
            end = at + len(piece)
            space[at:end] = piece
            at = end
        return self.use()

    # The taker -----------------------------------------------------------------------------------

    def take(self, number: int, size: int) -> bytes:
        """Return a copy of the first `size` bytes of a used buffer, and mark it as free.

        Raises ValueError if there is no such buffer, or it is smaller or free.
        """
        if number >= len(self._marks) or size > BUFFER_SIZE:
            raise ValueError(f"no buffer {number} of {size} bytes")
        start = number * BUFFER_SIZE
        data = bytes(self._space[start : start + size])
        if not swap_word(self._marks, number, _USED, _FREE):
            raise ValueError(f"buffer {number} is free")
        return data
