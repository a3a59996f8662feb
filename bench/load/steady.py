"""Clients that keep one connection each: fast ones on a schedule, slow ones without pause.

A fast client asks every so often. If its last request is still unanswered then, the next waits for
it, as on any HTTP/1.1 connection; its latency counts from when it was due all the same. The slow
ones are a closed loop: each asks again as soon as it has its answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from bench.load.answers import Answer, Answers
from bench.load.client import Client, Connection, warm


class _Fast:
    """One client with a schedule."""

    def __init__(
        self, client: Client, connection: Connection, what: bytes, answers: Answers, period: float
    ) -> None:
        self._client = client
        self._connection = connection
        self._what = what
        self._answers = answers
        self._period = period
        self._waiting: deque[Answer] = deque()

    def start(self, due: float) -> None:
        if due < self._answers.end:
            self._client.at(due, lambda: self._come_due(due))

    def _come_due(self, due: float) -> None:
        answer = Answer("fast", due, time.monotonic())
        self._answers.all.append(answer)
        if self._connection.answer is None:
            self._ask(answer)
        else:
            self._waiting.append(answer)
        self.start(due + self._period)

    def _ask(self, answer: Answer) -> None:
        if not self._connection.is_open:
            self._connection = self._client.connect()
        self._client.ask(self._connection, self._what, answer, self._done)

    def _done(self, connection: Connection, answer: Answer) -> None:
        if self._waiting:
            self._ask(self._waiting.popleft())


class _Slow:
    """One client without pause."""

    def __init__(
        self, client: Client, connection: Connection, what: bytes, answers: Answers
    ) -> None:
        self._client = client
        self._connection = connection
        self._what = what
        self._answers = answers

    def ask(self) -> None:
        now = time.monotonic()
        if now >= self._answers.end:
            return
        if not self._connection.is_open:
            self._connection = self._client.connect()
        answer = Answer("slow", now, now)
        self._answers.all.append(answer)
        self._client.ask(self._connection, self._what, answer, self._done)

    def _done(self, connection: Connection, answer: Answer) -> None:
        # From a timer, so that a server that refuses connections does not make this recurse.
        self._client.at(time.monotonic(), self.ask)


@contextmanager
def without_pause(
    address: tuple[str, int], what: bytes, timeout: float = 10.0
) -> Iterator[Answers]:
    """One client that asks again as soon as it has its answer, in a thread, during the block."""
    client = Client(address, timeout=timeout)
    connection = client.connect()
    warm(client, [connection], what, timeout)
    begin = time.monotonic()
    answers = Answers(begin, inf)
    over = threading.Event()
    slow = _Slow(client, connection, what, answers)

    def ask() -> None:
        slow.ask()
        client.run(lambda: over.is_set() and not client.under_way, begin + 3600)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        answers.end = time.monotonic()
        over.set()
        thread.join()
        client.close()
    answers.finish()


def run(
    address: tuple[str, int],
    fast: bytes,
    slow: bytes,
    seconds: float,
    *,
    fast_clients: int = 50,
    slow_clients: int = 1,
    period: float = 0.1,
    timeout: float = 5.0,
) -> Answers:
    """Load the server for so many seconds; `period` is that of each fast client."""
    client = Client(address, timeout=timeout)
    connections = [client.connect() for _ in range(fast_clients + slow_clients)]
    warm(client, connections, fast, timeout)
    begin = time.monotonic() + 0.05
    answers = Answers(begin, begin + seconds)
    for number, connection in enumerate(connections[:slow_clients]):
        client.at(begin + number * 0.01, _Slow(client, connection, slow, answers).ask)
    for number, connection in enumerate(connections[slow_clients:]):
        each = _Fast(client, connection, fast, answers, period)
        each.start(begin + period * number / fast_clients)
    try:
        client.run(
            lambda: time.monotonic() >= answers.end and not client.under_way,
            answers.end + timeout + 1.0,
        )
    finally:
        client.close()
    answers.finish()
    return answers
