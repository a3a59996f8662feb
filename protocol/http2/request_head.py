"""The head of an HTTP/2 request as a head of HTTP/1.1, for reactors and for the policy.

A byte that changes where a field or the head ends would be an injection. So each name, each value
and each pseudo-header field is checked here, whatever the library has checked (RFC 9113 §8.2.1,
§10.3). The limits, the path policy and all else are judged afterwards by parse_request_head.

The translator in C (_http2.c) is asked first. It takes the common case, with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from reactor_run.native import write_request
from reactor_run.protocol.fields import TOKEN
from reactor_run.protocol.names import FieldNameCache
from reactor_run.protocol.response import LENGTH_DIGITS

__all__ = ["Malformed", "TranslatedHead", "translate_fields", "translate_request_head"]

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]++")
"""A name in lower case (RFC 9113 §8.2.1, RFC 9110 §5.6.2)."""
_METHOD: Final = re.compile(TOKEN)
_TARGET: Final = re.compile(rb"(?:/[!-~\x80-\xff]*+|\*)")
"""No space, no control character; in origin form or asterisk form (RFC 9113 §8.3.1)."""
_AUTHORITY: Final = re.compile(rb"[!-~]++")
_USUAL_SCHEMES: Final = (b"https", b"http")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+")

# What a name means here. METHOD to PROTOCOL are places in the list of pseudo-header fields.
METHOD, PATH, AUTHORITY, SCHEME, PROTOCOL, PLAIN, COOKIE, HOST, TE, LENGTH, REFUSED = range(11)

_MEANINGS: Final = {
    b":method": METHOD,
    b":path": PATH,
    b":authority": AUTHORITY,
    b":scheme": SCHEME,
    b":protocol": PROTOCOL,
    b"cookie": COOKIE,
    b"host": HOST,
    b"te": TE,
    b"content-length": LENGTH,
    # Those of a connection (RFC 9113 §8.2.2).
    b"connection": REFUSED,
    b"keep-alive": REFUSED,
    b"proxy-connection": REFUSED,
    b"transfer-encoding": REFUSED,
    b"upgrade": REFUSED,
}
_WEBSOCKET: Final = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
"""What a WebSocket handshake of HTTP/1.1 has and one of HTTP/2 has not. The key has no meaning
there (RFC 8441 §5.1)."""
_TUNNEL_LINES: Final = 3


class Malformed(Exception):
    """The request is malformed: its stream is reset with PROTOCOL_ERROR (RFC 9113 §8.1.1)."""


class TranslatedHead(NamedTuple):
    """A head of HTTP/1.1.

    data: its bytes, with the empty line. method: of the request.
    length: its Content-Length; -1: it has none. chunked: its body must be sent in chunks.
    tunnel: it opens a WebSocket (RFC 8441).
    """

    data: bytes
    method: bytes
    length: int
    chunked: bool
    tunnel: bool


def translate_request_head(
    fields: Sequence[tuple[bytes, bytes]], ended: bool, size: int | None = None
) -> TranslatedHead:
    """Return the head of HTTP/1.1 for a request with these fields.

    `ended`: no content follows that has not arrived. `size`: how many bytes have arrived; None: the
    request has no body. Raises Malformed.
    """
    head = write_request(fields, ended, size)
    if head is not None:
        return tuple.__new__(TranslatedHead, head)
    return translate_fields(fields, ended, size)


def translate_fields(
    fields: Sequence[tuple[bytes, bytes]], ended: bool, size: int | None = None
) -> TranslatedHead:
    """Do the same without the translator in C."""
    pseudo = [b""] * 5
    lines: list[bytes] = []
    cookies: list[bytes] = []
    hosts: list[bytes] = []
    length = -1
    for name, value in fields:
        meaning = _meanings[name]
        if meaning == PLAIN:
            lines += (name, value)
        elif meaning < PLAIN:
            if pseudo[meaning] or lines or cookies or hosts or not value:
                raise Malformed("a pseudo-header field is empty, repeated or late")
            pseudo[meaning] = value
        elif meaning == COOKIE:
            cookies.append(value)
        elif meaning == HOST:
            hosts.append(value)
        elif meaning == LENGTH:
            if length >= 0 or not value.isdigit() or len(value) > LENGTH_DIGITS:
                raise Malformed("content-length is repeated, or no number")
            length = int(value)
            lines += (name, value)
        elif meaning == TE and value.lower() == b"trailers":
            # Apps send trailers only to those who ask for them.
            lines += (name, value)
        else:
            raise Malformed("a field of the connection")
    method, target, authority, tunnel = _start(pseudo, hosts)
    if cookies:
        # Clients split them (RFC 9113 §8.2.3).
        lines += (b"cookie", cookies[0] if len(cookies) == 1 else b"; ".join(cookies))
    chunked = False
    if tunnel:
        if length >= 0:
            raise Malformed("a WebSocket has no content-length")
        while b"sec-websocket-key" in lines[::2]:
            # Some proxies leave it there.
            at = 2 * lines[::2].index(b"sec-websocket-key")
            del lines[at : at + 2]
    elif length >= 0:
        if length < (size or 0) or (ended and length > (size or 0)):
            raise Malformed("content-length is not the size of the content")
    elif not ended:
        chunked = True
        lines += (b"transfer-encoding", b"chunked")
    elif size is not None:
        length = size
        lines += (b"content-length", b"%d" % size)
    count = len(lines) // 2
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (
        method,
        target,
        authority,
        b"%b: %b\r\n" * count % tuple(lines),
        _WEBSOCKET if tunnel else b"",
    )
    ends = count + 3 + (_TUNNEL_LINES if tunnel else 0)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise Malformed("a character that no value may have")
    return TranslatedHead(head, method, length, chunked, tunnel)


def _meaning(name: bytes) -> int:
    """Return what a name means. Raises Malformed."""
    meaning = _MEANINGS.get(name)
    if meaning is None:
        if _NAME.fullmatch(name) is None:
            raise Malformed("a character that no name may have, or an unknown pseudo-header field")
        return PLAIN
    return meaning


_meanings: Final = FieldNameCache(_meaning)


def _start(pseudo: list[bytes], hosts: list[bytes]) -> tuple[bytes, bytes, bytes, bool]:
    """Return method, target, authority, and whether it opens a WebSocket. Raises Malformed."""
    method, target, authority, scheme, protocol = pseudo
    if hosts:
        if len(hosts) > 1 or (authority and hosts[0].lower() != authority.lower()):
            raise Malformed("host is repeated, or differs from :authority")
        authority = hosts[0]
    if _METHOD.fullmatch(method) is None or (authority and not _AUTHORITY.fullmatch(authority)):
        raise Malformed("no method, or a character that no authority may have")
    if scheme not in _USUAL_SCHEMES and scheme and not _SCHEME.fullmatch(scheme):
        raise Malformed("a character that no scheme may have")
    tunnel = protocol.lower() == b"websocket"
    if method == b"CONNECT" and not tunnel:
        # Neither a proxy nor another protocol is offered. The policy answers CONNECT with 501.
        return method, authority or b"*", authority, False
    if not scheme or _TARGET.fullmatch(target) is None or (tunnel and method != b"CONNECT"):
        raise Malformed("no path, no scheme, or a protocol without CONNECT")
    return (b"GET" if tunnel else method), target, authority, tunnel
