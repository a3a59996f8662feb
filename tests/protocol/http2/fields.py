"""Field lists of requests, and what their heads of HTTP/1.1 must say."""

from __future__ import annotations

from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.http2.request_head import Malformed, translate_request_head
from reactor_run.protocol.policy import Limits, Rejected
from reactor_run.protocol.request import Rewritten, parse_request_head

__all__ = ["ANY_SIZE", "CONNECT", "GET", "NAMES", "PIECES", "VALUES", "check_head"]

GET = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/a?b"),
    (b":authority", b"a.example"),
]
CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":path", b"/chat"),
    (b":authority", b"a.example"),
]
ANY_SIZE = Limits(1 << 20, 256, 1 << 20, 1 << 24, 0, "pass")

NAMES = [
    *(b":method", b":path", b":authority", b":scheme", b":protocol", b"cookie", b"host", b"te"),
    *(b"content-length", b"connection", b"transfer-encoding", b"upgrade", b"x", b"expect"),
    *(b"sec-websocket-key", b"accept", b"content-type", b"trailer", b"x_y", b"http2-settings"),
]
VALUES = [
    *(b"5", b"0", b"a.example", b"websocket", b"CONNECT", b"GET", b"trailers", b"chunked", b"/"),
    *(b"*", b"100-continue", b"b", b"a=b", b""),
]
PIECES = [
    *(b"a", b"A", b":", b" ", b"\r", b"\n", b"\r\n", b"\0", b"\t", b"\xff", b"0", b"/", b"-", b","),
    *(b"x: y", b"\r\n\r\n", b"chunked", b"GET", b"%2f", b"[", b"*", b"?", b"#", b"@", b";", b"="),
]


def check_head(fields: list[tuple[bytes, bytes]], ended: bool, size: int | None) -> None:
    """Check that the head has exactly these fields, unless they are malformed or rejected."""
    try:
        head = translate_request_head(tuple(fields), ended, size)
    except Malformed:
        return
    assert head.data.index(b"\r\n\r\n") == len(head.data) - 4
    try:
        parsed = parse_request_head(head.data, ANY_SIZE)
    except (Rejected, Rewritten):
        return
    assert parsed is not None
    assert parsed.size == len(head.data)
    given = dict(fields)
    assert parsed.method == (b"GET" if head.tunnel else given[b":method"])
    assert parsed.target == given[b":path"]
    read = [(name.lower(), value) for name, value in parsed.fields]
    host = given.get(b"host", given.get(b":authority", b""))
    assert [value for name, value in read if name == b"host"] == [host]
    wanted = [
        (name, value.strip(b" \t"))
        for name, value in fields
        if name[:1] != b":" and name not in (b"host", b"cookie")
    ]
    cookies = [value for name, value in fields if name == b"cookie"]
    if cookies:
        wanted.append((b"cookie", b"; ".join(cookies).strip(b" \t")))
    if head.chunked:
        wanted.append((b"transfer-encoding", b"chunked"))
    if head.length >= 0 and b"content-length" not in given:
        wanted.append((b"content-length", b"%d" % head.length))
    if head.tunnel:
        wanted = [(name, value) for name, value in wanted if name != b"sec-websocket-key"]
        wanted += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
        wanted.append((b"sec-websocket-key", b"A" * 22 + b"=="))
        assert parsed.upgrade
    assert sorted(each for each in read if each[0] != b"host") == sorted(wanted)
    assert parsed.body == (CHUNKED if head.chunked else max(head.length, 0))
