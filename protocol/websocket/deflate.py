"""permessage-deflate: the payload of a message, compressed (RFC 7692 §7).

Negotiation. The client offers the extension, once or several times, in the order of its preference.
The first offer that is valid and can be met is accepted; the others are declined (§5.1, §7.1).

    parameter                    in an offer                  in our answer
    server_no_context_takeover   we must not keep a window    as in the offer
    client_no_context_takeover   a hint                       as in the offer; also if the client
                                                              does not let us bound its window
    server_max_window_bits=N     we must not use a larger     ours, never above N
                                 window
    client_max_window_bits[=N]   the client can bound its     ours, never above N; only if it was
                                 window, or does so           offered (§7.1.2.2)

Memory. A window costs memory for as long as the connection lives, so both windows are small by
default. zlib's objects are created with the first message that needs one, and dropped after each
message if the context is not taken over.

    window_bits, mem_level    memory    ratio: JSON of 4.6 KB, of 115 bytes    compressing 4.6 KB
    9, 3                      20.3 KiB  4.76, 2.73                             71 µs
    10, 2 (default)           20.8 KiB  4.73, 3.00                             93 µs
    10, 4                     26.8 KiB  5.14, 3.00                             77 µs
    12, 5                     49.8 KiB  5.07, 3.30                             86 µs
    15, 8                      302 KiB  5.18, 3.50
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = [
    "MEM_LEVEL",
    "NAME",
    "WINDOW_BITS",
    "DeflateParameters",
    "InflateError",
    "Offer",
    "PerMessageDeflate",
    "negotiate",
]

NAME: Final = "permessage-deflate"

Offer = tuple[str, tuple[tuple[str, str | None], ...]]
"""An extension that a client offers: its name, and its parameters with their values (§9.1 of RFC
6455)."""

WINDOW_BITS: Final = 10
MEM_LEVEL: Final = 2
"""With these two a connection takes 21 KiB: 12 to compress and 9 to inflate."""

_LEVEL: Final = 6
_TAIL: Final = b"\x00\x00\xff\xff"
"""What ends each message, and is not sent (§7.2.1)."""
_LAST_BLOCK: Final = b"\x01\x00\x00\xff\xff"
"""An empty block that ends a stream. It is read as one only after the end of another block."""
_STREAMS_MAX: Final = 64
"""Most times that a client may end its DEFLATE stream within one message (§7.2.3.5). One of them is
usual. Each costs a new object of 7 KiB."""

_BITS: Final = {str(bits): bits for bits in range(8, 16)}
_BITS_MIN: Final = 9
"""zlib compresses with no smaller window."""
_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")


class InflateError(Exception):
    """A compressed payload is malformed."""


class DeflateParameters(NamedTuple):
    """What client and server have agreed on (RFC 7692 §7.1)."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    """15 if the client did not say that it can bound its window."""
    mem_level: int

    def encode(self) -> bytes:
        """Return the value of Sec-WebSocket-Extensions in the answer."""
        text = NAME
        if self.server_no_context_takeover:
            text += "; server_no_context_takeover"
        if self.client_no_context_takeover:
            text += "; client_no_context_takeover"
        if self.server_max_window_bits < 15:
            text += f"; server_max_window_bits={self.server_max_window_bits}"
        if self.client_max_window_bits < 15:
            text += f"; client_max_window_bits={self.client_max_window_bits}"
        return text.encode()


def negotiate(
    offers: Iterable[Offer], *, window_bits: int = WINDOW_BITS, mem_level: int = MEM_LEVEL
) -> DeflateParameters | None:
    """Return what is agreed on; None if no offer can be met.

    `window_bits`: 9 to 15, of both windows at most. `mem_level`: 1 to 9, for zlib's compressor.
    """
    for name, parameters in offers:
        if name == NAME:
            agreed = _meet(parameters, window_bits, mem_level)
            if agreed is not None:
                return agreed
    return None


def _meet(
    parameters: tuple[tuple[str, str | None], ...], window_bits: int, mem_level: int
) -> DeflateParameters | None:
    """Return how one offer can be met; None if it is invalid (§7.1) or cannot."""
    offered = dict(parameters)
    if len(offered) < len(parameters):
        return None
    flags = [flag in offered for flag in _FLAGS]
    if any(offered.pop(flag, None) is not None for flag in _FLAGS):
        return None
    ours = theirs = 15
    bounds_its_window = "client_max_window_bits" in offered
    for name, value in offered.items():
        bits = _BITS.get(value) if value is not None else None
        if name == "server_max_window_bits" and bits is not None:
            ours = bits
        elif name == "client_max_window_bits" and (value is None or bits is not None):
            theirs = bits or 15
        else:
            return None
    if ours < _BITS_MIN:
        return None
    forgets = flags[1]
    if bounds_its_window:
        theirs = min(theirs, window_bits)
    elif window_bits < 15:
        forgets = True
    return DeflateParameters(flags[0], forgets, min(ours, window_bits), theirs, mem_level)


class PerMessageDeflate:
    """Compresses the messages of a server and inflates those of its client."""

    __slots__ = ("_deflater", "_inflater", "_parameters", "_streams")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._parameters = parameters
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._streams = 0
        """How often the client has ended its stream in this message."""

    def compress(self, message: bytes) -> bytes:
        """Return the payload of a message (§7.2.1)."""
        deflater = self._deflater
        parameters = self._parameters
        if deflater is None:
            deflater = zlib.compressobj(
                _LEVEL, zlib.DEFLATED, -parameters.server_max_window_bits, parameters.mem_level
            )
            if not parameters.server_no_context_takeover:
                self._deflater = deflater
        payload = deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return payload[:-4]

    def inflate(self, payload: bytes, room: int) -> bytes:
        """Return what a piece of a payload holds (§7.2.2), at most `room` + 1 bytes.

        If it is more than `room`, the message is too big, and this must not be used again. Raises
        `InflateError` if the payload is malformed.
        """
        inflater = self._inflater
        if inflater is None:
            inflater = self._new_inflater()
        try:
            content = inflater.decompress(payload, room + 1)
            while inflater.eof and len(content) <= room:
                # The stream has ended, and another one may follow it (§7.2.3.5).
                self._streams += 1
                if self._streams > _STREAMS_MAX:
                    raise InflateError
                payload = inflater.unused_data
                inflater = self._new_inflater()
                content += inflater.decompress(payload, room + 1 - len(content))
        except zlib.error:
            raise InflateError from None
        return content

    def end_message(self, room: int) -> bytes:
        """Return what the end of a payload still holds, as `inflate` does.

        Raises `InflateError`, too, if the payload has ended within a block.
        """
        content = self.inflate(_TAIL, room)
        inflater = self._inflater
        assert inflater is not None
        self._streams = 0
        if self._parameters.client_no_context_takeover:
            self._inflater = None
        else:
            inflater = inflater.copy()
        if len(content) <= room:
            try:
                inflater.decompress(_LAST_BLOCK)
            except zlib.error:
                raise InflateError from None
            if not inflater.eof:
                raise InflateError
        return content

    def _new_inflater(self) -> zlib._Decompress:
        self._inflater = inflater = zlib.decompressobj(-self._parameters.client_max_window_bits)
        return inflater
