"""Where the frames of a server end, for the front end, which only passes them on.

If a reactor dies, the front end can close a WebSocket in order only if the bytes that it has passed
on end with a whole frame (RFC 6455 §5.2). Anything that it sent within a frame would be payload.
"""

from __future__ import annotations

__all__ = ["FrameFollower"]

_CLOSE = 8


class FrameFollower:
    """Follows a stream of frames that arrives in pieces, and keeps nothing but its place in it.

    closed: a close frame has begun. No frame may follow it (§5.5.1).
    """

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""
        """The first bytes of a frame whose length is not known yet."""
        self._left = 0
        """Bytes of the current frame that have not come yet."""
        self.closed = False

    @property
    def at_boundary(self) -> bool:
        """The stream stands between two frames."""
        return not self._left and not self._head

    def feed(self, data: bytes | memoryview) -> None:
        """Follow the next bytes of the stream."""
        at = self._left
        end = len(data)
        if at > end:
            self._left = at - end
            return
        self._left = 0
        if self._head and at < end:
            # At most 13 bytes wait, and a header has at most 14: `at` becomes negative.
            kept = len(self._head)
            data = self._head + bytes(data)
            self._head = b""
            end += kept
        while at < end:
            if end - at < 2:
                break
            second = data[at + 1]
            size = second & 0x7F
            begin = at + 2
            if size > 125:
                wide = 2 if size == 126 else 8
                begin += wide
                if begin > end:
                    break
                size = int.from_bytes(data[begin - wide : begin], "big")
            if data[at] & 0x0F == _CLOSE:
                self.closed = True
            at = begin + size + (4 if second & 0x80 else 0)
        else:
            self._left = at - end
            return
        self._head = bytes(data[at:])
