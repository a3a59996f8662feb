"""Keeps the deadline of an exchange: in the queue, to the first byte of its answer, and in all."""

from __future__ import annotations

from math import inf

from reactor_run.frontend.clients.context import ClientContext

__all__ = ["ExchangeClock"]


class ExchangeClock:
    """The deadline of the present exchange of a requester.

    due: the deadline, in seconds of the loop's clock; inf: none.
    """

    __slots__ = ("_context", "_ends", "due")

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self.due = inf
        self._ends = inf
        """When `--request-timeout` ends. Valid only while a reactor has the exchange."""

    def use(self, context: ClientContext) -> None:
        """Take the timeouts of another app from now on."""
        self._context = context

    def queue(self) -> None:
        """Start `--queue-timeout`: the exchange waits for a reactor."""
        context = self._context
        if context.queue_timeout:
            self.due = context.loop.now + context.queue_timeout

    def start(self, *, again: bool) -> None:
        """Start `--request-timeout`: a reactor has the exchange.

        `again`: this is a retry, which does not start the timeout again.
        """
        context = self._context
        if not again:
            self._ends = context.loop.now + (context.request_timeout or inf)
        self.due = self._ends

    def put_off(self, seconds: float) -> None:
        """Extend `--request-timeout` by `seconds`: the reactor has not begun the exchange."""
        self._ends += seconds
        self.due = self._ends

    def await_first_byte(self) -> None:
        """Start `--first-byte-timeout`: the whole request has arrived."""
        context = self._context
        if context.first_byte_timeout:
            self.due = min(context.loop.now + context.first_byte_timeout, self._ends)

    def answer_begins(self) -> None:
        """End `--first-byte-timeout`: the first byte of the answer has arrived."""
        self.due = self._ends
