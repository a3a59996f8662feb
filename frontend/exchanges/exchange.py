"""One exchange, as the front end sees it: a request of a client and its answer.

It outlives the client's connection: if the client leaves, the exchange still occupies its reactor
until the reactor says that the app is done.

    WAITING    in the dispatcher's queue, or its body is still being buffered
    RUNNING    a reactor has it; if the reactor dies, the exchange may wait again
    ANSWERED   the answer is complete; the app may still run
    ABANDONED  the client left or was rejected; the app may still run
    OVER       the answer has ended, and the app is done
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from reactor_run.frontend.exchanges.ports import Link, Requester, Runner
from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.exchanges.spool import Spool
from reactor_run.frontend.routes.cors import CrossOrigin
from reactor_run.logs import request_name
from reactor_run.protocol.request import RequestHead

__all__ = [
    "ABANDONED",
    "ANSWERED",
    "KEPT_MAX",
    "OVER",
    "RUNNING",
    "WAITING",
    "Exchange",
    "ExchangeState",
]


class ExchangeState(Enum):
    """The state of an exchange; the head of this file explains each."""

    WAITING = "waiting"
    RUNNING = "running"
    ANSWERED = "answered"
    ABANDONED = "abandoned"
    OVER = "over"


WAITING: Final = ExchangeState.WAITING
RUNNING: Final = ExchangeState.RUNNING
ANSWERED: Final = ExchangeState.ANSWERED
ABANDONED: Final = ExchangeState.ABANDONED
OVER: Final = ExchangeState.OVER

KEPT_MAX: Final = 196608
"""The most bytes of a request that are kept in memory while a reactor has it: the largest head and
the largest body in memory. A larger request whose body is not in a file cannot be retried."""


class Exchange(Record):
    """A request, the link to its reactor, and its record."""

    # These are set later, or on few exchanges. The class holds the defaults, so that a new exchange
    # does not pay.
    app_done = False
    """The reactor has said that the app is done."""
    number = 0
    """Its number on the express lane of its reactor; 0 if it is on a lane of its own."""
    slot = 0
    """The slot of its lane in the memory where its reactor marks what it has begun. Without meaning
    on the express lane."""
    reactor: Runner[Exchange] | None = None
    """The reactor that has it; None while it waits."""
    replayed = False
    """A reactor that had begun it has died, so that it was retried."""
    withdrawing = False
    """Its reactor was asked to give it back unless it has begun it."""
    event_stream = False
    """Its answer is a stream of server-sent events."""
    route = ""
    """The name of its route, if the front end itself answers it."""
    cross_origin: CrossOrigin | None = None
    """What adds fields to its answer for pages of other origins."""
    upgraded = False
    """Its connection has become a WebSocket. It occupies no capacity."""
    deaths = 0
    """How many reactors died before they began it."""

    # These are read of each exchange. To read a default from the class would take longer than to
    # set it.
    __slots__ = ("lane", "offered", "request", "spool", "state", "whole")

    head: RequestHead
    requester: Requester
    request: bytes | bytearray
    """The bytes of the request that have arrived, for a retry. Empty once a retry is ruled out: the
    client has a part of the answer, or the request is larger than KEPT_MAX."""
    whole: bool
    """All of the request has arrived."""
    state: ExchangeState
    lane: Link | None
    """The lane that carries its request or its answer; None if all of it went express."""
    spool: Spool | None
    """The file with the buffered request body; None if `request` contains the body."""
    offered: bool
    """Its reactor was offered to write the answer to the client (offers.py)."""

    def __init__(
        self, requester: Requester, head: RequestHead, request: bytes, whole: bool, now: float
    ) -> None:
        """`request`: the bytes that have arrived. `whole`: these are all bytes of the request.
        `now`: the time in seconds of the loop's clock.
        """
        self.requester = requester
        self.head = head
        self.request = request
        self.whole = whole
        self.state = WAITING
        self.lane = None
        self.spool = None
        self.offered = False
        # The fields of Record.
        self.arrived = now
        self.bytes_in = len(request)

    @property
    def name(self) -> str:
        """Its name in the log: method and target, and its id if it has one."""
        return request_name(self.head.method, self.head.target, self.request_id)

    @property
    def reactor_name(self) -> str:
        """The name of the reactor that has it or had it last, or of its route; empty: none."""
        return self.route if self.reactor is None else self.reactor.name

    def wait_again(self) -> None:
        """Return to WAITING: the reactor that had it will not answer it."""
        self.state = WAITING
        self.retries += 1
        self.reactor = self.lane = None
        self.dispatched = 0.0
        self.number = 0
        self.app_done = self.withdrawing = self.offered = False

    def leave_behind(self) -> Exchange:
        """Return a stand-in that occupies the present reactor when another one answers this."""
        rest = Exchange(self.requester, self.head, b"", self.whole, self.arrived)
        rest.state = self.state
        rest.number, rest.slot, rest.dispatched = self.number, self.slot, self.dispatched
        rest.reactor, rest.lane = self.reactor, self.lane
        return rest

    def drop_spool(self) -> None:
        """Close the buffered body: it is needed no more."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None
