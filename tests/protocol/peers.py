"""Three HTTP/1.1 parsers that read one stream of requests: ours, h11, and llhttp (httptools)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import h11
import httptools

from reactor_run.protocol.body import body_reader
from reactor_run.protocol.policy import Limits, Rejected, Rule
from reactor_run.protocol.request import Rewritten, parse_request_head

__all__ = ["End", "Message", "Reading", "difference", "read_by_h11", "read_by_llhttp", "read_by_us"]

Fields = tuple[tuple[bytes, bytes], ...]

LIMITS = Limits()


class End(Enum):
    """Why a parser read no further message."""

    WAITING = "more bytes could complete a message"
    REFUSED = "the bytes are no request"
    CLOSED = "the last message was the last of its connection"
    UPGRADED = "what follows the last message is not HTTP"


@dataclass
class Message:
    """One request, as a parser sees it."""

    method: bytes
    target: bytes
    minor_version: int
    fields: Fields
    """Names in lower case, values without surrounding white space, as `_normal` makes them."""
    body: bytes = b""
    end: int | None = None
    """The index in the stream at which the message ends; None if its body is incomplete."""
    raw: bytes = b""
    """For our parser only: the bytes of the message, as they are relayed."""


@dataclass
class Reading:
    """All that a parser sees in a stream."""

    messages: list[Message] = field(default_factory=list)
    """The messages whose heads were complete and accepted. Only the body of the last may be
    incomplete."""
    end: End = End.WAITING
    rule: Rule | None = None
    """For our parser only: the rule by which the stream was rejected."""

    @property
    def whole(self) -> list[Message]:
        return [message for message in self.messages if message.end is not None]


def difference(ours: Reading, theirs: Reading) -> str | None:
    """Return how they read a stream that we accept, if they read it differently, else None.

    A peer that rejects a message is only stricter, which is no difference. Its reading after the
    point where we rejected, or closed the connection, does not count either.
    """
    for ours_one, theirs_one in zip(ours.messages, theirs.messages, strict=False):
        for name in ("method", "target", "minor_version"):
            if getattr(ours_one, name) != getattr(theirs_one, name):
                return name
        if _comparable(ours_one) != _comparable(theirs_one):
            return "fields"
        if (ours_one.end, ours_one.body) == (theirs_one.end, theirs_one.body):
            continue
        if ours_one.end is None and ours.end is End.REFUSED:
            return None
        if theirs_one.end is None and theirs.end is End.REFUSED:
            return None
        return "body: UPGRADED" if theirs.end is End.UPGRADED else "body"
    if len(theirs.messages) < len(ours.messages):
        return None if theirs.end is End.REFUSED else f"only we go on: {theirs.end.name}"
    if len(theirs.messages) > len(ours.messages) and ours.end is End.WAITING:
        return "only they go on"
    return None


def _comparable(message: Message) -> Fields:
    """Return the fields that must be the same: only we replace Host beside an absolute-form."""
    if message.target.startswith((b"/", b"*")):
        return message.fields
    return tuple(field for field in message.fields if field[0] != b"host")


def read_by_us(stream: bytes, limits: Limits = LIMITS) -> Reading:
    """Read as the front end does: each head, its body, and at most the last message of a
    connection."""
    reading = Reading()
    at = 0
    try:
        while at < len(stream):
            data = stream[at:]
            try:
                head = parse_request_head(data, limits)
            except Rewritten as rewritten:
                data = rewritten.data
                head = parse_request_head(data, limits)
            if head is None:
                break
            fields = _normal(head.fields)
            message = Message(head.method, head.target, head.minor_version, fields, raw=data)
            reading.messages.append(message)
            body = body_reader(head.body)
            parts: list[bytes] = []
            try:
                end = body.feed(data, head.size, parts)
            finally:
                message.body = b"".join(parts)
            if not body.complete:
                break
            message.raw = data[:end]
            # The bytes after the head were not rewritten.
            message.end = at = len(stream) - len(data) + end
            if not head.keep_alive:
                reading.end = End.CLOSED
                break
    except Rejected as rejected:
        reading.end = End.REFUSED
        reading.rule = rejected.rule
    return reading


def read_by_h11(stream: bytes) -> Reading:
    """Read each message by a connection of its own, because h11 needs an answer before the next
    one."""
    reading = Reading()
    at = 0
    while at < len(stream):
        # As many bytes as we allow, so that h11 does not reject a message for its size alone.
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        parser.receive_data(stream[at:])
        message = None
        try:
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Request):
                    minor = int(event.http_version[-1:])
                    fields = _normal(tuple(event.headers.raw_items()))
                    message = Message(event.method, event.target, minor, fields)
                    reading.messages.append(message)
                elif isinstance(event, h11.Data):
                    assert message is not None
                    message.body += event.data
                elif event is h11.NEED_DATA:
                    return reading
                else:
                    break
        except h11.RemoteProtocolError:
            reading.end = End.REFUSED
            return reading
        assert isinstance(event, h11.EndOfMessage)
        assert message is not None
        at = message.end = len(stream) - len(parser.trailing_data[0])
        if parser.their_state is h11.MUST_CLOSE:
            reading.end = End.CLOSED
            break
        if parser.their_state is not h11.DONE:
            # It might switch protocols.
            reading.end = End.UPGRADED
            break
    return reading


def read_by_llhttp(stream: bytes) -> Reading:
    """Read byte by byte, because llhttp does not say where in a piece a message ended."""
    events = _Events()
    reading = events.reading
    for at in range(len(stream)):
        if not events.keeps:
            reading.end = End.CLOSED
            break
        events.fed = at + 1
        try:
            events.parser.feed_data(stream[at : at + 1])
        except httptools.HttpParserUpgrade:
            reading.end = End.UPGRADED
            break
        except httptools.HttpParserError:
            reading.end = End.REFUSED
            break
    return reading


class _Events:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.parser = httptools.HttpRequestParser(self)
        self.fed = 0
        self.keeps = True
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        fields = _normal(tuple(self._fields))
        self.reading.messages.append(Message(method, self._target, int(version[-1:]), fields))

    def on_body(self, body: bytes) -> None:
        self.reading.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.reading.messages[-1].end = self.fed
        self.keeps = self.parser.should_keep_alive()


def _normal(fields: Fields) -> Fields:
    """Return fields without the differences that do not matter.

    h11 writes names and codings in lower case, and llhttp leaves white space behind values.
    """
    stripped = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return tuple(
        (name, value.lower() if name == b"transfer-encoding" else value) for name, value in stripped
    )
