"""Fuzz target: response heads from a lane, and heads that are encoded for an app.

However a head arrives, and whatever follows it, it is read the same or rejected. h11 finds the same
body after it. An inserted Connection field changes nothing else. A head that is encoded for an app
is read with the framing that it was encoded for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import h11

from reactor_run.protocol.body import body_reader
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.policy import Rejected
from reactor_run.protocol.response import (
    HEAD_MAX,
    ResponseError,
    encode_response_head,
    insert_connection,
)
from reactor_run.protocol.response_head import (
    BadResponse,
    KnownResponseHeads,
    ResponseHead,
    parse_response_head,
)
from tests.fuzz.inputs import BYTEWISE, WHOLE, ends, split_input
from tests.protocol.streams import Choices

METHODS: Final = (b"GET", b"HEAD", b"PUT", b"POST")
AN_APPS: Final = 0x80
"""A bit of the control: the content is an app's response to encode."""
FIELD: Final = b"connection: close\r\n"


def check(data: bytes) -> None:
    control, content = split_input(data)
    method = METHODS[control[0] >> 1 & 3]
    if control[0] & AN_APPS:
        content = encode(Choices(content), method) or b""
    head = check_pieces(control, content, method)
    if isinstance(head, ResponseHead):
        assert head.size <= HEAD_MAX
        check_inserted(content, head, method)
        check_h11(content, head, method)
    elif b"\r\n" not in content:
        try:
            insert_connection(content, b"close")
        except ValueError:
            return
        raise AssertionError("there was no start line")


def read(data: bytes, method: bytes, start: int = 0) -> ResponseHead | str | None:
    try:
        return parse_response_head(data, method, start)
    except BadResponse as bad:
        return str(bad)


def told(outcome: ResponseHead | str | None) -> object:
    """Return the part of an outcome that must be the same for the same bytes. The text of an error
    may differ."""
    if isinstance(outcome, ResponseHead):
        return tuple(getattr(outcome, name) for name in ResponseHead.__slots__)
    return type(outcome)


def check_pieces(control: bytes, content: bytes, method: bytes) -> ResponseHead | str | None:
    whole = read(content, method)
    assert told(read(b"before" + content, method, 6)) == told(whole)
    for end in ends(control, len(content)):
        outcome = read(content[:end], method)
        if outcome is not None:
            break
        assert end <= HEAD_MAX, "an endless head is kept"
    assert told(outcome) == told(whole), "the cuts decide what is read"
    if isinstance(whole, ResponseHead):
        known = KnownResponseHeads()
        for _ in range(2):
            assert told(known.parse(content, b"GET")) == told(read(content, b"GET"))
            assert told(known.parse(content, method)) == told(whole)
    return whole


def check_inserted(content: bytes, head: ResponseHead, method: bytes) -> None:
    again = read(insert_connection(content, b"close"), method)
    if head.size + len(FIELD) > HEAD_MAX:
        assert isinstance(again, str)
        return
    assert isinstance(again, ResponseHead)
    again.size -= len(FIELD)
    assert told(again) == told(head)


def check_h11(content: bytes, head: ResponseHead, method: bytes) -> None:
    """Check that h11 rejects the head or finds the body that we find. The stream ends after
    `content`."""
    if head.interim or head.upgrade:
        return
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="a:1", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(content)
    client.receive_data(b"")
    body = b""
    rest = None
    try:
        event = client.next_event()
        assert isinstance(event, h11.Response)
        assert event.status_code == head.status
        while rest is None:
            event = client.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                rest = client.trailing_data[0]
    except h11.RemoteProtocolError:
        # It rejects the head, or the body lacks its end. Then `rest` stays None.
        pass
    ours = body_reader(head.body)
    parts: list[bytes] = []
    try:
        end = ours.feed(content, head.size, parts)
    except Rejected:
        return
    if not ours.end_of_stream():
        assert rest is None
    elif rest is not None:
        assert (b"".join(parts), content[end:]) == (body, rest)


OWN = OwnFields([(b"X-A", b"z"), (b"x-b", b"")])


def encode(choices: Choices, method: bytes) -> bytes | None:
    """Return an app's response, encoded; None if it is no response."""
    status = choices.pick([200, 204, 304, 500, 101, 404, 999, 1000])
    minor_version = 1 - choices.below(2)
    length = choices.pick([None, 0, 5, None])
    reason = choices.pick([None, b"", b"All Right", b"a\r\nb: c"])
    count = choices.below(4)
    names = [b"content-length", b"X-A", b"transfer-encoding", b"Connection", b"date", b"", b"a b"]
    fields = [(choices.pick(names), choices.pick([b"5", b"chunked", b""])) for _ in range(count)]
    rest = choices.rest().split(b"\xff")
    fields += zip(rest[::2], rest[1::2], strict=False)
    try:
        head, framing = encode_response_head(
            status,
            fields,
            method=method,
            minor_version=minor_version,
            length=length,
            date_field=b"date: x\r\n",
            own_fields=OWN,
            reason=reason,
        )
    except ResponseError:
        return None
    read_again = parse_response_head(head, method)
    assert read_again is not None
    assert read_again.size == len(head)
    assert read_again.status == status
    assert read_again.body == framing
    assert not read_again.interim
    assert not read_again.upgrade
    return head


def seeds() -> Iterator[bytes]:
    heads = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nserver: x\r\n\r\nuntil close",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\nserver: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ]
    for control in (WHOLE, BYTEWISE, b"\x02\x40\x80\xff", b"\x04\x40\x80\xff"):
        for head in heads:
            yield control + head
        for choices in (b"\0", b"\0\0\1\2\2\0\0\1\1", b"\1\1\2\0\1\1\2X-B\xffvalue\xffa\xffb\r\n"):
            yield bytes([control[0] | AN_APPS]) + control[1:] + choices
