"""How long one exchange may take: in the queue, to the first byte of its answer, altogether."""

from __future__ import annotations

from math import inf

from reactor_run.frontend.clients.context import ClientContext

__all__ = ["ExchangeClock"]


class ExchangeClock:
    """The clock of one requester, used for one exchange after another.

    due: when the exchange has taken too long, by the loop's clock; inf: never.
    """

    __slots__ = ("_context", "_ends", "due")

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self.due = inf
        self._ends = inf
        """When `--request-timeout` is over; of use while a reactor has the exchange."""

    def queue(self) -> None:
        """The exchange waits for a reactor: `--queue-timeout`."""
        context = self._context
        if context.queue_timeout:
            self.due = context.loop.now + context.queue_timeout

    def start(self, *, again: bool) -> None:
        """A reactor has the exchange: `--request-timeout`, which a retry does not begin again."""
        context = self._context
        if not again:
            self._ends = context.loop.now + (context.request_timeout or inf)
        self.due = self._ends

    def put_off(self, seconds: float) -> None:
        """So many seconds have not counted: the reactor has not begun the exchange."""
        self._ends += seconds
        self.due = self._ends

    def await_first_byte(self) -> None:
        """All of the request has come: `--first-byte-timeout`."""
        context = self._context
        if context.first_byte_timeout:
            self.due = min(context.loop.now + context.first_byte_timeout, self._ends)

    def answer_begins(self) -> None:
        """The first byte of the answer has come."""
        self.due = self._ends
