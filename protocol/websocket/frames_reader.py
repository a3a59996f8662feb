"""Reads the bytes of a WebSocket as if they were the body of an answer.

So a link can carry both in the same way.
"""

from __future__ import annotations

from reactor_run.protocol.body import Piece
from reactor_run.protocol.websocket.follower import FrameFollower

__all__ = ["FramesReader"]


class FramesReader:
    """A `BodyReader` that follows the frames of a WebSocket, up to the end of the stream."""

    __slots__ = ("_follower", "received")

    complete = False

    def __init__(self) -> None:
        self.received = 0
        self._follower = FrameFollower()

    def feed(
        self,
        data: Piece,
        start: int = 0,
        payload: list[Piece] | None = None,
        pieces_max: int | None = None,
    ) -> int:
        """Follow `data` from index `start` on, to its end."""
        self._follower.feed(memoryview(data)[start:])
        self.received += len(data) - start
        return len(data)

    def end_of_stream(self) -> bool:
        """Return whether the stream ends with a whole frame."""
        return self._follower.at_boundary

    @property
    def between_frames(self) -> bool:
        """Whether the bytes so far end with a whole frame, after which another one may follow."""
        return self._follower.at_boundary and not self._follower.closed
