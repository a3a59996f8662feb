"""Fuzz target: request heads, by `parse_request_head` and `read_relayed_head`.

However the bytes arrive, and whatever follows them, they give the same head or none. A head keeps
the limits. The reactor reads it as the front end did. Reframed, it says the same. After its empty
line no head is incomplete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reactor_run.protocol import policy
from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits, Rejected, Rule
from reactor_run.protocol.request import (
    ParsedHead,
    RequestHead,
    Rewritten,
    parse_request_head,
    read_relayed_head,
    reframe,
)
from tests.corpus.loader import load
from tests.fuzz.inputs import BYTEWISE, WHOLE, ends, split_input
from tests.protocol.streams import Choices, request_stream

NARROW: Final = Limits(request_line=40, field_count=4, field_size=50, head_size=150, body_size=9)
DEFAULT: Final = Limits()
WIDE: Final = Limits(1 << 16, FIELD_COUNT_MAX, 1 << 16, 1 << 20, 0, "pass")
NORMALIZING: Final = Limits(path_policy="normalize")
FRAMING: Final = (b"content-length", b"transfer-encoding", b"expect")
MORE: Final = b"\r\n\r\n" + b"x" * 9
"""The end of any head, with as many bytes after it as the parser needs before it judges."""
END: Final = b"\r\n\r\n"
TOO_LARGE: Final = (policy.FIELD_TOO_LARGE, policy.FIELDS_TOO_MANY, policy.HEAD_TOO_LARGE)
GENERATED: Final = 0x80
"""A bit of the control: the content is decisions for `request_stream`."""


def check(data: bytes) -> None:
    control, content = split_input(data)
    if control[0] & GENERATED:
        content = request_stream(Choices(content))
    accepted = None
    for limits in (NARROW, DEFAULT, WIDE):
        outcome = read(content, limits)
        # The second reading may find its names and values in a cache.
        assert same(read(content, limits), outcome)
        check_pieces(control, content, limits, outcome)
        if isinstance(outcome, RequestHead):
            check_limits(outcome, content, limits)
        elif isinstance(outcome, bytes):
            check_rewritten(outcome, limits)
        if accepted is not None:
            assert same(outcome, accepted), "wider limits, and not the same head"
        if isinstance(outcome, RequestHead):
            accepted = outcome
    if accepted is not None:
        check_relayed(accepted, content)
        check_reframed(accepted)
    check_normalized(content)


Outcome = RequestHead | Rule | bytes | None
"""A head, the rule that it breaks, None while it is incomplete, or the bytes of a rewritten
head."""


def read(data: bytes, limits: Limits, seen: int = 0) -> Outcome:
    try:
        return parse_request_head(data, limits, seen)
    except Rejected as rejected:
        return rejected.rule
    except Rewritten as rewritten:
        return rewritten.data.partition(END)[0] + END


def same(one: object, other: object) -> bool:
    if isinstance(one, RequestHead) and isinstance(other, RequestHead):
        return all(getattr(one, name) == getattr(other, name) for name in ParsedHead.__slots__)
    return one == other


def check_pieces(control: bytes, content: bytes, limits: Limits, whole: Outcome) -> None:
    seen = 0
    for end in ends(control, len(content)):
        outcome = read(content[:end], limits, seen)
        if outcome is not None:
            break
        # An empty line before the request is no part of it.
        assert end - 2 * content.startswith(b"\r\n") <= limits.head_size, "an endless head is kept"
        seen = end
    if isinstance(outcome, RequestHead | bytes) or isinstance(whole, RequestHead | bytes):
        assert same(outcome, whole), "the cuts decide what is read"
    # The cuts decide when a fault is found, but the rule is always the same in the end.
    for verdict in (outcome, whole):
        if isinstance(verdict, Rule):
            assert read(content + MORE, limits) is verdict
    assert read(content + END, limits) is not None, "incomplete behind its empty line"


def check_limits(head: RequestHead, content: bytes, limits: Limits) -> None:
    assert head.size <= len(content)
    # An empty line before the request is no part of it.
    assert head.size - 2 * content.startswith(b"\r\n") <= limits.head_size
    assert len(head.method) + len(head.target) + len(b"  HTTP/1.1") <= limits.request_line
    assert len(head.fields) <= limits.field_count
    assert all(len(name) + len(value) <= limits.field_size for name, value in head.fields)
    assert not limits.body_size or head.body <= limits.body_size
    assert content[: head.size].count(b"\n") == content[: head.size].count(b"\r\n")


def check_relayed(head: RequestHead, content: bytes) -> None:
    for relayed in (
        read_relayed_head(content),
        read_relayed_head(content[: head.size]),
        read_relayed_head(content, head.size // 2),
    ):
        assert relayed is not None
        for name in ("method", "target", "minor_version", "fields", "size", "body"):
            assert getattr(relayed, name) == getattr(head, name), name


def check_rewritten(data: bytes, limits: Limits) -> None:
    """Check that a request whose target names the host has that Host, once."""
    outcome = read(data, limits)
    if outcome in TOO_LARGE:
        # The Host that replaced another, or was added, may exceed the limit.
        return
    assert isinstance(outcome, RequestHead)
    authority = outcome.target.split(b"/", 3)[2].partition(b"?")[0]
    assert [value for name, value in outcome.fields if name.lower() == b"host"] == [authority]
    check_relayed(outcome, data)


def check_normalized(content: bytes) -> None:
    """Check that a normalized request is not changed a second time."""
    try:
        parse_request_head(content, NORMALIZING)
        return
    except Rejected:
        return
    except Rewritten as rewritten:
        data = rewritten.data
    head = read(data, NORMALIZING)
    if head in TOO_LARGE:
        return
    assert isinstance(head, RequestHead)
    assert same(read(data, DEFAULT), head), "not even now it would be let in"
    check_relayed(head, data)


def check_reframed(head: RequestHead) -> None:
    data = reframe(head, 7)
    again = parse_request_head(data, WIDE)
    assert again is not None
    assert again.size == len(data)
    assert again.body == 7
    assert not again.expect_continue
    for name in ("method", "target", "minor_version", "keep_alive"):
        assert getattr(again, name) == getattr(head, name), name
    others = [field for field in head.fields if field[0].lower() not in FRAMING]
    assert [*again.fields[:-1]] == others
    check_relayed(again, data)


def seeds() -> Iterator[bytes]:
    for case in load():
        if not case.large:
            yield WHOLE + case.data
    host = b"Host: a\r\n"
    fields = (
        b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
        b"Expect: 100-continue\r\nContent-Length: 1\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n",
        b"X: y\r\n z\r\n", b"X : y\r\n", b"X_Y: z\r\n", b"Host: b\r\n",
        b"X: " + b"y" * 50 + b"\r\n",
    )  # fmt: skip
    lines = (
        b"GET / HTTP/1.1", b"POST /a%20b?c=%zz HTTP/1.0", b"OPTIONS * HTTP/1.1", b"GET  / HTTP/1.1",
        b"CONNECT a:443 HTTP/1.1", b"GET http://a.example:80/?b HTTP/1.1", b"PUT /%00 HTTP/1.1",
    )  # fmt: skip
    for control in (WHOLE, BYTEWISE, b"\0\x40\x80\xff"):
        for line in lines:
            yield control + line + b"\r\n" + host + b"\r\n"
        for field in fields:
            yield control + lines[0] + b"\r\n" + host + field + b"\r\nmore"
        yield control + b"\r\n" + lines[0] + b"\r\n" + host + b"\r\n"
        yield control + lines[0] + b"\n" + host + b"\n"
        yield bytes([control[0] | GENERATED]) + control[1:] + bytes(range(0, 240, 3))
