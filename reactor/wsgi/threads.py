"""The threads of `--threads N`, which run WSGI exchanges.

Each thread runs one exchange at a time, from start to end. All threads take exchanges from one
queue. So a prefetched exchange (prefetch.py) waits behind slow calls only if every thread has a
slow call.
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
    """The threads. They live as long as the reactor."""

    def __init__(self, threads: int, prefetch: ThreadsPrefetch) -> None:
        self._context = copy_context()
        self._prefetch = prefetch
        self._waiting: SimpleQueue[WsgiExchange] = SimpleQueue()
        self._unstarted: set[WsgiExchange] = set()
        """Exchanges in the queue that may begin. The threads and the loop share this set."""
        self._lock = threading.Lock()
        for number in range(1, threads + 1):
            # The threads are daemons, so that a call that hangs does not keep the process alive.
            threading.Thread(target=self._work, name=f"wsgi-{number}", daemon=True).start()

    def submit(self, exchange: WsgiExchange) -> None:
        """Queue an exchange for the next free thread."""
        self._prefetch.given()
        with self._lock:
            self._unstarted.add(exchange)
        self._waiting.put(exchange)

    def take_out(self, exchange: WsgiExchange) -> bool:
        """Take an exchange out of the queue. Returns False if a thread has already begun it."""
        with self._lock:
            if exchange not in self._unstarted:
                return False
            self._unstarted.remove(exchange)
        self._prefetch.withdrawn()
        return True

    def done(self, exchange: WsgiExchange) -> None:
        """Record that a thread has ended an exchange. Called in the loop."""
        self._prefetch.ended(exchange.took)

    def _begin(self, exchange: WsgiExchange) -> bool:
        """Begin an exchange, and tell the front end. Returns False if it was taken out."""
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
                    # This line runs wholly in C. So an exception that is thrown into the waiting
                    # thread cannot lose an exchange.
                    taken.extend(islice(iter(waiting.get, None), 1))
                self._serve(taken.pop())
            except BaseException as error:
                # An app can throw an exception into this thread at any time, even after its call
                # (PyThreadState_SetAsyncExc, used by timeout decorators). The thread goes on.
                log.error("a thread was interrupted between two requests", exc_info=error)

    def _serve(self, exchange: WsgiExchange) -> None:
        if not self._begin(exchange):
            return
        exchange.took = 0.0
        try:
            began = perf_counter()
            # Each exchange has its own context, so it sees no variables of another exchange.
            self._context.copy().run(exchange.call)
            if fork.is_child:
                fork.leave()
            self._prefetch.moved_at = now = perf_counter()
            exchange.took = now - began
        finally:
            signal_write_ready(exchange)
