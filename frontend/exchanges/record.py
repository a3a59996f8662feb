"""The record of an exchange: what happened to one request, and when.

Access log, metrics and hooks read only the record. Exchange inherits from Record, so that a request
costs no second object. A request that could not be parsed is no exchange, and has a record alone.
ended.py hands records to those who read them.
"""

from __future__ import annotations

import re
from math import inf
from typing import Final, Protocol

from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.tls import Tlvs
from reactor_run.protocol.websocket.summary import Summary

__all__ = ["CLIENT_LEFT", "LINE_MAX", "Client", "Record", "RequestLine", "UnparsedHead"]

CLIENT_LEFT: Final = "the client left"
"""The error of an exchange whose client closed its connection before the answer ended."""
LINE_MAX: Final = 1024
"""Most bytes of the request line that are kept of a request that could not be parsed."""

_VERSION: Final = b"HTTP/1.1"
_METHOD: Final = re.compile(rb"[!#-'*+.0-9A-Z^-z|~-]{1,32} ")
"""A token and the space behind it (RFC 9110 §5.6.2), of a length that a method may have."""


class RequestLine(Protocol):
    """What a record tells of a request: a `RequestHead`, or an `UnparsedHead`."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def minor_version(self) -> int: ...
    @property
    def fields(self) -> Fields: ...
    @property
    def line(self) -> bytes: ...

    def values(self, names: tuple[bytes, ...], /) -> list[bytes]:
        """Return the value of the last field of each name, in lower case; b"" if there is none."""


class UnparsedHead:
    """The first line of a request that could not be parsed, as far as it arrived.

    line: its bytes as sent, at most LINE_MAX.
    method: empty if the line does not begin with a method.
    minor_version: -1, since it is unknown.
    """

    __slots__ = ("line", "method")

    minor_version = -1
    target = b""
    fields: Fields = ()

    def __init__(self, data: bytes | memoryview) -> None:
        """`data`: the bytes that arrived."""
        line = bytes(data[: LINE_MAX + 2]).lstrip(b"\r\n")[:LINE_MAX]
        self.line = re.split(rb"[\r\n]", line, maxsplit=1)[0]
        method = _METHOD.match(self.line)
        self.method = b"" if method is None else method[0][:-1]

    def values(self, names: tuple[bytes, ...], /) -> list[bytes]:
        """Return b"" for each name: no field is known."""
        return [b""] * len(names)


class Client(Protocol):
    """Knows whose requests arrive on a connection: a requester does.

    client: the address of the client of all requests, as text; empty: `client_of` may know it.
    tls: what reactors are told of the TLS that the client speaks here; empty: none.
    http2: the client speaks HTTP/2.
    """

    client: bytes
    tls: Tlvs
    http2: bool

    def client_of(self, fields: Fields) -> bytes:
        """Return the address of the client of a request with these fields; empty: unknown."""


class Record:
    """Facts about one exchange. Times are seconds of the loop's clock; 0.0: not yet.

    If there is no observer, `ended`, `status_code`, `answer_head` and `bytes_out` are not noted of
    an answer that is written whole.

    head: the request line and the fields of the request.
    requester: knows the client of the request.
    arrived: when the head of the request was read, or rejected.
    collected: when its body was whole, if it is collected before dispatch; inf: it is not whole.
    dispatched: when the reactor that has the exchange was given it; 0.0 while it waits.
    answer_began: when the first piece of an answer in pieces was written.
    ended: when the last byte of the answer was written or buffered, or the exchange was abandoned.
    status_code: the status of the final answer, three digits; empty: there was none.
    answer_head: the first bytes of the final answer, its head at least; empty: there was none, or
        there is no observer. If the answer was written whole, it may be all of it.
    bytes_in: bytes of the request that were read, its head included.
    bytes_out: bytes of the final answer that were written or buffered, its head included. If the
        client leaves during a direct answer, those that the reactor had reported.
    retries: how many times the exchange was taken from a reactor to be given to another one.
    error: why the exchange failed, in a few words; empty: it did not fail.
    rule: the name of the rule that the request broke; empty: it was not rejected by a rule.
    request_id: the id of the request; empty: it has none.
    app: the name of the app that the request is for, if there are several; empty: none of them.
    websocket: how the WebSocket ended that the connection became; None: it became none, or its
        reactor could not tell.
    """

    # These are set later, or on few exchanges. The class holds the defaults, so that a new exchange
    # does not pay.
    dispatched = 0.0
    ended = 0.0
    bytes_out = 0
    status_code = b""
    answer_head = b""
    collected = 0.0
    answer_began = 0.0
    retries = 0
    error = ""
    rule = ""
    request_id = ""
    app = ""
    websocket: Summary | None = None

    __slots__ = (
        "__dict__",
        "arrived",
        "bytes_in",
        "head",
        "requester",
    )

    head: RequestLine
    requester: Client

    def __init__(self, requester: Client, head: RequestLine, bytes_in: int, now: float) -> None:
        """`now`: the time in seconds of the loop's clock."""
        self.requester = requester
        self.head = head
        self.arrived = now
        self.bytes_in = bytes_in

    @property
    def request_line(self) -> bytes:
        """The request line as sent; of a request that could not be parsed, the beginning.

        A request of HTTP/2 has none. It gets one as HTTP/1.1 would have it.
        """
        line = self.head.line
        if self.requester.http2 and line.endswith(_VERSION):
            return line[: -len(_VERSION)] + b"HTTP/2.0"
        return line

    @property
    def version(self) -> bytes:
        """The version of HTTP, as in `HTTP/1.1` and `HTTP/2.0`; empty: unknown."""
        minor = self.head.minor_version
        if self.requester.http2:
            return b"HTTP/2.0"
        return b"HTTP/1.%d" % minor if minor >= 0 else b""

    @property
    def client(self) -> bytes:
        """The address of the client, which a trusted proxy may have named; empty: unknown."""
        return self.requester.client or self.requester.client_of(self.head.fields)

    @property
    def reactor_name(self) -> str:
        """The name of the reactor that has it or had it last; empty: none."""
        return ""

    @property
    def first_byte(self) -> float:
        """When the first byte of the final answer was written; 0.0: not yet."""
        # An answer that is written whole begins and ends at the same time.
        return self.answer_began or (self.ended if self.status_code else 0.0)

    @property
    def tries(self) -> int:
        """How many times a reactor was given the exchange."""
        return self.retries + 1 if self.dispatched else self.retries

    @property
    def status(self) -> int:
        """The status of the final answer; 0: there was none."""
        return int(self.status_code) if self.status_code.isdigit() else 0

    @property
    def duration(self) -> float:
        """Seconds from the arrival of the head to the end."""
        return self.ended - self.arrived

    @property
    def queue_time(self) -> float:
        """Seconds from the arrival, or from the end of a collected body, to the dispatch to the
        last reactor; to the end if no reactor had it."""
        begun = max(self.arrived, self.collected)
        return 0.0 if begun == inf else (self.dispatched or self.ended) - begun
