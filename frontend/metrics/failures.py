"""The last requests that failed: the front end rejected them, or their app or reactor failed.

They have no query, no header field, no body, and no message of an app. A client that leaves is no
failure.
"""

from __future__ import annotations

from collections import deque
from time import time
from typing import Final, NamedTuple

from reactor_run.frontend.exchanges.record import CLIENT_LEFT, Record
from reactor_run.logs import request_name

__all__ = ["KEPT", "Failure", "Failures", "is_failure"]

KEPT: Final = 50
"""The number of failures that are kept."""


class Failure(NamedTuple):
    """A request that failed.

    when: seconds since the epoch. name: method and path, printable. status: 0: there was none.
    why: a rule, or a few words. reactor: the name of the reactor that had it; empty: none.
    """

    when: float
    name: str
    status: int
    why: str
    reactor: str


def is_failure(record: Record) -> bool:
    """Return whether a request failed. Its status is 400 or more, or its answer began in pieces."""
    if record.rule or record.status_code >= b"5":
        return True
    return bool(record.error) and record.error != CLIENT_LEFT


class Failures:
    """The last KEPT failures."""

    def __init__(self) -> None:
        self._kept: deque[Failure] = deque(maxlen=KEPT)

    def add(self, record: Record) -> None:
        """Keep a request that failed."""
        head = record.head
        # Of a request that could not be parsed, only the first line is known.
        target = head.target or b"".join(head.line.split(b" ")[1:2])
        self._kept.append(
            Failure(
                time(),
                request_name(head.method, target),
                record.status,
                record.rule or record.error or "response of the app",
                record.reactor_name,
            )
        )

    def newest_first(self) -> list[Failure]:
        """Return the failures that are kept."""
        return list(reversed(self._kept))
