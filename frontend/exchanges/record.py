"""The record of an exchange: what happened to one request, and when.

Access log, metrics and hooks read only the record. Exchange inherits from Record, so that a request
costs no second object.
"""

from __future__ import annotations

__all__ = ["Record"]


class Record:
    """Facts about one exchange. Times are seconds of the loop's clock; 0.0: not yet.

    arrived: when the head of the request was read.
    dispatched: when a reactor was last given the exchange.
    answer_began: when the first piece of an answer in pieces was written.
    ended: when the last byte of the answer was written or buffered, or the exchange was abandoned.
    status_code: the status of the final answer, three digits; empty: there was none.
    bytes_in: bytes of the request that were read, its head included.
    bytes_out: bytes of the final answer that were written or buffered, its head included.
    retries: how many times the exchange was taken from a reactor to be given to another one.
    error: why the exchange failed, in a few words; empty: it did not fail.
    """

    # These are set on few exchanges. The class holds the defaults, so that the others do not pay.
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
        # An answer that is written whole begins and ends at the same time.
        return self.answer_began or (self.ended if self.status_code else 0.0)

    @property
    def tries(self) -> int:
        """How many times a reactor was given the exchange."""
        return self.retries + 1 if self.dispatched else 0

    @property
    def status(self) -> int:
        """The status of the final answer; 0: there was none."""
        return int(self.status_code) if self.status_code.isdigit() else 0
