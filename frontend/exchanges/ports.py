"""The Protocols through which clients and reactors use each other.

A *requester* waits for one answer: an HTTP/1.1 connection is one requester at a time. A *runner*
runs exchanges: a reactor is one. Neither knows the other's class.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from reactor_run.frontend.exchanges.record import Record
from reactor_run.outgoing import Outgoing
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.response_head import ResponseHead
from reactor_run.protocol.tls import Tlvs

__all__ = ["AnswerSource", "ClientSocket", "Link", "Requester", "Runner", "SocketHolder"]


class AnswerSource(Protocol):
    """A source of the bytes of an answer."""

    def pause(self) -> None:
        """Stop reading the answer, so that the app waits."""

    def resume(self) -> None:
        """Resume reading the answer."""


class SocketHolder(Protocol):
    """Holds a duplicate of a client's socket: a reactor does."""

    def client_closed(self, client: ClientSocket) -> None:
        """Close the duplicate: the client's connection has ended."""


class ClientSocket(Protocol):
    """A client's socket, to which a reactor may write an answer."""

    large_answers: int
    """Whole answers of at least WRITTEN_MIN bytes that it has got from the front end."""

    @property
    def in_use(self) -> bool:
        """Whether a reactor may have to write an answer to it."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def held_by(self, holder: SocketHolder) -> None:
        """Note that `holder` has a duplicate. It is told when the connection ends."""

    def not_held_by(self, holder: SocketHolder) -> None:
        """Note that `holder` has closed its duplicate."""


class Link(AnswerSource, Protocol):
    """Carries one exchange piece by piece, to a reactor and back."""

    begun: bool
    """The kernel has taken bytes of the request."""
    ended: bool
    """The reactor closed it before an answer began."""
    out: Outgoing
    """The bytes of the request that the kernel has not taken."""

    @property
    def between_frames(self) -> bool:
        """Whether it carries a WebSocket, and what the reactor has sent ends with a whole frame."""

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, and copy the rest if the kernel does not take all of it.

        The caller may reuse the memory of `data` after the call.
        """

    def space(self) -> memoryview | None:
        """Return memory into which more of the request should be read; None: any other.

        What is read there must be written next, from its first byte on, or not at all.
        """

    def room(self) -> int:
        """Return how many bytes of the request can be sent now.

        0: the client should not be read. The requester's `read_on` is called when there is room.
        """

    def half_close(self) -> None:
        """Pass on the client's FIN, after all bytes that the client sent."""

    def answered(self) -> None:
        """Drop the rest of the request, if there is one: its answer is complete."""

    def release(self) -> None:
        """End the use of this link by its exchange, which needs it no more."""

    def abandon(self) -> None:
        """Send and read nothing more of the exchange."""


class Requester(Protocol):
    """Waits for the answer to one request."""

    client: bytes
    """The address of the client of all requests, as text; empty: `client_of` may know it."""
    tls: Tlvs
    """What reactors are told of the TLS that the client speaks here; empty: none."""
    http2: bool
    """The client speaks HTTP/2."""
    express_prefix: bytes
    """The bytes that precede the request on an express lane: they name the client."""

    @property
    def due(self) -> float:
        """The deadline of the exchange, in seconds of the loop's clock; inf: none."""

    @property
    def lane_prefix(self) -> bytes:
        """The PROXY header that precedes the request on a lane."""

    def client_of(self, fields: Fields) -> bytes:
        """Return the address of the client of a request with these fields; empty: unknown."""

    def queued(self) -> None:
        """Note that the exchange waits for a reactor."""

    def started(self) -> None:
        """Note that a reactor has the exchange."""

    def not_begun(self, seconds: float) -> None:
        """Extend the deadlines of the exchange: for `seconds` its reactor did not begin it."""

    def reject_overload(self) -> None:
        """Reject the request: no reactor has room, or none had room for too long."""

    def read_on(self) -> None:
        """Read more of the request's body: there is room for it."""

    def answer_whole(self, answer: bytes) -> None:
        """Take the whole answer, head and body."""

    def answer_interim(self, data: bytes, source: AnswerSource) -> None:
        """Take a 1xx answer."""

    def switch_protocols(self, data: bytes) -> None:
        """Take the head of a 101 answer. Bytes of a WebSocket follow in both directions."""

    def websocket_over(self, record: Record) -> None:
        """Note that a WebSocket has ended, and that its app is done. `record`: of its exchange."""

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """Take the head of the final answer. `data` is the head and the first bytes after it."""

    def offer(self) -> ClientSocket | None:
        """Return the client's socket if a reactor may write the whole answer to it; else None.

        The exchange has just begun, or its answer has not.
        """

    def direct_begins(self, data: bytes, head: ResponseHead) -> None:
        """Note that the reactor, which had an offer, writes the answer. `data`: its head."""

    def direct_whole(self, size: int, data: bytes) -> None:
        """Note that the reactor, which had an offer, has written the answer, of `size` bytes.

        `data`: its head; empty: the reactor has died, and did not tell.
        """

    def direct_unknown(self) -> None:
        """Note that the reactor, which had an offer, may have written a part of the answer."""

    def answer_goes_on(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """Take more of the answer. The memory of `data` is reused after the call."""

    def answer_ends(self) -> None:
        """Note that the answer is complete."""

    def grant(self) -> ClientSocket | None:
        """Let the reactor write the rest of the answer to the client; return the client's socket.

        From now on nothing is written here until `grant_ends`. None: the rest must be relayed.
        """

    def grant_ends(self, written: int, *, given_back: bool = False) -> None:
        """Note that the reactor writes nothing more. It has written `written` bytes.

        `given_back`: the rest of the answer is relayed.
        """

    def client_blocks(self, written: int) -> None:
        """Note that the client takes no more now of what the reactor writes.

        `written`: bytes that the reactor has written since the grant.
        """

    def client_moves(self) -> None:
        """Note that the client takes bytes again."""

    def answer_failed(self) -> None:
        """Note that the answer will not be completed."""

    def end_stream(self) -> None:
        """Cut an answer that has begun, and tell the app that its client has left."""


E = TypeVar("E")


class Runner(Protocol[E]):
    """Runs exchanges of class E: a reactor, as requesters and the dispatcher know it."""

    name: str
    capacity: int
    """How many exchanges it takes at once."""
    in_flight: int
    """How many exchanges occupy it."""

    @property
    def websockets(self) -> int:
        """How many WebSockets it has."""

    @property
    def takes_more(self) -> bool:
        """Whether its capacity leaves room for another exchange."""

    @property
    def attentive(self) -> bool:
        """Whether it would begin an exchange at once, as far as the front end can tell."""

    @property
    def step_began(self) -> float:
        """When the running step of an app began, in seconds of CLOCK_MONOTONIC; 0.0: none runs."""

    @property
    def unstarted(self) -> list[E]:
        """The exchanges that it was given and has not begun."""

    def start(self, exchange: E) -> None:
        """Run an exchange. Raises OSError if there is no descriptor for a lane."""

    def has_begun(self, exchange: E) -> bool:
        """Return whether the app of an exchange was called, or is about to be."""

    def falls_behind(self, stuck: E) -> None:
        """Note that it has not begun `stuck` for long. Until it does, it is not attentive."""

    def withdraw(self, exchange: E) -> None:
        """Ask it to give back an exchange. It may begin the exchange before it reads this."""

    def hand_off(self, exchange: E) -> E:
        """Let another runner answer an exchange; return a stand-in that still occupies this one.

        This runner may begin the exchange all the same. Its answer is dropped then.
        """

    def abandon(self, exchange: E) -> None:
        """Stop reading the answer. The exchange occupies the runner until its app is done."""

    def take_back(self, exchange: E) -> bool:
        """Withdraw the offer of an exchange, if it has one.

        Return False if the reactor writes the answer already.
        """

    def cancel(self, exchange: E) -> None:
        """Tell the app to stop, as far as that is possible."""

    def client_sent_fin(self, exchange: E) -> None:
        """Pass on that the client sends nothing more."""

    def upgraded(self, exchange: E) -> None:
        """Note that the connection of an exchange is a WebSocket now: it occupies no capacity."""

    def answered(self, exchange: E) -> None:
        """Note that the client was given the whole answer."""
