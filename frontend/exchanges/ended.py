"""Hands the records of ended exchanges to observers: access log and metrics.

Records are gathered, and handed over once in each turn of the loop, after all answers and requests
of the turn were written. So an observer delays no answer of its turn. Each exchange is handed over
once, and so is each request that was rejected before it could be parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.log import limited
from reactor_run.frontend.loop.epoll import Loop

__all__ = ["EndedRecords", "Observer"]


class Observer(Protocol):
    """Reads the records of ended exchanges."""

    def ended(self, records: Sequence[Record]) -> None:
        """Read the records of the exchanges that ended in this turn, in order.

        It must not keep or change them. It delays the next turn, so it must not wait for anything.
        """


class EndedRecords:
    """The records of the exchanges that ended in this turn, and who reads them."""

    def __init__(self, loop: Loop) -> None:
        self.records: list[Record] = []
        """Requesters append the records of ended exchanges."""
        self._observers: list[Observer] = []
        loop.after_batch(self.hand_over, last=True)

    def add(self, observer: Observer) -> None:
        """Hand records to `observer` too, from now on."""
        self._observers.append(observer)

    def hand_over(self) -> None:
        """Hand the gathered records to all observers."""
        records = self.records
        if records:
            for observer in self._observers:
                try:
                    observer.ended(records)
                except Exception:
                    limited.error("internal error in an observer, please report it", exc_info=True)
            records.clear()
