"""Bytes that arrive on an express lane, until their messages are whole. Both processes use this.

Each read goes to the same memory. The payloads of whole messages are copied out of it, once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["READ_MAX", "Incoming"]

READ_MAX: Final = 262144
"""The most bytes of one read."""

_Message = TypeVar("_Message")

_space: Final = memoryview(bytearray(READ_MAX))


class Incoming(Generic[_Message]):
    """What has arrived on one express lane."""

    __slots__ = ("_partial", "_split", "more")

    def __init__(self, split: Callable[[bytes | memoryview], tuple[list[_Message], int]]) -> None:
        """`split`: returns the whole messages at the start of what has arrived, and the bytes that
        they took."""
        self._split = split
        self._partial = b""
        """The begin of a message."""
        self.more = False
        """The last read filled the space, so that more bytes have probably arrived."""

    def receive(self, sock: socket.socket) -> list[_Message] | None:
        """Read once; return the messages that are whole now. None: the peer has closed the lane.

        Raises BlockingIOError if nothing has arrived, other OSErrors if the lane is broken, and
        what `split` raises.
        """
        data: bytes | memoryview
        self.more = False
        start = len(self._partial)
        if not start:
            end = sock.recv_into(_space)
            data = _space[:end]
        elif start <= READ_MAX // 2:
            _space[:start] = self._partial
            end = start + sock.recv_into(_space[start:])
            data = _space[:end]
        else:
            # A long head, or a long answer of the app: its message does not fit into the space.
            data = self._partial + sock.recv(READ_MAX)
            end = len(data)
        if end == start:
            return None
        self.more = end == READ_MAX
        messages, consumed = self._split(data)
        self._partial = b"" if consumed == end else bytes(data[consumed:])
        return messages
