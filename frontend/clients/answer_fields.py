"""Adds fields about the exchange to its answer: `--request-id` and `--server-timing`."""

from __future__ import annotations

from reactor_run.frontend.clients.request_ids import REQUEST_ID
from reactor_run.frontend.exchanges.record import Record

__all__ = ["AnswerFields"]


class AnswerFields:
    """Makes the fields that each answer gets."""

    def __init__(self, *, request_id: bool, timing: bool) -> None:
        """`request_id`: add X-Request-ID. `timing`: add Server-Timing (W3C)."""
        self._request_id = request_id
        self._timing = timing

    def add(self, record: Record, answer: bytes, now: float) -> bytes:
        """Return the answer with its fields after the status line.

        `answer` begins with a whole head. `now`: the time in seconds of the loop's clock. Raises
        ValueError if there is no head.
        """
        lines = b""
        if self._request_id:
            # The app may have set it itself.
            head = answer[: answer.index(b"\r\n\r\n")].lower()
            if b"\r\n" + REQUEST_ID + b":" not in head:
                lines = b"%b: %b\r\n" % (REQUEST_ID, record.request_id.encode())
        if self._timing:
            waited = (record.dispatched or now) - max(record.arrived, min(record.collected, now))
            lines += b"server-timing: queue;dur=%.3f" % (1000 * waited)
            if record.dispatched:
                lines += b", app;dur=%.3f" % (1000 * (now - record.dispatched))
            lines += b"\r\n"
        end = answer.index(b"\r\n") + 2
        return b"".join((answer[:end], lines, answer[end:]))
