"""One exchange of a WSGI app.

It is the AnswerSink that run.py writes the answer to, over the express lane or a plain lane.

The app runs inline in the loop, or in a thread. Two sections below belong to the app's thread; the
rest belongs to the loop. The app blocks while it writes more than its link takes, and while it
reads a body that has not arrived. In a thread this is intended. An inline app is rarely blocked,
because the front end takes whole answers from the reactor at once, and sends whole bodies. An
answer that the app has made as a whole is handed over, and the app goes on.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol, TypeAlias

from reactor_run.clock import date_field
from reactor_run.protocol.body import (
    CHUNK_TAIL,
    CHUNKED,
    LAST_CHUNK,
    UNTIL_CLOSE,
    BodyReader,
    body_reader,
    chunk_head,
)
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.express import EXPRESS_MAX
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.response import encode_early_hints, encode_text_head
from reactor_run.reactor.links.answer_file import AnswerFile
from reactor_run.reactor.links.exchange import AppLane
from reactor_run.reactor.links.gateway import Gateway
from reactor_run.reactor.links.lane import CONTINUE, LaneEnd
from reactor_run.reactor.log import limited, place_of
from reactor_run.reactor.loop.call_loop import Call
from reactor_run.reactor.wsgi.file import FileWrapper
from reactor_run.reactor.wsgi.head import AppHead
from reactor_run.reactor.wsgi.input import LaneInput
from reactor_run.reactor.wsgi.run import ERRORS, run_wsgi
from reactor_run.reactor.wsgi.stream import WsgiStream

__all__ = ["ENVIRON_CONSTANTS", "WsgiExchange"]


ENVIRON_CONSTANTS: Final = {
    "wsgi.early_hints": None,
    "wsgi.errors": ERRORS,
    "wsgi.file_wrapper": FileWrapper,
    "wsgi.input": None,
}
"""The entries of environ that come from this package. Those that are None are set for each
request."""

WsgiLink: TypeAlias = AppLane | WsgiStream
"""Carries one exchange of a WSGI app in pieces."""

_HELD_MAX: Final = 65536
"""Bytes of an answer that are gathered before they are written to a lane."""
_PIECES_MAX: Final = 512
"""Most pieces of an answer that are kept apart. Many small pieces take far more memory than their
bytes."""


def _raw(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


class CallPool(Protocol):
    """The threads that run exchanges."""

    def take_out(self, exchange: WsgiExchange) -> bool:
        """Take an exchange out of the queue. Returns False if a thread has already begun it."""

    def done(self, exchange: WsgiExchange) -> None:
        """Record that a thread has ended an exchange. Called in the loop."""


class WsgiExchange(Call):
    """One request to a WSGI app, and the AnswerSink of its answer."""

    lane: WsgiLink | None

    __slots__ = (
        "_aborted",
        "_body",
        "_content",
        "_environs",
        "_framing",
        "_gateway",
        "_held",
        "_held_size",
        "_origin",
        "_payload",
        "_pool",
        "head_sent",
        "took",
    )

    took: float
    """Seconds for which the exchange had a thread."""

    _framing: int
    """The length of the body in bytes, or CHUNKED, or UNTIL_CLOSE. Set by `begin`."""
    _held: list[bytes]
    """Pieces of the answer that are not written to a lane yet. Set by `begin`."""
    _held_size: int
    """Bytes in `_held`. Set by `begin`."""
    _content: bytes
    """Bytes of the body that are decoded and not read by the app yet. Set only if `_body` is."""

    def __init__(
        self,
        environs: EnvironBuilder,
        pool: CallPool | None,
        gateway: Gateway,
        head: RequestHead,
        origin: Origin,
        express: int,
        lane: WsgiLink | None,
        payload: bytes,
    ) -> None:
        """`pool`: the threads that run the exchange; None: it runs inline."""
        # The base class is not called: this runs once per request, and a call is measurable.
        self.reactor = gateway.reactor
        self.head = head
        self.express = express
        self.lane = lane
        self.gone = False
        self.ended = False
        self.head_sent = False
        self._environs = environs
        self._origin = origin
        self._pool = pool
        self._gateway = gateway
        self._payload = payload
        """Bytes of the body that have arrived and are not decoded yet."""
        self._aborted = False
        self._body: BodyReader | None = None
        """Decodes the body. None if the whole body came with the request, or there is no body."""

    def take_out(self) -> bool:
        if self._pool is not None:
            return self._pool.take_out(self)
        return super().take_out()

    def call(self) -> None:
        """Run the app, unless the client is already gone. Works in any thread. Raises nothing."""
        if self.gone:
            return
        try:
            # It is built now, not when the request arrives. So the environs of a batch do not exist
            # all at once, and each one reuses the memory of the one before.
            environ = self._environs.build(self.head, self._origin)
            environ["wsgi.early_hints"] = self.send_early_hints
            if self.lane is None and self.head.body >= 0:
                environ["wsgi.input"] = io.BytesIO(self._payload)
                self._payload = b""
            else:
                environ["wsgi.input"] = self._open_input()
            run_wsgi(self._gateway.app, environ, self, limited)
        except BaseException as error:
            # This is a fault of the reactor, or an exception that the app threw into this thread.
            self._log_fault(error)
            self._aborted = True

    def _open_input(self) -> LaneInput:
        """Return `wsgi.input` of a request whose body is still arriving."""
        if self.head.body:
            self._body = body_reader(self.head.body)
            self._content = b""
        return LaneInput(self._read_some)

    def _log_fault(self, error: BaseException) -> None:
        kind = place_of(error)
        limited.error("%s: the exchange failed", self.name, exc_info=error, kind=kind)

    def write_out(self) -> None:
        """End the exchange. A thread calls `signal_write_ready` when the app has ended."""
        assert self._pool is not None
        self._pool.done(self)
        self.over(None)

    def over(self, error: BaseException | None) -> None:
        if error is not None:
            self._log_fault(error)
            self._aborted = True
        gateway = self._gateway
        with gateway.lock:
            self.ended = True
        lane = self.lane
        drained = False
        if self._aborted or self.gone:
            gateway.abort(self)
        elif not self.head_sent:
            # A thread that the app started may still call `write`. So copy the pieces, and compute
            # the size from the copy.
            held = self._held.copy()
            size = 0
            for piece in held:
                size += len(piece)
            gateway.express.over(self.express, held, size)
            if lane is not None:
                gateway.over(self, drained=False)
            return
        else:
            assert lane is not None
            lane.finish(until_close=self._framing == UNTIL_CLOSE)
            drained = self._framing != UNTIL_CLOSE and (
                self._body is None or (self._body.complete and not self._payload)
            )
        if lane is not None and lane.in_use:
            # A thread that the app started still uses the lane. Wake it, and close the lane.
            lane.interrupt()
        if self.express:
            gateway.express.done(self.express)
        gateway.over(self, drained)

    @property
    def relayed(self) -> bool:
        return self._origin.relayed

    def abandon(self) -> None:
        self._gateway.abandon(self)

    # `wsgi.early_hints`; in the app's thread ------------------------------------------------------

    def send_early_hints(self, headers: Iterable[tuple[str | bytes, str | bytes]]) -> None:
        """Send 103 Early Hints to a client of HTTP/1.1, unless the answer has begun.

        Nothing is raised if the client is gone. Raises ValueError for fields that cannot be sent.
        """
        hints = encode_early_hints((_raw(name), _raw(value)) for name, value in headers)
        if not hints or self.head.minor_version == 0:
            return
        with self._gateway.lock:
            if self.gone or self.ended or self.head_sent:
                return
            link = self.lane
            if link is None:
                link = self.lane = self._gateway.open_stream(self)  # type: ignore[assignment]
                if link is None:
                    return
        with link.writing, suppress(OSError):
            if not (self.ended or self.head_sent):
                link.send_interim(hints)

    # The sink; in the app's thread ---------------------------------------------------------------

    def begin(self, head: AppHead, length: int | None) -> int:
        status, reason, fields, _ = head
        request = self.head
        start, self._framing = encode_text_head(
            status,
            reason,
            fields,
            request.method,
            request.minor_version,
            length,
            date_field(),
            self._gateway.own_fields,
        )
        self._held = [start]
        self._held_size = len(start)
        return self._framing

    def answer_whole(self, head: AppHead, length: int, blocks: Sequence[bytes]) -> int:
        framing = self.begin(head, length)
        if framing != length:
            return framing
        if isinstance(self.lane, LaneEnd):
            for block in blocks:
                if block:
                    self.write(block)
            self.finish()
            return framing
        # The pieces are not joined. The first piece of an answer goes whole in one message, and a
        # long message keeps the front end from its other clients.
        held = self._held
        for block in blocks:
            if block:
                held.append(block)
        self._held_size = size = self._held_size + length
        if size > EXPRESS_MAX and not self._gateway.goes_whole(self, size):
            with self._link_to_write() as link:
                held, self._held, self._held_size = self._held, [], 0
                assert not isinstance(link, LaneEnd)
                link.hand_over(held)
        return framing

    def write(self, data: bytes) -> None:
        self._hold(data)
        if len(self._held) > _PIECES_MAX:
            self._held = [b"".join(self._held)]
        if self._is_large() if self.lane is None else self._held_size > _HELD_MAX:
            self._push()

    def _is_large(self) -> bool:
        """Return whether more is held than goes as one message."""
        size = self._held_size
        return size > EXPRESS_MAX and size > self._gateway.whole_max(self)

    def _hold(self, data: bytes) -> None:
        """Gather bytes of the body, framed."""
        size = len(data)
        if self._framing == CHUNKED:
            start = chunk_head(size)
            self._held += (start, data, CHUNK_TAIL)
            self._held_size += len(start) + len(CHUNK_TAIL)
        else:
            self._held.append(data)
        self._held_size += size

    def flush(self) -> None:
        self._push()

    def send_file(self, file: io.BufferedIOBase | io.RawIOBase, count: int) -> bool:
        if self._framing == CHUNKED or (self.lane is None and count <= EXPRESS_MAX):
            return False
        if isinstance(self.lane, LaneEnd):
            with self._link_to_write() as lane:
                assert isinstance(lane, LaneEnd)
                held, self._held, self._held_size = self._held, [], 0
                lane.write_blocking(held)
                lane.send_file_blocking(file.fileno(), file.tell(), count)
            return True
        try:
            part = AnswerFile(os.dup(file.fileno()), file.tell(), count)
        except OSError:
            # There is no free descriptor for a duplicate. The file is read and written instead.
            return False
        try:
            with self._link_to_write() as stream:
                held, self._held, self._held_size = self._held, [], 0
                assert not isinstance(stream, LaneEnd)
                stream.hand_over(held)
                stream.send_file(part)
        except OSError:
            part.close()
            raise
        return True

    def finish(self) -> None:
        if self._framing == CHUNKED:
            self._held.append(LAST_CHUNK)
            self._held_size += len(LAST_CHUNK)
        if self._held and (
            self.head_sent or self._framing == UNTIL_CLOSE or isinstance(self.lane, LaneEnd)
        ):
            self._push()

    def abort(self) -> None:
        self._aborted = True

    def _push(self) -> None:
        """Send all gathered bytes, and wait until the link has taken them."""
        with self._link_to_write() as link:
            held, self._held, self._held_size = self._held, [], 0
            link.write_blocking(held)

    @contextmanager
    def _link_to_write(self) -> Iterator[WsgiLink]:
        """Give this thread sole use of the answer's link for writing.

        Raises OSError in a child of the app, and once the exchange has ended, because another
        exchange may use the lane then.
        """
        with self._gateway.lock:
            if self.gone or self.ended:
                raise BrokenPipeError("the client is gone")
            link = self.lane
            if link is None:
                link = self.lane = self._gateway.open_stream(self)  # type: ignore[assignment]
                if link is None:
                    raise OSError("a child of the app cannot answer")
            self.head_sent = True
        with link.writing:
            if self.ended:
                raise BrokenPipeError("the exchange has ended")
            yield link

    # The input; in the app's thread --------------------------------------------------------------

    def _read_some(self, size: int) -> bytes:
        body = self._body
        if body is None:
            return b""
        if self.ended:
            raise ConnectionResetError("the exchange has ended")
        if self._content:
            content, self._content = self._content[:size], self._content[size:]
            return content
        parts: list[bytes] = []
        while not parts and not body.complete:
            data = self._payload
            if data:
                self._payload = b""
            elif self.lane is None:
                raise ConnectionResetError("the request ended within its body")
            else:
                data = self._read_link(self.lane, size)
                if not data:
                    raise ConnectionResetError("the client left within the request's body")
            end = body.feed(data, 0, parts)
            # If bytes beyond the body are left, the lane cannot carry another request.
            self._payload = data[end:]
        content = b"".join(parts)
        self._content = content[size:]
        return content[:size]

    def _read_link(self, link: WsgiLink, size: int) -> bytes:
        """Read a part of the request, of about `size` bytes. Returns b"" at its end.

        Raises OSError, also once the exchange has ended, because another exchange may use the lane
        then.
        """
        assert self._body is not None
        if self.head.expect_continue and self._body.received == 0 and not self.head_sent:
            with link.writing:
                if not self.ended:
                    link.send_interim(CONTINUE)
        self.head.expect_continue = False
        with link.reading:
            if self.ended:
                raise ConnectionResetError("the exchange has ended")
            return link.read_blocking(size)
