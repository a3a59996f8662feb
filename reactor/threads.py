"""The threads of `--threads N`: each owns one WSGI exchange at a time, from start to end."""

from __future__ import annotations

import threading
from contextvars import copy_context
from queue import SimpleQueue

from reactor_run.reactor.exchange import signal_write_ready
from reactor_run.reactor.wsgi_exchange import WsgiExchange

__all__ = ["ThreadPool"]


class ThreadPool:
    """Threads that live as long as the reactor, which is never sent more than they can take."""

    def __init__(self, threads: int) -> None:
        self._context = copy_context()
        self._waiting: SimpleQueue[WsgiExchange] = SimpleQueue()
        for number in range(1, threads + 1):
            # Daemons: a call that hangs must not keep the process from leaving.
            threading.Thread(target=self._work, name=f"wsgi-{number}", daemon=True).start()

    def submit(self, exchange: WsgiExchange) -> None:
        """Have the next free thread run it."""
        self._waiting.put(exchange)

    def _work(self) -> None:
        while True:
            exchange = self._waiting.get()
            # In a context of its own, as everywhere, so that no exchange sees another's variables.
            self._context.copy().run(exchange.run)
            signal_write_ready(exchange)
            # The name would keep the last request alive until the next comes.
            del exchange
