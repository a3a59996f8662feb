"""The WebSockets of one reactor: how many there are, and when they are to be closed."""

from __future__ import annotations

from collections.abc import Callable

from reactor_run.frontend.loop.epoll import Loop
from reactor_run.protocol.control_messages import CloseWebSockets

__all__ = ["OpenWebSockets"]


class OpenWebSockets:
    """The WebSockets of one reactor. The reactor closes them when it is told so, once."""

    __slots__ = ("_end", "_loop", "_say", "_told", "count")

    def __init__(self, loop: Loop, say: Callable[[CloseWebSockets], None]) -> None:
        """`say`: sends a message to the reactor."""
        self._loop = loop
        self._say = say
        self.count = 0
        """How many there are. They are exchanges that occupy no capacity."""
        self._end: tuple[int, float] | None = None
        """Their close code, and when all of them are to be closed, in seconds of the loop's clock;
        None: they stay."""
        self._told = False
        """The reactor was told so."""

    def opened(self) -> None:
        """Note that the connection of an exchange is a WebSocket now."""
        self.count += 1
        self._tell()

    def over(self) -> None:
        """Note that a WebSocket has ended, and that its app is done."""
        self.count -= 1

    def close(self, code: int, seconds: float) -> None:
        """Have all of them closed with `code`, spread over `seconds`, and later ones then."""
        self._end = (code, self._loop.now + seconds)
        self._told = False
        if self.count:
            self._tell()

    def _tell(self) -> None:
        """Tell the reactor to close them, if they are to end and it was not told."""
        if self._end is not None and not self._told:
            code, when = self._end
            self._told = True
            self._say(CloseWebSockets(code, max(0.0, when - self._loop.now)))
