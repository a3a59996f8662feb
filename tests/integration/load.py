"""Clients that ask again and again, and remember whatever went wrong."""

from __future__ import annotations

import threading
from collections import Counter

from tests.integration.client import Client

__all__ = ["Load"]


PAUSE = 0.01
"""Seconds between two requests. Without it the clients would take the CPU from what they load."""


class Load:
    """A client on one keep-alive connection that asks again and again until it is stopped.

    `method`: with POST each request has a small body.
    `target`: what it asks for, which answers with the number of its process.
    `reconnects`: told that an answer was the last of its connection, it goes on with another one.
    `keeps`: else every request has a connection of its own.
    """

    def __init__(
        self,
        address: str,
        method: str = "GET",
        *,
        target: str = "/pid",
        reconnects: bool = False,
        keeps: bool = True,
    ) -> None:
        self.failure: Exception | None = None
        self.statuses: Counter[int] = Counter()
        self.closed = 0
        """How often the server told it that an answer was the last of its connection, and ended
        that."""
        self._method = method
        self._target = target
        self._body = b"x" * 1000 if method == "POST" else None
        self._keeps = keeps
        self._reconnects = reconnects or not keeps
        self._pids: Counter[int] = Counter()
        self._address = address
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with Client(self._address) as client:
                    self._ask(client)
                if not self._reconnects:
                    return
        except Exception as failure:
            self.failure = failure

    def _ask(self, client: Client) -> None:
        while not self._stopping.is_set():
            answer = client.request(self._method, self._target, body=self._body)
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self._pids[answer.json()] += 1
            if answer.field("connection") == b"close":
                self.closed += client.at_end()
                return
            if not self._keeps:
                return
            self._stopping.wait(PAUSE)

    def answered(self, pid: int) -> int:
        """How many answers came from this reactor."""
        return self._pids[pid]

    def pids(self) -> set[int]:
        """The reactors that have answered so far."""
        return set(self._pids)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
