"""A stream of the express lane for a WSGI app, which blocks while it waits.

The loop's thread alone reads and writes. An app in a thread hands its pieces to the loop, and waits
until the loop has passed them on. An inline app runs in the loop's thread. While it waits, it
handles the messages of the express lane itself. Other requests that arrive then wait in `ready`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from reactor_run.reactor.links.answer_file import AnswerFile
from reactor_run.reactor.links.stream import StreamEnd, StreamLoop, StreamPort, StreamUser

__all__ = ["Waiter", "WsgiStream"]


class Waiter:
    """How the code of apps reaches the loop, and waits for it.

    One object serves all streams of a reactor. There are few threads, so they share a condition.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], None],
        turn: Callable[[], None],
        flush: Callable[[], None],
    ) -> None:
        """Make this in the loop's thread. `call_soon`: calls a function in that thread;
        thread-safe. `turn`: blocks until there are messages of the express lane, and handles
        them. `flush`: sends what is gathered for the express lane."""
        self._loop_thread = threading.get_ident()
        self._call_soon = call_soon
        self._turn = turn
        self._flush = flush
        self._condition = threading.Condition()
        self._waiting = 0
        """Threads that wait."""

    @property
    def in_loop(self) -> bool:
        """Whether the caller runs in the loop's thread. The loop sends nothing meanwhile."""
        return threading.get_ident() == self._loop_thread

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` in the loop's thread: now if this is it, else soon, in order."""
        if self.in_loop:
            function()
        else:
            self._call_soon(function)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Block the app until `ready()` is true."""
        if self.in_loop:
            while not ready():
                self._turn()
            # The app goes on, perhaps for long. What it has written must not wait for that
            # (PEP 3333, "Buffering and Streaming").
            self._flush()
            return
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(ready)
            finally:
                self._waiting -= 1

    def wake(self) -> None:
        """Let the threads that wait look again. Called in the loop's thread, after the change."""
        if self._waiting:
            with self._condition:
                self._condition.notify_all()


class WsgiStream(StreamEnd):
    """A stream whose app blocks. The methods of the first section belong to the app's thread."""

    __slots__ = ("_accepted", "_given", "_waiter", "reading", "writing")

    keeps_grant = False

    def __init__(
        self,
        waiter: Waiter,
        loop: StreamLoop,
        port: StreamPort,
        number: int,
        exchange: StreamUser | None,
        *,
        asks: bool,
    ) -> None:
        super().__init__(loop, port, number, exchange, asks=asks)
        self._waiter = waiter
        self._given = 0
        """How many times the app has given pieces to the loop."""
        self._accepted = 0
        """How many of these the loop has taken."""
        self.reading = threading.Lock()
        """A thread holds this lock while it reads, also while it waits."""
        self.writing = threading.Lock()
        """A thread holds this lock while it writes, also while it waits."""

    # In the app's thread -------------------------------------------------------------------------

    def read_blocking(self, size: int) -> bytes:
        """Wait for a piece of the body, of any size. Returns b"" at the end. Raises OSError."""
        self._waiter.wait_until(lambda: self.body.readable)
        data = self.body.take() or b""
        if data:
            self._waiter.call(partial(self.body.taken, len(data)))
        return data

    def write_blocking(self, pieces: list[bytes]) -> None:
        """Send `pieces`, and wait until the link or the client has taken them. Raises OSError."""
        self.hand_over(pieces)
        self._waiter.wait_until(lambda: self.closed or self._is_idle)
        if self.closed:
            raise BrokenPipeError("the client is gone")

    @property
    def _is_idle(self) -> bool:
        return self._accepted == self._given and not self.waiting

    def hand_over(self, pieces: Iterable[bytes]) -> None:
        """Give `pieces` to the loop, which sends them. Does not wait."""
        self._given += 1
        self._waiter.call(lambda: self._accept(pieces))

    def send_file(self, file: AnswerFile) -> None:
        """Give a part of a file to the loop, as the end of the body. Does not wait."""
        self._waiter.call(partial(super().send_file, file))

    def finish(self, *, until_close: bool) -> None:
        """Complete the answer, after the bytes that wait. Does not wait."""
        self._waiter.call(lambda: self._finish(until_close))

    def send_interim(self, head: bytes) -> None:
        """Send a 1xx answer before the answer begins, and wait until the loop has taken it.

        An answer that is whole takes another way to the front end, and must not overtake it.
        """
        self._given += 1
        self._waiter.call(lambda: self._accept_interim(head))
        self._waiter.wait_until(lambda: self.closed or self._accepted == self._given)

    @property
    def in_use(self) -> bool:
        """Whether a thread reads or writes."""
        return self.reading.locked() or self.writing.locked()

    # In the loop's thread ------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Abort the answer, and wake the threads that wait for this stream."""
        self.close()
        self.on_fin()

    def _accept(self, pieces: Iterable[bytes]) -> None:
        self._accepted += 1
        try:
            self.write(pieces)
        except OSError:
            if self.exchange is not None:
                self.exchange.on_gone()
        self._waiter.wake()

    def _accept_interim(self, head: bytes) -> None:
        self._accepted += 1
        if not self.closed:
            super().send_interim(head)
        self._waiter.wake()

    def _read_ready(self) -> None:
        self._waiter.wake()

    def _write_ready(self) -> None:
        self._waiter.wake()

    def _over(self) -> None:
        super()._over()
        self._waiter.wake()

    def _finish(self, until_close: bool) -> None:
        try:
            super().finish(until_close=until_close)
        except OSError:
            if self.exchange is not None:
                self.exchange.on_gone()
