"""What clients and reactors know of each other, and no more.

A *requester* waits for one answer. An HTTP/1.1 connection is one requester at a time. A *runner*
runs exchanges: a reactor. Neither knows the other's class.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from reactor_run.outgoing import Outgoing
from reactor_run.protocol.response_head import ResponseHead

__all__ = ["AnswerSource", "Link", "Requester", "Runner"]


class AnswerSource(Protocol):
    """Where the bytes of an answer come from."""

    def pause(self) -> None:
        """Bring nothing more, so that the app waits."""

    def resume(self) -> None:
        """Go on."""


class Link(AnswerSource, Protocol):
    """What carries one exchange piece by piece, to a reactor and back."""

    opened_here: bool
    """It carries the request, and not the answer alone."""
    begun: bool
    """The kernel has taken bytes of the request."""
    ended: bool
    """The reactor has closed it before it answered."""
    out: Outgoing
    """What the kernel has not taken."""

    def write(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes of `data`, which is only lent; keep the rest."""

    def half_close(self) -> None:
        """Pass on the client's FIN, behind all that it sent."""

    def release(self) -> None:
        """The exchange does not need it any more."""

    def abandon(self) -> None:
        """Nothing more of the exchange is to be sent or read."""


class Requester(Protocol):
    """Waits for the answer to one request."""

    express_prefix: bytes
    """What goes before the request on an express lane: of whom it is."""

    @property
    def due(self) -> float:
        """When the exchange has taken too long, by the loop's clock; inf: never."""

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header that goes before the request on a lane."""

    def queued(self) -> None:
        """The exchange waits for a reactor."""

    def started(self) -> None:
        """A reactor has the exchange."""

    def not_begun(self, seconds: float) -> None:
        """So many seconds have not counted for the exchange's time: its app was not called."""

    def reject_overload(self) -> None:
        """No reactor has room, or none had for too long."""

    def read_on(self) -> None:
        """There is room for more of the request's body."""

    def answer_whole(self, answer: bytes) -> None:
        """Take all of the answer, head and body."""

    def answer_interim(self, data: bytes, source: AnswerSource) -> None:
        """Take a 1xx answer."""

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """Take the head of the final answer, and what came with it. `data` begins with the head."""

    def answer_goes_on(self, data: memoryview, source: AnswerSource) -> None:
        """Take more of the answer; `data` is only lent."""

    def answer_ends(self) -> None:
        """All of the answer has come."""

    def answer_failed(self) -> None:
        """The answer will not be completed."""


E = TypeVar("E")


class Runner(Protocol[E]):
    """Runs exchanges of class E: a reactor, as requesters and the dispatcher know it."""

    name: str
    capacity: int
    """How many exchanges it takes at once."""
    in_flight: int
    """How many exchanges its apps work on, or wait with for a client."""

    @property
    def takes_more(self) -> bool:
        """It takes another exchange, by its capacity."""

    @property
    def attentive(self) -> bool:
        """It begins what it is given at once, as far as the front end can tell."""

    @property
    def step_began(self) -> float:
        """When the step of an app that runs now began, in seconds of CLOCK_MONOTONIC; 0.0: none."""

    @property
    def unstarted(self) -> list[E]:
        """What it was given and has not begun."""

    def start(self, exchange: E) -> None:
        """Run an exchange. Raises OSError if a descriptor lacks for that."""

    def has_begun(self, exchange: E) -> bool:
        """Its app was called, or is about to be."""

    def falls_behind(self, stuck: E) -> None:
        """It has not begun this exchange for long; until it has, it is not attentive."""

    def withdraw(self, exchange: E) -> None:
        """Ask for an exchange, which it may begin in this moment."""

    def hand_off(self, exchange: E) -> E:
        """Let another one answer an exchange, although this one may begin it in this moment;
        return what this one keeps of it."""

    def abandon(self, exchange: E) -> None:
        """The client is gone: end the answer. The app occupies the runner until it is done."""

    def cancel(self, exchange: E) -> None:
        """Tell the app to stop, as far as that is possible."""

    def client_sent_fin(self, exchange: E) -> None:
        """The client sends nothing more."""

    def answered(self, exchange: E) -> None:
        """The client was given all of the answer."""
