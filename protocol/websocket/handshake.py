"""The opening handshake, server side (RFC 6455 §4.2).

    the request has                                    else
    GET, HTTP/1.1, no body, `Connection: Upgrade`,     it is plain HTTP (`wants_websocket`)
    `Upgrade: websocket`
    Sec-WebSocket-Version: 13                          426, with the version that we speak (§4.4)
    one Host                                           400
    one Sec-WebSocket-Key, 16 bytes in base64          400
    Sec-WebSocket-Protocol: tokens, if any             400
    Sec-WebSocket-Extensions by its grammar, if any    400 (§9.1)

Origin is the app's affair (§10.2).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from hashlib import sha1
from typing import Final

from reactor_run.protocol.fields import QUOTED, TOKEN
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.response import HEAD_MAX, ResponseError, encode_field_lines, shown
from reactor_run.protocol.websocket.deflate import DeflateParameters, Offer

__all__ = ["Handshake", "HandshakeError", "encode_accept", "read_handshake", "wants_websocket"]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = b"13"
_KEY_BYTES: Final = 16

_UPGRADE: Final = (b"upgrade",)
_TOKEN: Final = re.compile(TOKEN)
_PARAMETER: Final = re.compile(
    rb"[\t ]*+;[\t ]*+(" + TOKEN + rb")(?:[\t ]*+=[\t ]*+(?:(" + TOKEN + rb")|(" + QUOTED + rb")))?"
)
_COMMA: Final = re.compile(rb"[\t ]*+(?:,[\t ,]*+|\Z)")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


class HandshakeError(Exception):
    """A request for a WebSocket that cannot be met: the answer's status, and why.

    fields: those that the answer must have.
    """

    def __init__(
        self, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class Handshake:
    """A request for a WebSocket that can be accepted.

    key: Sec-WebSocket-Key, as sent. subprotocols: in the client's order of preference. offers: the
    extensions, likewise.
    """

    __slots__ = ("key", "offers", "subprotocols")

    def __init__(self, key: bytes, subprotocols: list[str], offers: list[Offer]) -> None:
        self.key = key
        self.subprotocols = subprotocols
        self.offers = offers


def wants_websocket(head: RequestHead) -> bool:
    """Whether a request asks for a WebSocket (§4.2.1, items 1, 3 and 4).

    A request with a body does not: its connection cannot change the protocol before the body ends.
    """
    if head.method != b"GET" or head.minor_version != 1 or head.body:
        return False
    if not head.values(_UPGRADE)[0]:
        return False
    upgrade = connection = False
    for name, value in head.fields:
        lower = name.lower()
        if lower == b"upgrade":
            upgrade = upgrade or b"websocket" in _options(value)
        elif lower == b"connection":
            connection = connection or b"upgrade" in _options(value)
    return upgrade and connection


def _options(value: bytes) -> list[bytes]:
    return [option.strip(b" \t") for option in value.lower().split(b",")]


def read_handshake(head: RequestHead) -> Handshake:
    """Read a request for which `wants_websocket` is true. Raises `HandshakeError`."""
    hosts = 0
    keys: list[bytes] = []
    versions: list[bytes] = []
    subprotocols: list[str] = []
    offers: list[Offer] = []
    for name, value in head.fields:
        lower = name.lower()
        if lower == b"host":
            hosts += 1
        elif not lower.startswith(b"sec-websocket-"):
            continue
        elif lower == b"sec-websocket-key":
            keys.append(value)
        elif lower == b"sec-websocket-version":
            versions.append(value)
        elif lower == b"sec-websocket-protocol":
            subprotocols += _read_subprotocols(value)
        elif lower == b"sec-websocket-extensions":
            offers += _read_offers(value)
    if versions != [_VERSION]:
        fields = ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket"))
        raise HandshakeError(426, "only version 13 of WebSocket is spoken here", fields)
    if hosts != 1:
        raise HandshakeError(400, "a request for a WebSocket has one Host field")
    if len(keys) != 1:
        raise HandshakeError(400, "a request for a WebSocket has one Sec-WebSocket-Key field")
    if not _is_key(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return Handshake(keys[0], subprotocols, offers)


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except Base64Error:
        return False


def _read_subprotocols(value: bytes) -> list[str]:
    """Read one Sec-WebSocket-Protocol field (§4.1, item 10). Raises `HandshakeError`."""
    names = [name for part in value.split(b",") if (name := part.strip(b" \t"))]
    if not all(_TOKEN.fullmatch(name) for name in names):
        raise HandshakeError(400, "Sec-WebSocket-Protocol is not a list of tokens")
    return [name.decode("ascii") for name in names]


def _read_offers(value: bytes) -> list[Offer]:
    """Read one Sec-WebSocket-Extensions field (§9.1). Raises `HandshakeError`."""
    offers: list[Offer] = []
    at = _end_of(_COMMA.match(value)) if value[:1] in (b",", b" ", b"\t") else 0
    while at < len(value):
        name = _TOKEN.match(value, at)
        at = _end_of(name)
        assert name is not None
        parameters: list[tuple[str, str | None]] = []
        while (parameter := _PARAMETER.match(value, at)) is not None:
            at = parameter.end()
            word, plain, quoted = parameter.groups()
            if quoted is not None:
                plain = _ESCAPE.sub(rb"\1", quoted[1:-1])
                if _TOKEN.fullmatch(plain) is None:
                    raise _bad_extensions()
            parameters.append((word.decode(), None if plain is None else plain.decode()))
        at = _end_of(_COMMA.match(value, at))
        offers.append((name[0].decode(), tuple(parameters)))
    return offers


def _end_of(match: re.Match[bytes] | None) -> int:
    if match is None:
        raise _bad_extensions()
    return match.end()


def _bad_extensions() -> HandshakeError:
    return HandshakeError(400, "Sec-WebSocket-Extensions is malformed")


def encode_accept(
    handshake: Handshake,
    *,
    subprotocol: str | None,
    fields: Iterable[tuple[bytes, bytes]],
    deflate: DeflateParameters | None,
    date_field: bytes,
    own_fields: OwnFields,
) -> bytes:
    """Return the 101 that accepts a handshake (§4.2.2), its empty line included.

    `subprotocol`: one that the client has offered. `fields`: the app's. Those of the framing and of
    the connection, Date and Server are dropped, as in early hints. `date_field`, `own_fields`: as
    in `encode_response_head`. Raises `ResponseError`.
    """
    if subprotocol is not None and subprotocol not in handshake.subprotocols:
        raise ResponseError(f"the client has not offered the subprotocol {shown(subprotocol)}")
    given = tuple(fields)
    lines = encode_field_lines(given)
    names = [name.lower() for name, _ in given]
    for name in names:
        if name.startswith(b"sec-websocket-"):
            raise ResponseError(f"the server itself sets {name.decode()}")
    accept = b64encode(sha1(handshake.key + _GUID).digest())
    pieces = [
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
        accept,
    ]
    if subprotocol is not None:
        pieces += (b"\r\nsec-websocket-protocol: ", subprotocol.encode())
    if deflate is not None:
        pieces += (b"\r\nsec-websocket-extensions: ", deflate.encode())
    pieces += lines
    pieces += (
        b"\r\n",
        date_field if own_fields.dated else b"",
        own_fields.server,
        own_fields.lines_beside(names),
        b"\r\n",
    )
    head = b"".join(pieces)
    if len(head) > HEAD_MAX:
        raise ResponseError(f"the fields make a head of more than {HEAD_MAX} bytes")
    return head
