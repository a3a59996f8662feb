"""One exchange as the front end sees it: a request of some client, and the answer it waits for.

It is kept apart from the client's connection: the client may leave while the app goes on, and then
the exchange still occupies its reactor until the reactor says that the app is done.

    WAITING    in the dispatcher's queue, or its body is still being buffered
    RUNNING    a reactor has it; if that dies it may wait again
    ANSWERED   the answer is complete; the app may still run
    ABANDONED  the client left, or was refused; the app may still run
    OVER       nobody holds it any more
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from reactor_run.frontend.exchanges.ports import Link, Requester, Runner
from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.exchanges.spool import Spool
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
    """Where an exchange stands; see above."""

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

KEPT_MAX: Final = 131072
"""Bytes of a request that are kept while a reactor has it: a head and a body, each as large as they
are held in memory. What is larger and not in a file cannot be given to another reactor."""


class Exchange(Record):
    """A request, the way of its answer, and its record."""

    # What hardly any exchange has is set only then, and has its default here.
    replayed = False
    """A reactor that had begun it has died."""
    withdrawing = False
    """Its reactor was asked to give it back, if it has not begun it."""
    deaths = 0
    """Reactors that have died before they began it."""

    __slots__ = (
        "app_done",
        "head",
        "lane",
        "number",
        "reactor",
        "request",
        "requester",
        "slot",
        "spool",
        "state",
        "whole",
    )

    def __init__(
        self, requester: Requester, head: RequestHead, request: bytes, whole: bool, now: float
    ) -> None:
        """`request`: what has come of it. `whole`: that is all. `now`: by the loop's clock."""
        self.requester = requester
        self.head = head
        self.request: bytes | bytearray = request
        """What has come of the request, as it came; nothing once the client knows something of the
        answer, or if it is too large to be kept."""
        self.whole = whole
        """All of the request has come."""
        self.state: ExchangeState = WAITING
        self.app_done = False
        """The reactor's word that the app is done."""
        self.number = 0
        """On the express lane of its reactor; 0 on a lane."""
        self.slot = 0
        """Of its lane, where its reactor tells whether it has begun; only on a lane."""
        self.reactor: Runner[Exchange] | None = None
        self.lane: Link | None = None
        """What the request went out on, or what the answer comes in on."""
        self.spool: Spool | None = None
        """Where a buffered request body is that does not stand in `request`."""
        # The record.
        self.arrived = now
        self.bytes_in = len(request)
        self.dispatched = self.ended = 0.0
        self.bytes_out = 0
        self.status_code = b""

    @property
    def name(self) -> str:
        """What the log calls it: method and target."""
        return request_name(self.head.method, self.head.target)

    @property
    def reactor_name(self) -> str:
        """The reactor that has it, or had it; empty: none."""
        return "" if self.reactor is None else self.reactor.name

    def wait_again(self) -> None:
        """Be as before it was given to a reactor, which will not answer it."""
        self.state = WAITING
        self.retries += 1
        self.reactor = self.lane = None
        self.number = 0
        self.app_done = self.withdrawing = False

    def leave_behind(self) -> Exchange:
        """What of it stays in its reactor, when another one answers it."""
        rest = Exchange(self.requester, self.head, b"", self.whole, self.arrived)
        rest.state = self.state
        rest.number, rest.slot, rest.dispatched = self.number, self.slot, self.dispatched
        rest.reactor, rest.lane = self.reactor, self.lane
        return rest

    def drop_spool(self) -> None:
        """Nobody wants the buffered body any more."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None
