"""Bytes that wait for one socket to take them, in order.

They are kept as views of the buffers in which they came. Small pieces are copied into one buffer: a
view for each would take ten times their memory. Both processes use this file, for lanes and for
clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

__all__ = ["Outgoing", "Writable"]

_IOV_MAX: Final = 64
"""Most pieces in one call to the kernel."""
_SMALL: Final = 1024
"""A piece of fewer bytes is copied."""
_JOINED_MAX: Final = 65536
"""Most bytes of small pieces in one buffer."""


class Writable(Protocol):
    """A socket, or a stand-in for one. Each call returns how many bytes were taken."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send one piece."""

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send several pieces."""


_NOTHING: Final[deque[memoryview]] = deque()
"""Always empty. A deque takes 600 bytes, and most sockets have nothing that waits."""


class Outgoing:
    """The bytes that wait for one socket."""

    __slots__ = ("_pieces", "_small", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that wait."""
        self._pieces = _NOTHING
        self._small = bytearray()
        """A buffer of small pieces, after all other pieces."""

    def add(self, data: bytes | memoryview) -> None:
        """Put `data` after the bytes that wait. The caller must not change it afterwards."""
        self.size += len(data)
        if len(data) < _SMALL:
            self._small += data
            if len(self._small) >= _JOINED_MAX:
                self._close_small()
        else:
            self._close_small()
            self._append(memoryview(data))

    def _append(self, piece: memoryview) -> None:
        if self._pieces is _NOTHING:
            self._pieces = deque()
        self._pieces.append(piece)

    def _close_small(self) -> None:
        """Make one piece of the small ones."""
        if self._small:
            self._append(memoryview(self._small))
            self._small = bytearray()

    @property
    def first_size(self) -> int:
        """The size in bytes of the first piece; 0 if no byte waits."""
        return len(self._pieces[0]) if self._pieces else len(self._small)

    def first_until(self, end: bytes) -> bytes:
        """Return the bytes of the first piece up to the first `end`, and with it."""
        self._close_small()
        first = bytes(self._pieces[0])
        return first[: first.index(end) + len(end)]

    def take(self, size: int) -> bytes:
        """Remove and return the first `size` bytes, or all if there are fewer."""
        self._close_small()
        taken: list[memoryview] = []
        left = size
        while left and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= len(piece)
        self.size -= size - left
        return b"".join(taken)

    def send(self, sock: Writable) -> int:
        """Send once what the kernel takes; return the number of bytes. At least one byte must wait.

        Raises BlockingIOError if the kernel takes nothing, and other OSErrors.
        """
        self._close_small()
        pieces = self._pieces
        if len(pieces) == 1:
            sent = sock.send(pieces[0])
        else:
            sent = sock.sendmsg([pieces[i] for i in range(min(len(pieces), _IOV_MAX))])
        self.drop(sent)
        return sent

    def drop(self, size: int) -> None:
        """Drop the first `size` bytes: the kernel has taken them."""
        self._close_small()
        pieces = self._pieces
        self.size -= size
        left = size
        while left:
            first = pieces[0]
            if left < len(first):
                pieces[0] = first[left:]
                break
            left -= len(first)
            pieces.popleft()

    def clear(self) -> None:
        """Drop the bytes that wait."""
        self._pieces = _NOTHING
        self._small = bytearray()
        self.size = 0
