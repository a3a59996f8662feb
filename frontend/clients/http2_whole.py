"""The requester of a request that has arrived whole over HTTP/2, until anything rare happens.

By far the most requests arrive whole, and their answers come in one piece. Such a request needs no
byte stream, no reader of requests and no deadlines of its own. So its requester gives the answer to
the session itself.

All else is for a stream (http2_stream.py): a request that waits in the queue or is timed, an answer
in pieces, one that fails or that the session has no room for, a client that leaves. Then `unfold`
makes a stream of it, and the requester of that stream takes its place. A caller may still hold
this one, which passes on what it is told.
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin, ForwardedOrigin
from reactor_run.frontend.clients.http2_transport import ALL_QUEUED_MAX, PIECE
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.ports import AnswerSource, ClientSocket
from reactor_run.frontend.exchanges.record import Record
from reactor_run.native import split_answer
from reactor_run.protocol.http2.session import Session
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.response_head import ResponseHead

__all__ = ["WholeOwner", "WholeRequester"]

_DIGIT: Final = 9
"""Where the status code of an answer begins."""


class WholeOwner(Protocol):
    """The connection that has the request."""

    session: Session

    def stir(self) -> None:
        """Send the session's output at the end of the batch."""

    def unfold(self, whole: WholeRequester) -> Http1Requester:
        """Make a stream of a request that is not answered; return the requester of the stream."""


class WholeRequester:
    """A `Requester` of ports.py. It serves one request after another, each on a stream.

    number: of the stream. exchange: the exchange in flight; None: the session has the answer.
    sent: bytes of content of the answer that the session has.
    client, express_prefix, tls, http2: see `Requester`.
    forwarded: set if a trusted proxy is at the other end, which names the clients of its requests.
    """

    due = inf
    """There is no deadline."""

    __slots__ = (
        "_context",
        "_full",
        "_origin",
        "_owner",
        "_session",
        "client",
        "exchange",
        "express_prefix",
        "forwarded",
        "http2",
        "number",
        "sent",
        "tls",
    )

    def __init__(self, context: ClientContext, owner: WholeOwner, origin: ConnectionOrigin) -> None:
        """`origin`: names the client of all requests."""
        self._context = context
        self._owner = owner
        self._session = owner.session
        self._full: Http1Requester | None = None
        self._origin = origin
        self.forwarded = origin if isinstance(origin, ForwardedOrigin) else None
        self.client = origin.client
        self.express_prefix = origin.express_prefix
        self.tls = origin.tls
        self.http2 = origin.http2
        self.exchange: Exchange | None = None
        self.number = 0
        self.sent = 0

    def client_of(self, fields: Fields) -> bytes:
        """See `Requester`."""
        return self._origin.client_of(fields)

    def started(self) -> None:
        """Start the deadlines of the exchange, if there are any."""
        if self._context.times_exchanges:
            self.unfold().started()

    def answer_whole(self, answer: bytes) -> None:
        """Give the session the answer, if it has room and the answer is an ordinary one."""
        context, session = self._context, self._session
        parts = None
        if (
            not context.changes_answers
            and len(answer) <= PIECE
            and session.queued() < ALL_QUEUED_MAX
            and self._full is None
        ):
            parts = split_answer(answer)
        if parts is None:
            self.unfold().answer_whole(answer)
            return
        exchange, self.exchange = self.exchange, None
        assert exchange is not None
        context.answers[answer[_DIGIT]] += 1
        if context.ended is not None:
            exchange.ended = context.loop.now
            exchange.status_code = answer[_DIGIT : _DIGIT + 3]
            exchange.answer_head = answer
            exchange.bytes_out = len(answer)
            context.ended.append(exchange)
        fields, content = parts
        self.sent = len(content)
        session.answer(self.number, fields, content)
        self._owner.stir()

    # What is rare ---------------------------------------------------------------------------------

    def unfold(self) -> Http1Requester:
        """Return the requester of a stream, which takes the place of this one."""
        if self._full is None:
            self._full = self._owner.unfold(self)
        return self._full

    @property
    def lane_prefix(self) -> bytes:
        """See `Requester`."""
        return self.unfold().lane_prefix

    def queued(self) -> None:
        """See `Requester`."""
        self.unfold().queued()

    def not_begun(self, seconds: float) -> None:
        """See `Requester`. There is no deadline that it would extend."""

    def reject_overload(self) -> None:
        """See `Requester`."""
        self.unfold().reject_overload()

    def read_on(self) -> None:
        """See `Requester`. There is nothing to read."""

    def answer_interim(self, data: bytes, source: AnswerSource) -> None:
        """See `Requester`."""
        self.unfold().answer_interim(data, source)

    def switch_protocols(self, data: bytes) -> None:
        """See `Requester`."""
        self.unfold().switch_protocols(data)

    def websocket_over(self, record: Record) -> None:
        """See `Requester`."""
        self.unfold().websocket_over(record)

    def answer_begins(self, data: bytes, head: ResponseHead, source: AnswerSource) -> None:
        """See `Requester`."""
        self.unfold().answer_begins(data, head, source)

    def answer_goes_on(self, data: bytes | memoryview, source: AnswerSource) -> None:
        """See `Requester`."""
        self.unfold().answer_goes_on(data, source)

    def answer_ends(self) -> None:
        """See `Requester`."""
        self.unfold().answer_ends()

    def offer(self) -> ClientSocket | None:
        """See `Requester`. No reactor writes to this client."""
        return None

    def direct_begins(self, data: bytes, head: ResponseHead) -> None:
        """See `Requester`. There was no offer."""

    def direct_whole(self, size: int, data: bytes) -> None:
        """See `Requester`. There was no offer."""

    def direct_unknown(self) -> None:
        """See `Requester`. There was no offer."""

    def grant(self) -> ClientSocket | None:
        """See `Requester`. No reactor writes to this client."""
        return None

    def grant_ends(self, written: int, *, given_back: bool = False) -> None:
        """See `Requester`."""
        self.unfold().grant_ends(written, given_back=given_back)

    def client_blocks(self, written: int) -> None:
        """See `Requester`. There was no grant."""

    def client_moves(self) -> None:
        """See `Requester`. There was no grant."""

    def answer_failed(self) -> None:
        """See `Requester`."""
        self.unfold().answer_failed()

    def end_stream(self) -> None:
        """See `Requester`."""
        self.unfold().end_stream()
