"""Bytes that a socket has not taken yet, in order, as views of what they came in.

Small pieces are copied into one buffer: a view of its own would take ten times their memory.

Both processes send so, over lanes and to clients; it belongs to neither room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

__all__ = ["Outgoing", "Writable"]

_IOV_MAX: Final = 64
"""Pieces that one call hands to the kernel."""
_SMALL: Final = 1024
"""Bytes below which a piece is copied."""
_JOINED_MAX: Final = 65536
"""Bytes of small pieces in one buffer."""


class Writable(Protocol):
    """A socket, or what stands for one: each call returns how many bytes were taken."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send one piece."""

    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int:
        """Send several pieces."""


class Outgoing:
    """What waits for one socket."""

    __slots__ = ("_pieces", "_small", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that wait."""
        self._pieces: deque[memoryview] = deque()
        self._small = bytearray()
        """Small pieces, behind all others."""

    def add(self, data: bytes | memoryview) -> None:
        """Put `data` behind what waits; it must not change any more."""
        self.size += len(data)
        if len(data) < _SMALL:
            self._small += data
            if len(self._small) >= _JOINED_MAX:
                self._close_small()
        else:
            self._close_small()
            self._pieces.append(memoryview(data))

    def _close_small(self) -> None:
        """Make one piece of the small ones."""
        if self._small:
            self._pieces.append(memoryview(self._small))
            self._small = bytearray()

    def send(self, sock: Writable) -> int:
        """Send once what the kernel takes; how many bytes. Something must wait.

        Raises BlockingIOError if it takes nothing, and other OSErrors.
        """
        self._close_small()
        pieces = self._pieces
        if len(pieces) == 1:
            sent = sock.send(pieces[0])
        else:
            sent = sock.sendmsg([pieces[i] for i in range(min(len(pieces), _IOV_MAX))])
        self.size -= sent
        left = sent
        while left:
            first = pieces[0]
            if left < len(first):
                pieces[0] = first[left:]
                break
            left -= len(first)
            pieces.popleft()
        return sent

    def clear(self) -> None:
        """Drop what waits."""
        self._pieces.clear()
        self._small = bytearray()
        self.size = 0
