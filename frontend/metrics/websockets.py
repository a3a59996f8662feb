"""Counts WebSockets that have ended, from the records of their exchanges."""

from __future__ import annotations

from collections import Counter
from typing import Final

from reactor_run.frontend.exchanges.record import Record

__all__ = ["UNKNOWN", "WebSocketMetrics"]

UNKNOWN: Final = "unknown"
"""The code of those whose reactor died."""


class WebSocketMetrics:
    """Totals of all WebSockets that have ended since the start.

    codes: how many ended with each close code, as text (RFC 6455 §7.4). 1006: without a closing
        handshake.
    received, sent: messages from clients, and to them.
    seconds: the sum of their durations.
    """

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.received = self.sent = 0
        self.seconds = 0.0

    def ended(self, record: Record) -> None:
        """Count a WebSocket that has ended."""
        self.seconds += record.ended - record.arrived
        summary = record.websocket
        if summary is None:
            self.codes[UNKNOWN] += 1
            return
        self.codes[str(summary.code)] += 1
        self.received += summary.received
        self.sent += summary.sent
