"""Counts the requests of each app of a service: an `Observer` of their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics.requests import RequestMetrics

__all__ = ["NO_APP", "RequestsByApp"]

NO_APP: Final = ""
"""The name under which requests count that are for no app: files, redirects, and rejections."""


class RequestsByApp:
    """Totals by app, since the start.

    counted: by the name of the app, and those of no app by NO_APP.
    """

    def __init__(self, loop: Loop, names: Iterable[str]) -> None:
        """`names`: of all apps."""
        self.counted = {name: RequestMetrics(loop) for name in (*names, NO_APP)}

    def ended(self, records: Sequence[Record]) -> None:
        """Count the requests that ended in this turn."""
        found: dict[str, list[Record]] = {}
        for record in records:
            found.setdefault(record.app, []).append(record)
        for name, own in found.items():
            self.counted[name].ended(own)
