"""The frames of an express lane: PROXY v2 headers with two TLVs, for many exchanges on one socket.

A message is a PROXY v2 header that ends with exactly these two TLVs, then the payload:

    05 0008 <exchange: 8 bytes>     PP2_TYPE_UNIQUE_ID
    <kind>  0004 <length: 4 bytes>  E0 to E4 (from PP2_TYPE_MIN_CUSTOM on), the payload's length

    front end to reactor            reactor to front end
    E0  a request, whole            E0  an answer, whole; the app is done
    E1  empty: the client sent FIN  E1  an answer, whole; the app still runs
    E2  empty: the client is gone   E2  empty: the app is done; its answer came before, or on a lane
    E3  empty: cancel the app       E3  empty: the exchange has not begun, and never will
    E4  empty: do not begin it

The header of a request carries the addresses of the client and of the listener, and the TLVs of
origin.py before these two. The header of every other message is LOCAL.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from reactor_run.protocol.proxy import SIGNATURE, Endpoint, encode_v2

__all__ = [
    "ANSWER",
    "ANSWER_DONE",
    "CANCEL",
    "DONE",
    "EXPRESS_MAX",
    "FIN",
    "GONE",
    "REQUEST",
    "WITHDRAW",
    "WITHDRAWN",
    "FrameError",
    "pack_message",
    "pack_request",
    "read_answers",
    "read_requests",
    "request_prefix",
]

EXPRESS_MAX: Final = 65536
"""Most bytes of a request or of an answer on the express lane."""

REQUEST: Final = 0xE0
FIN: Final = 0xE1
GONE: Final = 0xE2
CANCEL: Final = 0xE3
WITHDRAW: Final = 0xE4

ANSWER_DONE: Final = 0xE0
ANSWER: Final = 0xE1
DONE: Final = 0xE2
WITHDRAWN: Final = 0xE3

_TLVS: Final = Struct("!BHQBHI")
_START: Final = Struct("!13sxH")
_STARTS: Final = frozenset((SIGNATURE + b"\x20", SIGNATURE + b"\x21"))
"""The first bytes of a message to a reactor: LOCAL or PROXY."""
_LOCAL: Final = Struct("!19sQBHI")
_LOCAL_START: Final = Struct("!12sBBHBH").pack(SIGNATURE, 0x20, 0, 18, 5, 8)
"""The first bytes of a LOCAL message, up to the number of the exchange."""
_LOCAL_SIZE: Final = _LOCAL.size
_pack_local = _LOCAL.pack
_pack_tlvs = _TLVS.pack


class FrameError(Exception):
    """The peer on the express lane broke its framing. No later byte on the lane can be used."""


def request_prefix(
    source: Endpoint | None,
    destination: Endpoint | None,
    tlvs: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """Return the first bytes of every request of one client connection. Call it once per
    connection."""
    header = bytearray(encode_v2(source, destination, tlvs))
    length = int.from_bytes(header[14:16], "big") + _TLVS.size
    header[14:16] = length.to_bytes(2, "big")
    return bytes(header)


def pack_request(prefix: bytes, exchange: int, size: int) -> bytes:
    """Return the frame before a request of `size` bytes."""
    return prefix + _pack_tlvs(5, 8, exchange, REQUEST, 4, size)


def pack_message(exchange: int, kind: int, size: int = 0) -> bytes:
    """Return the frame before any other message; its payload has `size` bytes."""
    return _pack_local(_LOCAL_START, exchange, kind, 4, size)


def read_requests(data: bytes) -> tuple[list[tuple[int, int, bytes, bytes]], int]:
    """Return all whole messages to a reactor in `data`, and the bytes they took.

    A message is (exchange, kind, prefix, payload). The prefix is the header without its two TLVs,
    which is the same for each request of a client connection. Raises FrameError.
    """
    messages = []
    at = 0
    end = len(data)
    unpack_start = _START.unpack_from
    unpack_tlvs = _TLVS.unpack_from
    while end - at >= _LOCAL_SIZE:
        start, length = unpack_start(data, at)
        if start not in _STARTS or length < 18:
            raise FrameError("not a PROXY v2 header")
        tlvs = at + length - 2
        payload = tlvs + 18
        if payload > end:
            break
        unique_id, id_size, exchange, kind, size_size, size = unpack_tlvs(data, tlvs)
        if unique_id != 5 or id_size != 8 or size_size != 4 or not 0xE0 <= kind <= 0xE4:
            raise FrameError("the two TLVs are not there")
        if size > EXPRESS_MAX:
            raise FrameError(f"a payload of {size} bytes")
        after = payload + size
        if after > end:
            break
        messages.append((exchange, kind, data[at:tlvs], data[payload:after]))
        at = after
    return messages, at


def read_answers(data: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """Return all whole messages to the front end in `data`, and the bytes they took.

    A message is (exchange, kind, payload). Raises FrameError.
    """
    messages = []
    at = 0
    end = len(data)
    unpack = _LOCAL.unpack_from
    while end - at >= _LOCAL_SIZE:
        start, exchange, kind, size_size, size = unpack(data, at)
        if start != _LOCAL_START or size_size != 4 or not 0xE0 <= kind <= 0xE3:
            raise FrameError("not a message of an express lane")
        payload = at + _LOCAL_SIZE
        after = payload + size
        if after > end:
            break
        messages.append((exchange, kind, data[payload:after]))
        at = after
    return messages, at
