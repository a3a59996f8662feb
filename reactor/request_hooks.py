"""Calls the hooks `request_started` and `request_ended` for the exchanges of one reactor.

It exists only if one of them is defined. Then asgi/hooked.py or wsgi/hooked.py take the place of
the plain exchanges. So requests cost nothing for hooks that are not defined.
"""

from __future__ import annotations

from reactor_run.hook_module import Hook
from reactor_run.hooks import RequestEnded, RequestStarted
from reactor_run.reactor.hooks import call_hook, log_failure
from reactor_run.reactor.links.exchange import AppExchange

__all__ = ["RequestHooks"]


class RequestHooks:
    """The hooks of requests. Exchanges call them from the thread in which their app runs."""

    def __init__(self, started: Hook | None, ended: Hook | None) -> None:
        self._started = started
        self._ended = ended

    def started(self, exchange: AppExchange) -> None:
        """Call `request_started`, if it is defined. Raises nothing."""
        if self._started is not None:
            head = exchange.head
            event = RequestStarted(
                head.method.decode("latin-1"), head.target.decode("latin-1"), exchange.request_id
            )
            error = call_hook(self._started, event)
            if error is not None:
                log_failure(f"{exchange.name}: the hook request_started failed", error)

    def ended(
        self,
        exchange: AppExchange,
        status: int | None,
        body_bytes: int,
        seconds: float,
        *,
        complete: bool,
    ) -> None:
        """Call `request_ended`, if it is defined. Raises nothing. See `RequestEnded`."""
        if self._ended is not None:
            head = exchange.head
            event = RequestEnded(
                head.method.decode("latin-1"),
                head.target.decode("latin-1"),
                exchange.request_id,
                status,
                body_bytes,
                seconds,
                complete,
            )
            error = call_hook(self._ended, event)
            if error is not None:
                log_failure(f"{exchange.name}: the hook request_ended failed", error)
