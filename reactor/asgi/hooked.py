"""An exchange of an ASGI app that calls the hooks of requests."""

from __future__ import annotations

import contextvars
from time import perf_counter
from typing import Final

from reactor_run.protocol.origin import Origin
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.reactor.asgi.http import AsgiExchange
from reactor_run.reactor.asgi.response import ResponseState
from reactor_run.reactor.links.answer_file import AnswerFile
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.request_hooks import RequestHooks

__all__ = ["HookedAsgiExchange"]

_WITHOUT_HEAD: Final = (ResponseState.IDLE, ResponseState.STARTED)


class HookedAsgiExchange(AsgiExchange):
    """One HTTP request that an ASGI app answers, between two hooks."""

    __slots__ = ("_began", "_body_bytes", "_context", "_hooks")

    _context: contextvars.Context
    """The context variables as `request_started` has left them. The app cannot change these."""

    def __init__(
        self,
        hooks: RequestHooks,
        scopes: ScopeBuilder,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: AppLink | None,
        payload: bytes,
    ) -> None:
        super().__init__(scopes, gateway, head, origin, express, lane, payload)
        self._hooks = hooks
        self._began = 0.0
        """When the exchange began, in seconds of perf_counter; 0.0: it has not."""
        self._body_bytes = 0

    def first_step(self) -> object:
        # This runs in the context of the exchange, so the app sees what the hook sets.
        self._began = perf_counter()
        self._hooks.started(self)
        self._context = contextvars.copy_context()
        return super().first_step()

    def _take_whole(self, body: bytes) -> None:
        self._begin(len(body))
        self._append(body, False)

    def _append(self, body: bytes, more: bool) -> None:
        lacked = self._lacking
        super()._append(body, more)
        self._body_bytes += len(body) if self._framing < 0 else lacked - self._lacking

    def _append_file(self, file: AnswerFile) -> None:
        self._body_bytes = file.left
        super()._append_file(file)

    def _fail(self) -> None:
        super()._fail()
        self._status = 500
        self._body_bytes = sum(map(len, self._out[1:]))

    def over(self, error: BaseException | None) -> None:
        # After FIN, an app that returns without a response has seen that its client left. The
        # client gets a 500 all the same, in case that it still reads.
        left = self._fin and error is None and self._state in _WITHOUT_HEAD
        try:
            super().over(error)
        finally:
            if self._began:
                self._context.run(self._tell_ended, left or self._state in _WITHOUT_HEAD)

    def _tell_ended(self, left: bool) -> None:
        """Call the hook. `left`: the client left, and the app has made no response."""
        self._hooks.ended(
            self,
            None if left else self._status,
            0 if left else self._body_bytes,
            perf_counter() - self._began,
            complete=self._state is ResponseState.COMPLETE and not (left or self.gone),
        )
