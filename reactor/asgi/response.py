"""The response of an ASGI app, from its messages to the link (ASGI HTTP specification 2.5).

The response goes through these states. The table says what each message of the app does in each:

    state       http.response.start     http.response.body               the app returns or raises
    IDLE        -> STARTED              error                            500
    STARTED     error                   -> STREAMING, or COMPLETE        500: nothing was sent yet
    STREAMING   error                   -> STREAMING, or COMPLETE        the answer is aborted
    TRAILERS    error                   error                            the answer is aborted
    COMPLETE    error                   error                            no effect

http.response.pathsend is a complete body, and comes in the state STARTED only. The reactor reads a
small file at once. The link sends a larger one, also after the app has returned.

TRAILERS follows instead of COMPLETE if http.response.start has announced trailers. The message
http.response.trailers completes the response.

http.response.early_hint is sent at once in IDLE and STARTED. In STREAMING it comes too late and has
no effect. In COMPLETE it is an error.

The head waits for the first body message, as the specification asks. A whole answer of an express
exchange is sent as one message. The answer leaves in pieces, by a stream, in two cases: it is
larger than EXPRESS_MAX, or the app suspends before it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from reactor_run.clock import date_field
from reactor_run.protocol.body import CHUNK_TAIL, CHUNKED, LAST_CHUNK, UNTIL_CLOSE, chunk_head
from reactor_run.protocol.express import EXPRESS_MAX
from reactor_run.protocol.response import encode_early_hints, encode_response_head, encode_trailers
from reactor_run.reactor.links.answer_file import AnswerFile, ShortFileError, open_file
from reactor_run.reactor.links.exchange import AppLink
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.loop.hosted import Event, Hosted

__all__ = [
    "COMPLETE",
    "EXPECTED",
    "EXTENSIONS",
    "IDLE",
    "STARTED",
    "STREAMING",
    "TRAILERS",
    "Response",
    "ResponseState",
]

EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}
"""The extensions that each scope shows (ASGI documentation, "Extensions")."""

_OUT_PIECES_MAX: Final = 512
"""Most pieces of an answer that are kept apart. Many small pieces take more memory than their
bytes."""


class ResponseState(Enum):
    """The states of a response; see the table above. The values are texts for the log."""

    IDLE = "not started"
    STARTED = "not begun"
    STREAMING = "incomplete"
    TRAILERS = "without its trailers"
    COMPLETE = "complete"


IDLE: Final = ResponseState.IDLE
STARTED: Final = ResponseState.STARTED
STREAMING: Final = ResponseState.STREAMING
TRAILERS: Final = ResponseState.TRAILERS
COMPLETE: Final = ResponseState.COMPLETE

EXPECTED: Final = {
    IDLE: "http.response.start comes first",
    STARTED: "http.response.body comes next",
    STREAMING: "http.response.body comes next",
    TRAILERS: "http.response.trailers comes next",
    COMPLETE: "the response is complete",
}
"""For the log: what an app should have sent in each state."""


class Response(Hosted):
    """An exchange, as far as its response goes."""

    __slots__ = (
        "_fields",
        "_framing",
        "_gateway",
        "_lacking",
        "_on_wire",
        "_out",
        "_out_size",
        "_receiving",
        "_state",
        "_status",
        "_streams",
        "_trailers",
    )

    _status: int
    """The status code of the app's http.response.start."""
    _fields: Iterable[tuple[bytes, bytes]]
    """The header fields of the app's http.response.start."""
    _trailers: list[tuple[bytes, bytes]] | None
    """The trailer fields so far; None: the app's http.response.start has announced none."""
    _framing: int
    """The length of the response body in bytes, or CHUNKED, or UNTIL_CLOSE. It is set when the head
    is encoded."""
    _lacking: int
    """Bytes that the app still has to send, if `_framing` is a length."""
    _gateway: Gateway
    _on_wire: bool
    """Bytes of the answer have been sent to the front end."""
    _out: list[bytes]
    """What is framed and not sent."""
    _out_size: int
    """The exact number of bytes in `_out`. The express lane frames the answer by it."""
    _receiving: Event | None
    """Wakes the tasks that wait in `receive`, also when the response is complete."""
    _state: ResponseState
    _streams: bool
    """Bytes were sent in pieces, by `lane`."""

    def _begin(self, length: int | None) -> None:
        """Encode the head. `length`: bytes of the whole body, if they are known."""
        request = self.head
        # By position: for eight names Python takes as long as for the rest of the call.
        head, self._framing = encode_response_head(
            self._status,
            self._fields,
            request.method,
            request.minor_version,
            length,
            date_field(),
            self._gateway.own_fields,
        )
        self._lacking = self._framing
        self._state = STREAMING
        self._out.append(head)
        self._out_size = len(head)

    def _take_whole(self, body: bytes) -> None:
        """Encode the head, and take the whole body: the most frequent response by far."""
        request = self.head
        size = len(body)
        head, self._framing = encode_response_head(
            self._status,
            self._fields,
            request.method,
            request.minor_version,
            size,
            date_field(),
            self._gateway.own_fields,
        )
        out = self._out
        out.append(head)
        self._out_size = len(head)
        if self._framing == size:
            out.append(body)
            self._out_size += size
            self._complete()
        else:
            # There is no body, or the app has told a wrong length of it.
            self._lacking = self._framing
            self._state = STREAMING
            self._append(body, False)

    def _append(self, body: bytes, more: bool) -> None:
        """Frame a part of the body. Without `more`, it completes the response."""
        size = len(body)
        framing = self._framing
        if framing >= 0:
            if size > self._lacking:
                if self.head.method != b"HEAD" and self._status not in (204, 304):
                    raise RuntimeError("the response body is longer than its Content-Length")
                size = 0
            lacking = self._lacking - size
            if not more and lacking:
                raise RuntimeError("the response body is shorter than its Content-Length")
            self._lacking = lacking
            if size:
                self._out.append(body)
        elif framing == CHUNKED:
            if size:
                start = chunk_head(size)
                self._out += (start, body, CHUNK_TAIL)
                self._out_size += len(start) + len(CHUNK_TAIL)
            if not more and self._trailers is None:
                self._out.append(LAST_CHUNK)
                self._out_size += len(LAST_CHUNK)
        elif size:
            self._out.append(body)
        self._out_size += size
        if not more and self._trailers is not None:
            self._state = TRAILERS
        elif not more:
            self._complete()
        elif len(self._out) > _OUT_PIECES_MAX:
            self._out = [b"".join(self._out)]

    def _complete(self) -> None:
        """Note that the app has made the whole response."""
        self._state = COMPLETE
        if self._receiving is not None:
            self._receiving.set()

    def _state_for_body(self) -> ResponseState:
        """Return the state if a part of the body may come now. Otherwise raises as `send` does."""
        state = self._state
        if self.gone:
            raise OSError("the client is gone")
        if state is not STARTED and state is not STREAMING:
            raise RuntimeError(f"http.response.body is out of order: {EXPECTED[state]}")
        return state

    def _fail(self) -> None:
        """Replace the answer by a 500. Call this only if nothing was sent."""
        text = b"Internal Server Error\n"
        self._status = 500
        self._fields = [(b"content-type", b"text/plain; charset=utf-8")]
        self._out = []
        self._begin(len(text))
        if self.head.method != b"HEAD":
            self._out.append(text)
            self._out_size += len(text)
        self._state = COMPLETE

    def _send_early_hints(self, links: Iterable[bytes]) -> None:
        """Send 103 Early Hints to a client of HTTP/1.1, unless the answer has begun."""
        if self._state is COMPLETE:
            raise RuntimeError("http.response.early_hint is out of order: the response is complete")
        hints = encode_early_hints((b"link", link) for link in links)
        if not hints or self.head.minor_version == 0 or self._state not in (IDLE, STARTED):
            return
        lane = self._answer_lane()
        if lane is None:
            return
        try:
            lane.send_interim(hints)
        except OSError:
            self.on_gone()
            raise
        self.reactor.flush_soon()

    def _send_trailers(self, fields: Iterable[tuple[bytes, bytes]], more: bool) -> None:
        """Take trailer fields. Without `more`, they complete the response.

        They are sent at the end of a chunked body, to a client with `TE: trailers`.
        """
        if self._state is not TRAILERS:
            raise RuntimeError(f"http.response.trailers is out of order: {EXPECTED[self._state]}")
        assert self._trailers is not None
        trailers = [*self._trailers, *fields]
        end = encode_trailers(trailers)
        if more:
            self._trailers = trailers
            return
        if self._framing == CHUNKED:
            (codings,) = self.head.values((b"te",))
            if b"trailers" not in map(bytes.strip, codings.lower().split(b",")):
                end = LAST_CHUNK
            self._out.append(end)
            self._out_size += len(end)
        self._complete()
        if self.suspended:
            self.reactor.write_ready(self)

    def _send_path(self, path: str) -> None:
        """Send a file as the whole body, and complete the response.

        If the app's Content-Length is less than the size of the file, only so many bytes are sent:
        the file has grown. Raises as `send` does. Then nothing was sent.
        """
        if self._state is not STARTED:
            raise RuntimeError(f"http.response.pathsend is out of order: {EXPECTED[self._state]}")
        if self._trailers is not None:
            raise RuntimeError("a response with trailers cannot have an http.response.pathsend")
        file = open_file(path)
        try:
            self._begin(file.left)
            if file.left < self._framing:
                raise RuntimeError("the file is shorter than the response's Content-Length")
            file.end = self._framing
            large = file.left > EXPRESS_MAX
            body = b"" if large else file.read(EXPRESS_MAX)
            if not large and len(body) < file.left:
                raise ShortFileError
        except BaseException:
            file.close()
            # The app may still send another body.
            self._out, self._out_size = [], 0
            self._state = STARTED
            raise
        if large:
            self._append_file(file)
        else:
            file.close()
            self._append(body, False)
            if self.suspended:
                self.reactor.write_ready(self)

    def _append_file(self, file: AnswerFile) -> None:
        """Give the head and the file to the link, as the whole response. The link closes the
        file."""
        self._lacking = 0
        self._complete()
        lane = self._answer_lane()
        if lane is None:
            file.close()
            return
        self._on_wire = self._streams = True
        lane.send_file(file)
        self.write_out()
        # A stream gathers messages. After a later step of the app, nothing else sends them.
        self.reactor.flush_soon()

    def write_out(self) -> None:
        if self._out:
            out, self._out = self._out, []
            size, self._out_size = self._out_size, 0
            if self._fits_one_message(size):
                self._on_wire = True
                self._gateway.express.answer(self.express, out, size)
                return
            lane = self._answer_lane()
            if lane is None:
                return
            self._on_wire = self._streams = True
            try:
                lane.write(out)
            except OSError:
                self.on_gone()
                return
        if self._state is COMPLETE and self._streams and self.lane is not None:
            try:
                self.lane.finish(until_close=self._framing == UNTIL_CLOSE)
            except OSError:
                self.on_gone()

    def _answer_lane(self) -> AppLink | None:
        """Return what carries an answer in pieces. None in a child that the app forked: then the
        client counts as gone."""
        if self.lane is None:
            self.lane = self._gateway.open_stream(self)
            if self.lane is None:
                self.on_gone()
        return self.lane

    def _fits_one_message(self, size: int) -> bool:
        """Whether the whole answer, of `size` bytes, can be one message of the express lane."""
        return (
            self.express != 0
            and not self._on_wire
            and self._state is COMPLETE
            and (size <= EXPRESS_MAX or self._gateway.goes_whole(self, size))
            and self._framing != UNTIL_CLOSE
        )
