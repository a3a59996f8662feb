"""The threads of `--threads N`: each owns one WSGI exchange at a time, from start to end.

All take from one queue. So what was fetched for them (prefetch.py) waits behind a slow call only if
every thread has one.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from itertools import islice
from queue import SimpleQueue
from time import perf_counter

from reactor_run.reactor import fork
from reactor_run.reactor.links.exchange import signal_write_ready
from reactor_run.reactor.log import log
from reactor_run.reactor.wsgi.exchange import WsgiExchange
from reactor_run.reactor.wsgi.prefetch import ThreadsPrefetch

__all__ = ["ThreadPool"]


class ThreadPool:
    """Threads that live as long as the reactor."""

    def __init__(self, threads: int, prefetch: ThreadsPrefetch) -> None:
        self._context = copy_context()
        self._prefetch = prefetch
        self._waiting: SimpleQueue[WsgiExchange] = SimpleQueue()
        self._unstarted: set[WsgiExchange] = set()
        """What is in the queue and may be begun. The threads and the loop share it."""
        self._lock = threading.Lock()
        for number in range(1, threads + 1):
            # Daemons: a call that hangs must not keep the process from leaving.
            threading.Thread(target=self._work, name=f"wsgi-{number}", daemon=True).start()

    def submit(self, exchange: WsgiExchange) -> None:
        """Have the next free thread run it."""
        exchange.pool = self
        self._prefetch.given()
        with self._lock:
            self._unstarted.add(exchange)
        self._waiting.put(exchange)

    def take_out(self, exchange: WsgiExchange) -> bool:
        """Have no thread run it, unless one does; whether none does."""
        with self._lock:
            if exchange not in self._unstarted:
                return False
            self._unstarted.remove(exchange)
        self._prefetch.withdrawn()
        return True

    def done(self, exchange: WsgiExchange) -> None:
        """A thread has told the loop that it is done with an exchange."""
        self._prefetch.ended(exchange.took)

    def _begin(self, exchange: WsgiExchange) -> bool:
        """Tell that an exchange begins, unless it was taken out; whether it does."""
        with self._lock:
            if exchange not in self._unstarted:
                return False
            self._unstarted.remove(exchange)
            exchange.reactor.begins(exchange)
            return True

    def _work(self) -> None:
        waiting = self._waiting
        taken: list[WsgiExchange] = []
        while True:
            try:
                if not taken:
                    # In C as a whole: what is thrown into a waiting thread loses no exchange.
                    taken.extend(islice(iter(waiting.get, None), 1))
                self._serve(taken.pop())
            except BaseException as error:
                # An app can have an exception thrown into this thread at any time, also late
                # (PyThreadState_SetAsyncExc: timeouts by decorator). The thread goes on.
                log.error("a thread was interrupted between two requests", exc_info=error)

    def _serve(self, exchange: WsgiExchange) -> None:
        if not self._begin(exchange):
            return
        exchange.took = 0.0
        try:
            began = perf_counter()
            # In a context of its own, as everywhere: no exchange sees another's variables.
            self._context.copy().run(exchange.run)
            if fork.is_child:
                fork.leave()
            self._prefetch.moved_at = now = perf_counter()
            exchange.took = now - began
        finally:
            signal_write_ready(exchange)
