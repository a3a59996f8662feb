"""Counts requests that have ended: an `Observer` of their records.

Most requests of a busy turn are alike: they arrived in one turn, did not wait for a reactor, and
got an answer of the same status that was written whole. Such requests are counted together, so that
each costs 0.2 µs of CPU. Any other costs 0.7 to 1 µs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics.failures import Failure, Failures, is_failure
from reactor_run.frontend.metrics.histogram import Histogram
from reactor_run.frontend.metrics.recent import Figures, Recent
from reactor_run.frontend.metrics.websockets import WebSocketMetrics

__all__ = ["METHODS", "NO_STATUS", "OTHER", "STATUS_CLASSES", "RequestMetrics"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""The methods that are counted by name (RFC 9110 §9.3, RFC 5789)."""
OTHER: Final = "other"
"""The name of all other methods. It counts requests that could not be parsed too."""
STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
"""1xx: a WebSocket, which is counted at its end."""
NO_STATUS: Final = "none"
"""The class of requests whose client left before an answer began, and of invalid statuses."""


class RequestMetrics:
    """Totals of all requests since the start.

    duration: of all requests with an answer, from the head to the end of the answer.
    bytes_in, bytes_out: bytes of requests that were read and of answers that were written, with
        their heads.
    websockets: those that have ended. `duration` does not count them.
    """

    def __init__(self, loop: Loop) -> None:
        self.duration = Histogram()
        self.bytes_in = self.bytes_out = 0
        self.websockets = WebSocketMetrics()
        self._loop = loop
        self._recent = Recent(loop.now)
        self._failures = Failures()
        self._ended = 0
        """The number of all requests."""
        self._methods = {name: [0] * 256 for name in (*METHODS, OTHER)}
        """Numbers of requests, by method and by the ASCII code of the first digit of the status. 0:
        there was no status."""
        self._rows = {name.encode(): row for name, row in self._methods.items() if name != OTHER}
        self._other = self._methods[OTHER]
        self._pieces = Histogram()
        """Durations of the answers in pieces, which `duration` counts too."""
        self._first_pieces = Histogram()
        """Times to the first byte of the answers in pieces."""
        self._waits = Histogram()
        """Times in the queue, of requests that waited."""
        self._never_dispatched = 0
        """Requests that no reactor was given."""

    # As an `Observer` ----------------------------------------------------------------------------

    def ended(self, records: Sequence[Record]) -> None:
        """Count the requests that ended in this turn."""
        now = self._loop.now
        if now >= self._recent.due:
            self._recent.keep(now, self._ended, self.duration.counts)
        self._ended += len(records)
        bytes_in = bytes_out = 0
        count = 0
        first = records[0]
        arrived = ended = -1.0
        method = status = b""
        for record in records:
            bytes_in += record.bytes_in
            bytes_out += record.bytes_out
            if (
                record.arrived == arrived
                and record.dispatched == arrived
                and record.ended == ended
                and record.status_code == status
                and record.head.method == method
                and not record.answer_began
            ):
                count += 1
                continue
            if count:
                self._count(first, count)
            first, count = record, 1
            status = record.status_code
            # Requests that may have failed are counted one by one.
            arrived = record.arrived if status < b"4" and not record.answer_began else -1.0
            ended = record.ended
            method = record.head.method
        self._count(first, count)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def _count(self, record: Record, count: int) -> None:
        """Count `count` requests that are like this one, or this one alone."""
        status = record.status_code
        row = self._rows.get(record.head.method, self._other)
        row[status[0] if status else 0] += count
        if not record.dispatched:
            self._never_dispatched += count
        elif record.dispatched != record.arrived:
            self._waits.observe(record.queue_time, count)
        if not status:
            return
        if status == b"101":
            self.websockets.ended(record)
            return
        seconds = record.ended - record.arrived
        self.duration.observe(seconds, count)
        if record.answer_began:
            self._pieces.observe(seconds)
            self._first_pieces.observe(record.answer_began - record.arrived)
        if (status >= b"4" or record.answer_began) and is_failure(record):
            self._failures.add(record)

    # What was counted ----------------------------------------------------------------------------

    def by_method_and_status(self) -> Iterator[tuple[str, str, int]]:
        """Yield method, class of status, and number of requests, also where it is 0."""
        for method, row in self._methods.items():
            for name in STATUS_CLASSES:
                yield method, name, row[ord(name[0])]
            ordinary = sum(row[ord(name[0])] for name in STATUS_CLASSES)
            yield method, NO_STATUS, sum(row) - ordinary

    def by_status(self) -> dict[str, int]:
        """Return the number of requests of each class of status, also where it is 0."""
        numbers = dict.fromkeys((*STATUS_CLASSES, NO_STATUS), 0)
        for _, name, count in self.by_method_and_status():
            numbers[name] += count
        return numbers

    @property
    def first_byte(self) -> Histogram:
        """The times from the head to the first byte of the answer, of all requests with one."""
        # An answer that was written whole began when it ended.
        sum_up = Histogram()
        sum_up.total = self.duration.total - self._pieces.total + self._first_pieces.total
        sum_up.counts = [
            every - pieces + first
            for every, pieces, first in zip(
                self.duration.counts, self._pieces.counts, self._first_pieces.counts, strict=True
            )
        ]
        return sum_up

    @property
    def queue(self) -> Histogram:
        """The times that requests waited for a reactor, of those that one was given."""
        sum_up = Histogram()
        sum_up.total = self._waits.total
        sum_up.counts = self._waits.counts.copy()
        sum_up.counts[0] += self._ended - self._never_dispatched - sum(self._waits.counts)
        return sum_up

    @property
    def recent(self) -> Figures:
        """The figures of the last seconds."""
        return self._recent.figures(self._loop.now, self._ended, self.duration.counts)

    @property
    def failures(self) -> list[Failure]:
        """The last requests that failed, the newest first."""
        return self._failures.newest_first()
