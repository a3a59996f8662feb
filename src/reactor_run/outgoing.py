"""Bytes that a socket has not taken yet, in order, as views of what they came in.

Both processes send so, over lanes and to clients; it belongs to neither room.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

__all__ = ["Outgoing"]

_IOV_MAX: Final = 64
"""Pieces that one call hands to the kernel."""


class Outgoing:
    """What waits for one socket."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that wait."""
        self._pieces: deque[memoryview] = deque()

    def add(self, data: bytes | memoryview) -> None:
        """Put `data` behind what waits; it must not change any more."""
        if data:
            self._pieces.append(memoryview(data))
            self.size += len(data)

    def send(self, sock: socket.socket) -> int:
        """Send once what the kernel takes; how many bytes. Something must wait.

        Raises BlockingIOError if it takes nothing, and other OSErrors.
        """
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
        self.size = 0
