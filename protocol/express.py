"""The frames of an express lane: PROXY v2 headers with two TLVs, for many exchanges on one socket.

A message is a PROXY v2 header that ends with exactly these two TLVs, then the payload:

    05 0008 <exchange: 8 bytes>     PP2_TYPE_UNIQUE_ID
    <kind>  0004 <length: 4 bytes>  E0 to F0 (custom TLVs), the payload's length

    front end to reactor                          payload
    E0 REQUEST    a request                       the head, and all of its body or the first bytes
    E1 FIN        the client sent FIN             none
    E2 GONE       the client is gone              none
    E3 CANCEL     cancel the app                  none
    E4 WITHDRAW   do not begin it                 none
    E5 BODY       more of the request             bytes as the client sent them
    E6 CREDIT     the front end takes more BYTES  how many: 4 bytes
    E7 GRANT      write the rest to the client    the number of its socket's duplicate: 8 bytes
    E8 RELAY      send the rest as BYTES          none
    E9 BUFFERED   the same as BODY, in a buffer   its number and the bytes in it: 4 bytes each

    reactor to front end
    E0 ANSWER_DONE  an answer, whole; the app is done          head and body
    E1 ANSWER       an answer, whole; the app still runs       head and body
    E2 DONE         the app is done                            none; of a WebSocket: its summary
    E3 WITHDRAWN    it has not begun, and never will           none
    E4 BEGIN        an answer begins                           head, and first bytes of the body
                    101: from now on both sides send bytes of a WebSocket
    E5 ASK          the same; may the reactor write the rest?  head, and first bytes of the body
    E6 BYTES        more of the answer                         bytes
    E7 END          the answer is complete                     none
    E8 ABORT        the answer is cut                          none
    E9 INTERIM      100 Continue, or 103 Early Hints           head
    EA CREDIT       the reactor takes more of BODY             how many: 4 bytes
    EB BLOCKED      the client takes no more now               bytes written so far: 8 bytes
    EC MOVES        it takes more again                        bytes written so far: 8 bytes
    ED WRITTEN      the answer is complete                     bytes written: 8 bytes
    EE GIVE_BACK    the rest comes as BYTES                    bytes written: 8 bytes
    EF PART         the same as BYTES, within a WebSocket      bytes that end within a frame
    F0 STORED       another message, with its payload in a     its kind: 1 byte; the buffer and the
                    buffer                                     bytes in it: 4 bytes each

The header of a request carries the addresses of the client and of the listener, and the TLVs of
origin.py before these two. The header of every other message is LOCAL. docs/lanes.md says when each
message is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, Final

from reactor_run.native import NATIVE, split_answers, split_requests
from reactor_run.protocol.proxy import SIGNATURE, Endpoint, encode_v2

__all__ = [
    "ABORT",
    "ANSWER",
    "ANSWER_DONE",
    "ASK",
    "BEGIN",
    "BLOCKED",
    "BODY",
    "BUFFERED",
    "BYTES",
    "CANCEL",
    "CREDIT_FOR_ANSWER",
    "CREDIT_FOR_BODY",
    "DONE",
    "END",
    "EXPRESS_MAX",
    "FIN",
    "GIVE_BACK",
    "GONE",
    "GRANT",
    "INTERIM",
    "MOVES",
    "PART",
    "PIECE_MAX",
    "RELAY",
    "REQUEST",
    "STORED",
    "WINDOW",
    "WITHDRAW",
    "WITHDRAWN",
    "WRITTEN",
    "WRITTEN_MIN",
    "FrameError",
    "judge_answers",
    "judge_requests",
    "pack_buffered",
    "pack_count",
    "pack_message",
    "pack_number",
    "pack_request",
    "pack_stored",
    "pack_written",
    "read_answers",
    "read_buffered",
    "read_count",
    "read_number",
    "read_requests",
    "read_stored",
    "read_written",
    "request_prefix",
]

EXPRESS_MAX: Final = 81920
"""Most bytes of a whole answer in one message, if a grant may be had: of 64 KiB and its head.

Beyond about 100 KB a grant costs less than the copies do. An answer that must be relayed may have
PIECE_MAX."""
PIECE_MAX: Final = 131072
"""Most bytes of a whole request in one message, of a whole answer that must be relayed, and of one
piece of a longer request or answer.

An app gets one message for each piece of a body, so large pieces cost less. It is half of WINDOW,
so that one can be on its way while the app takes another."""
_PAYLOAD_MAX: Final = 1 << 26
"""Most bytes of a payload. A head in front of the first piece of a body makes it longer, and
`--limit-head-size` may be large."""
WRITTEN_MIN: Final = 16384
"""Least bytes of a whole answer that a reactor writes to the client, if it has an offer for that.

To write a smaller one costs as much in the reactor as it spares in the front end."""
WINDOW: Final = 262144
"""The bytes of BODY or of BYTES that one exchange may send before it gets CREDIT."""

REQUEST: Final = 0xE0
FIN: Final = 0xE1
GONE: Final = 0xE2
CANCEL: Final = 0xE3
WITHDRAW: Final = 0xE4
BODY: Final = 0xE5
CREDIT_FOR_ANSWER: Final = 0xE6
GRANT: Final = 0xE7
RELAY: Final = 0xE8
BUFFERED: Final = 0xE9

ANSWER_DONE: Final = 0xE0
ANSWER: Final = 0xE1
DONE: Final = 0xE2
WITHDRAWN: Final = 0xE3
BEGIN: Final = 0xE4
ASK: Final = 0xE5
BYTES: Final = 0xE6
END: Final = 0xE7
ABORT: Final = 0xE8
INTERIM: Final = 0xE9
CREDIT_FOR_BODY: Final = 0xEA
BLOCKED: Final = 0xEB
MOVES: Final = 0xEC
WRITTEN: Final = 0xED
GIVE_BACK: Final = 0xEE
PART: Final = 0xEF
STORED: Final = 0xF0

_TLVS: Final = Struct("!BHQBHI")
_START: Final = Struct("!13sxH")
_STARTS: Final = frozenset((SIGNATURE + b"\x20", SIGNATURE + b"\x21"))
"""The first bytes of a message to a reactor: LOCAL or PROXY."""
_LOCAL: Final = Struct("!19sQBHI")
_LOCAL_START: Final = Struct("!12sBBHBH").pack(SIGNATURE, 0x20, 0, 18, 5, 8)
"""The first bytes of a LOCAL message, up to the number of the exchange."""
_LOCAL_SIZE: Final = _LOCAL.size
_STORED: Final = Struct("!BII")
_MAY_BE_STORED: Final = frozenset((ANSWER_DONE, ANSWER, BYTES))
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


if TYPE_CHECKING or not NATIVE:

    def pack_request(prefix: bytes, exchange: int, size: int, /) -> bytes:
        """Return the frame before a request of `size` bytes."""
        return prefix + _pack_tlvs(5, 8, exchange, REQUEST, 4, size)

    def pack_message(exchange: int, kind: int, size: int = 0, /) -> bytes:
        """Return the frame before any other message; its payload has `size` bytes."""
        return _pack_local(_LOCAL_START, exchange, kind, 4, size)

else:
    from reactor_run.protocol._frames import pack_message, pack_request


def pack_count(exchange: int, kind: int, count: int) -> bytes:
    """Return a whole message of one of the CREDIT kinds."""
    return _pack_local(_LOCAL_START, exchange, kind, 4, 4) + count.to_bytes(4, "big")


def pack_number(exchange: int, kind: int, number: int) -> bytes:
    """Return a whole message whose payload is a number of 8 bytes."""
    return _pack_local(_LOCAL_START, exchange, kind, 4, 8) + number.to_bytes(8, "big")


def pack_written(exchange: int, kind: int, size: int, head: bytes) -> bytes:
    """Return a whole message of one of the ANSWER kinds, about an answer of `size` bytes that the
    reactor has written to the client. `head`: its head."""
    return b"".join((pack_message(exchange, kind, 8 + len(head)), size.to_bytes(8, "big"), head))


def read_count(payload: bytes) -> int:
    """Return the number in a payload of 4 bytes. Raises FrameError."""
    if len(payload) != 4:
        raise FrameError("a count has 4 bytes")
    return int.from_bytes(payload, "big")


def read_number(payload: bytes) -> int:
    """Return the number in a payload of 8 bytes. Raises FrameError."""
    if len(payload) != 8:
        raise FrameError("a number has 8 bytes")
    return int.from_bytes(payload, "big")


def pack_buffered(exchange: int, buffer: int, size: int) -> bytes:
    """Return a whole BUFFERED message: `size` bytes are in a buffer."""
    return pack_number(exchange, BUFFERED, buffer << 32 | size)


def read_buffered(payload: bytes) -> tuple[int, int]:
    """Return the number of the buffer and the bytes in it. Raises FrameError."""
    both = read_number(payload)
    return both >> 32, both & 0xFFFFFFFF


def pack_stored(exchange: int, kind: int, buffer: int, size: int) -> bytes:
    """Return a whole STORED message: a payload of `size` bytes is in a buffer."""
    return pack_message(exchange, STORED, 9) + _STORED.pack(kind, buffer, size)


def read_stored(payload: bytes) -> tuple[int, int, int]:
    """Return the kind of the message, the number of the buffer and the bytes in it. Raises
    FrameError."""
    if len(payload) != _STORED.size or payload[0] not in _MAY_BE_STORED:
        raise FrameError("no message that may be in a buffer")
    kind, buffer, size = _STORED.unpack(payload)
    return kind, buffer, size


def read_written(payload: bytes) -> tuple[int, bytes]:
    """Return what an ANSWER or ANSWER_DONE says of an answer that the reactor has written to the
    client: its bytes, and its head. Raises FrameError."""
    if len(payload) < 20:
        raise FrameError("neither a size nor a status line")
    return int.from_bytes(payload[:8], "big"), payload[8:]


def read_requests(data: bytes | memoryview) -> tuple[list[tuple[int, int, bytes, bytes]], int]:
    """Return all whole messages to a reactor in `data`, and the bytes they took.

    A message is (exchange, kind, prefix, payload). The prefix is the header without its two TLVs,
    which is the same for each request of a client connection. Raises FrameError.
    """
    return split_requests(data) or judge_requests(bytes(data))


def judge_requests(data: bytes) -> tuple[list[tuple[int, int, bytes, bytes]], int]:
    """Do what `read_requests` does, in Python: the authority on frames. Raises FrameError."""
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
        if unique_id != 5 or id_size != 8 or size_size != 4 or not REQUEST <= kind <= BUFFERED:
            raise FrameError("the two TLVs are not there")
        if size > _PAYLOAD_MAX:
            raise FrameError(f"a payload of {size} bytes")
        after = payload + size
        if after > end:
            break
        messages.append((exchange, kind, data[at:tlvs], data[payload:after]))
        at = after
    return messages, at


def read_answers(data: bytes | memoryview) -> tuple[list[tuple[int, int, bytes]], int]:
    """Return all whole messages to the front end in `data`, and the bytes they took.

    A message is (exchange, kind, payload). Raises FrameError.
    """
    return split_answers(data) or judge_answers(bytes(data))


def judge_answers(data: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """Do what `read_answers` does, in Python: the authority on frames. Raises FrameError."""
    messages = []
    at = 0
    end = len(data)
    unpack = _LOCAL.unpack_from
    while end - at >= _LOCAL_SIZE:
        start, exchange, kind, size_size, size = unpack(data, at)
        if start != _LOCAL_START or size_size != 4 or not ANSWER_DONE <= kind <= STORED:
            raise FrameError("not a message of an express lane")
        if size > _PAYLOAD_MAX:
            raise FrameError(f"a payload of {size} bytes")
        payload = at + _LOCAL_SIZE
        after = payload + size
        if after > end:
            break
        messages.append((exchange, kind, data[payload:after]))
        at = after
    return messages, at
