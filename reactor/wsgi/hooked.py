"""An exchange of a WSGI app that calls the hooks of requests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from time import perf_counter

from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.request import RequestHead
from reactor_run.reactor import fork
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.request_hooks import RequestHooks
from reactor_run.reactor.wsgi.exchange import CallPool, WsgiExchange, WsgiLink
from reactor_run.reactor.wsgi.head import AppHead

__all__ = ["HookedWsgiExchange"]


class HookedWsgiExchange(WsgiExchange):
    """One request to a WSGI app, between two hooks, which run in the app's thread."""

    __slots__ = ("_body_bytes", "_hooks", "_status")

    def __init__(
        self,
        hooks: RequestHooks,
        environs: EnvironBuilder,
        pool: CallPool | None,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: WsgiLink | None,
        payload: bytes,
    ) -> None:
        super().__init__(environs, pool, gateway, head, origin, express, lane, payload)
        self._hooks = hooks
        self._status: int | None = None
        self._body_bytes = 0

    def call(self) -> None:
        if self.gone:
            return
        began = perf_counter()
        self._hooks.started(self)
        super().call()
        if not fork.is_child:
            self._hooks.ended(
                self,
                self._status,
                self._body_bytes,
                perf_counter() - began,
                complete=self._status is not None and not (self._aborted or self.gone),
            )

    def begin(self, head: AppHead, length: int | None) -> int:
        framing = super().begin(head, length)
        self._status, *_ = head
        self._body_bytes = 0
        return framing

    def answer_whole(self, head: AppHead, length: int, blocks: Sequence[bytes]) -> int:
        framing = super().answer_whole(head, length, blocks)
        if framing == length:
            self._body_bytes = length
        return framing

    def _hold(self, data: bytes) -> None:
        super()._hold(data)
        self._body_bytes += len(data)

    def send_file(self, file: io.BufferedIOBase | io.RawIOBase, count: int) -> bool:
        sent = super().send_file(file, count)
        if sent:
            self._body_bytes += count
        return sent
