"""The record of an exchange: what happened to one request, and when.

Access log, metrics and hooks read nothing else of an exchange. An exchange is its own record, so
that a request costs no second object.
"""

from __future__ import annotations

__all__ = ["Record"]


class Record:
    """Facts about one exchange. Times are seconds of the loop's clock; 0.0: not yet.

    arrived: when the head of the request was read.
    dispatched: when a reactor was given the exchange, the last time.
    answer_began: when the first piece of an answer that came in pieces was written.
    ended: when all of the answer was written or waits to be, or the exchange was given up.
    status_code: three digits, the status of the final answer; empty: there was none.
    bytes_in: bytes of the request that were read, its head included.
    bytes_out: bytes of the final answer, its head included, that were written or wait to be.
    retries: how many times it was taken from a reactor to be given to another one.
    error: why it failed, in a few words; empty: it did not.
    """

    # What hardly any exchange has is set only then, and has its default here.
    answer_began = 0.0
    retries = 0
    error = ""

    __slots__ = (
        "__dict__",
        "arrived",
        "bytes_in",
        "bytes_out",
        "dispatched",
        "ended",
        "status_code",
    )

    arrived: float
    dispatched: float
    ended: float
    status_code: bytes
    bytes_in: int
    bytes_out: int

    @property
    def first_byte(self) -> float:
        """When the first byte of the final answer was written; 0.0: not yet."""
        # An answer that is written at once begins as it ends.
        return self.answer_began or (self.ended if self.status_code else 0.0)

    @property
    def tries(self) -> int:
        """How many reactors were given it."""
        return self.retries + 1 if self.dispatched else 0

    @property
    def status(self) -> int:
        """The status of the final answer; 0: there was none."""
        return int(self.status_code) if self.status_code.isdigit() else 0
