"""A WebSocket after its handshake, server side (RFC 6455 §5 to §8).

Theory of operation. Bytes come in pieces of any size. A frame that lies whole in one piece is
decoded at once. Of any other data frame each part is unmasked, inflated and checked as it comes; so
a fault is found with its first byte, and no byte is copied twice. Only the header of a frame, and
control frames, wait until they are whole: at most 131 bytes.

What the client may do, and what follows:

    it sends            before any close     after our close       after its close, or a violation
    a message           into `messages`      dropped               ignored
    ping                pong into `out`      ignored               ignored
    pong                `pongs` grows        `pongs` grows         ignored
    close               answer into `out`    `closed_by_peer`      ignored
    a violation         close into `out`     `failed`              ignored

A message is dropped without looking at its content: it is not checked as text, nor inflated, nor
measured. rules.py has the violations.
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from struct import Struct
from typing import TYPE_CHECKING, Final

from reactor_run.native import NATIVE
from reactor_run.protocol.websocket import rules
from reactor_run.protocol.websocket.deflate import InflateError, PerMessageDeflate
from reactor_run.protocol.websocket.masking import apply_mask
from reactor_run.protocol.websocket.rules import NO_CODE, REASON_MAX, Close, Violation, may_be_sent

__all__ = ["FRAMES_MAX", "ClosedError", "WebSocket"]

FRAMES_MAX: Final = 64
"""Most frames that are decoded at once. A frame takes about 1 µs: without this bound 64 KiB of
empty frames stall a loop for 10 ms."""

_VIEW_MIN: Final = 16384
"""Bytes of payload from which a view is cheaper than a slice, which is a copy."""

_INFLATED_MAX: Final = 1 << 20
"""Bytes of inflated messages after which no further frame is decoded at once."""

# Opcodes (§5.2), and the bits of a frame's first byte.
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_CLOSE, _PING, _PONG = 8, 9, 10
_FIN: Final = 0x80
_RSV1: Final = 0x40
_RESERVED: Final = 0x70
_CONTROL: Final = 0x08
_WHOLE_TEXT: Final = 0x81
_WHOLE_BINARY: Final = 0x82

_Utf8Decoder: Final = getincrementaldecoder("utf-8")
_head_16 = Struct("!BBH").pack
_head_64 = Struct("!BBQ").pack

if TYPE_CHECKING or not NATIVE:

    def take_messages(data: bytes, size_max: int, count: int, messages: list[str | bytes]) -> int:
        """Append whole messages at the start of `data`; return how many bytes were taken.

        Each is one correct frame of at most `size_max` bytes of payload. At most `count` are taken.
        What this does not take, `WebSocket` decodes and judges. In Python it takes none.
        """
        return 0

else:
    from reactor_run.protocol._frames import take_messages


class ClosedError(Exception):
    """A message was sent after the close frame."""


class WebSocket:
    """A WebSocket, seen from the server, after the 101. It never raises for what the client sends.

    messages: those that the client has sent, in order: text as str, binary as bytes.
    out: frames that must be sent, in order: pongs, and the close frame that answers the client's or
    tells a violation. The owner takes them out.
    pending: whole frames may wait that are not decoded yet. `go_on` decodes them.
    closed_by_peer: the client's close frame; its code is 1005 if it has none.
    failed: the violation for which the connection fails.
    close_sent: our close frame was made. No frame may be sent after it.
    pongs: how many have come.
    """

    __slots__ = (
        "_deflate",
        "_final",
        "_inflated",
        "_left",
        "_mask",
        "_max",
        "_opcode",
        "_parts",
        "_rest",
        "_size",
        "_utf8",
        "close_sent",
        "closed_by_peer",
        "failed",
        "messages",
        "out",
        "pending",
        "pongs",
    )

    def __init__(self, *, message_max: int, deflate: PerMessageDeflate | None = None) -> None:
        """`message_max`: most bytes of a message, as UTF-8 and inflated."""
        self.messages: list[str | bytes] = []
        self.out: list[bytes] = []
        self.pending = False
        self.closed_by_peer: Close | None = None
        self.failed: Close | None = None
        self.close_sent = False
        self.pongs = 0
        self._max = message_max
        self._deflate = deflate
        self._rest = b""
        """Bytes that were not decoded: the begin of a frame, or frames if `pending`."""
        # The data frame whose payload has not come completely.
        self._left = 0
        """Bytes of its payload that have not come yet."""
        self._mask = b""
        """The mask, beginning with the byte for the next byte of payload."""
        self._final = False
        """It is the last of its message."""
        # The message that has not come completely.
        self._opcode = 0
        """_TEXT, _BINARY, or 0 if there is none."""
        self._inflated = False
        self._size = 0
        """Bytes so far."""
        self._parts: bytearray | None = None
        self._utf8: IncrementalDecoder | None = None

    @property
    def at_rest(self) -> bool:
        """Nothing partial has come: no incomplete frame, and no message without its end."""
        return not (self._rest or self._left or self._opcode)

    # Receiving ------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Decode what the client has sent: at most FRAMES_MAX frames. The rest is kept."""
        if self.closed_by_peer is None and self.failed is None:
            self._decode(self._rest + data if self._rest else data)

    def go_on(self) -> None:
        """Decode the next frames if some are `pending`, at most FRAMES_MAX."""
        if self.pending:
            self._decode(self._rest)

    def _decode(self, data: bytes) -> None:
        """Decode frames at the start of `data`. Keep the rest."""
        self._rest = b""
        self.pending = False
        at = 0
        frames = FRAMES_MAX
        if not (self._left or self._opcode or self.close_sent):
            # By far the most frequent case: whole messages.
            before = len(self.messages)
            at = take_messages(data, self._max, frames, self.messages)
            if at == len(data):
                return
            frames -= len(self.messages) - before
        try:
            at = self._decode_frames(data, at, frames)
        except Violation as violation:
            rule = self.failed = violation.rule
            if not self.close_sent:
                self.out.append(self.close(rule.code, rule.reason))
            self._forget()
            return
        if at < len(data) and self.closed_by_peer is None:
            self._rest = data[at:]

    def _decode_frames(self, data: bytes, at: int, frames: int) -> int:
        """Decode at most `frames` from `at` on; return where they end. Raises `Violation`."""
        end = len(data)
        inflated = 0
        for _ in range(frames):
            if self._left:
                at = self._take_payload(data, at)
                inflated += self._size if self._inflated else 0
            if end - at < 2:
                return at
            first = data[at]
            size = data[at + 1] - 0x80
            if size < 0:
                raise Violation(rules.UNMASKED)
            # The most frequent case: a whole message.
            usual = first in (0x81, 0x82) and not self._opcode and not self.close_sent
            if not usual:
                self._check_first(first)
            begin = at + 6
            if size > 125:
                begin += 2 if size == 126 else 8
                if first & _CONTROL:
                    raise Violation(rules.CONTROL_LENGTH)
                if begin - 4 > end:
                    return at
                length = int.from_bytes(data[at + 2 : begin - 4], "big")
                if length < 126 or (size == 127 and not 65536 <= length < 1 << 63):
                    raise Violation(rules.LENGTH)
                size = length
            stop = begin + size
            if usual and stop <= end and size <= self._max:
                payload = data[begin:stop] if size < _VIEW_MIN else memoryview(data)[begin:stop]
                content = apply_mask(payload, data[begin - 4 : begin])
                if first == _WHOLE_TEXT:
                    try:
                        self.messages.append(content.decode())
                    except UnicodeDecodeError:
                        raise Violation(rules.TEXT) from None
                else:
                    self.messages.append(content)
                at = stop
            elif first & _CONTROL:
                if stop > end:
                    return at
                self._take_control(first, apply_mask(data[begin:stop], data[begin - 4 : begin]))
                at = stop
                if self.closed_by_peer is not None:
                    return at
            else:
                self._check_size(first, size)
                if begin > end:
                    return at
                self._begin_frame(first, size, data[begin - 4 : begin])
                at = self._take_payload(data, begin)
                inflated += self._size if self._inflated else 0
            if inflated > _INFLATED_MAX:
                break
        self.pending = at < end
        return at

    def _check_first(self, first: int) -> None:
        """Check the first byte of a frame. Raises `Violation`."""
        opcode = first & 0x0F
        reserved = first & _RESERVED
        if reserved and not (
            reserved == _RSV1 and opcode in (_TEXT, _BINARY) and self._deflate is not None
        ):
            raise Violation(rules.RESERVED_BITS)
        if _BINARY < opcode < _CLOSE or opcode > _PONG:
            raise Violation(rules.OPCODE)
        if opcode >= _CLOSE:
            if not first & _FIN:
                raise Violation(rules.CONTROL_FRAGMENT)
        elif opcode and self._opcode:
            raise Violation(rules.INTERLEAVED)
        elif not opcode and not self._opcode:
            raise Violation(rules.CONTINUATION)

    def _check_size(self, first: int, size: int) -> None:
        """Check the length of a data frame. Raises `Violation`."""
        # What a compressed payload makes is counted as it comes.
        opcode = first & 0x0F
        compressed = first & _RSV1 if opcode else self._inflated
        before = 0 if opcode else self._size
        if before + size > self._max and not compressed and not self.close_sent:
            raise Violation(rules.TOO_BIG)

    def _begin_frame(self, first: int, size: int, mask: bytes) -> None:
        opcode = first & 0x0F
        if opcode:
            self._opcode = opcode
            self._inflated = first & _RSV1 != 0
            self._size = 0
        self._final = first & _FIN != 0
        self._left = size
        self._mask = mask

    def _take_payload(self, data: bytes, at: int) -> int:
        """Take what there is of the current frame's payload; return where it ends in `data`."""
        left = self._left
        stop = at + left
        if stop <= len(data):
            self._left = 0
        else:
            stop = len(data)
            self._left = left - (stop - at)
        mask = self._mask
        last = self._final and not self._left
        if self.close_sent:
            if last:
                self._opcode = 0
            return stop
        if self._left:
            turn = (stop - at) & 3
            self._mask = mask[turn:] + mask[:turn]
        payload = data[at:stop] if stop - at < _VIEW_MIN else memoryview(data)[at:stop]
        self._take_content(apply_mask(payload, mask), last)
        return stop

    def _take_content(self, content: bytes, last: bool) -> None:
        """Take unmasked payload of the current message. `last`: nothing follows it."""
        if self._inflated:
            content = self._inflate(content, last)
        self._size += len(content)
        if self._size > self._max:
            raise Violation(rules.TOO_BIG)
        is_text = self._opcode == _TEXT
        parts = self._parts
        try:
            if last and parts is None:
                self.messages.append(content.decode() if is_text else content)
            else:
                if parts is None:
                    parts = self._parts = bytearray()
                    self._utf8 = _Utf8Decoder() if is_text else None
                if self._utf8 is not None:
                    _check_text(self._utf8, content, last)
                parts += content
                if last:
                    self.messages.append(parts.decode() if is_text else bytes(parts))
        except UnicodeDecodeError:
            raise Violation(rules.TEXT) from None
        if last:
            self._opcode = 0
            self._parts = self._utf8 = None

    def _inflate(self, payload: bytes, last: bool) -> bytes:
        """Return what a piece of compressed payload holds. Raises `Violation`."""
        deflate = self._deflate
        assert deflate is not None
        room = self._max - self._size
        try:
            content = deflate.inflate(payload, room)
            if last and len(content) <= room:
                content += deflate.end_message(room - len(content))
        except InflateError:
            raise Violation(rules.DEFLATE) from None
        return content

    def _take_control(self, first: int, payload: bytes) -> None:
        """Take a whole control frame. Raises `Violation`."""
        opcode = first & 0x0F
        if opcode == _PONG:
            self.pongs += 1
        elif opcode == _PING:
            if not self.close_sent:
                self.out.append(_frame(_FIN | _PONG, payload))
        else:
            self.closed_by_peer = _read_close(payload)
            if not self.close_sent:
                self.close_sent = True
                # An endpoint typically echoes the code (§5.5.1). Browsers show the reason, too.
                self.out.append(_frame(_FIN | _CLOSE, payload))
            self._forget()

    def _forget(self) -> None:
        """Free what was kept of the client's frames: no more of them are read."""
        self._left = self._opcode = 0
        self._parts = self._utf8 = self._deflate = None

    # Sending --------------------------------------------------------------------------------------

    def send(self, data: str | bytes | bytearray | memoryview) -> bytes:
        """Return a message as one frame: str as text, bytes as binary.

        Raises `ClosedError` after the close frame, TypeError for other data, and UnicodeEncodeError
        for a str with surrogates.
        """
        if self.close_sent:
            raise ClosedError
        first = _WHOLE_BINARY
        if isinstance(data, str):
            first = _WHOLE_TEXT
            data = data.encode()
        elif not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                raise TypeError(f"a message is str or bytes, not {type(data).__name__}")
            data = bytes(data)
        if self._deflate is not None:
            first |= _RSV1
            data = self._deflate.compress(data)
        return _frame(first, data)

    def ping(self, payload: bytes = b"") -> bytes:
        """Return a ping with at most 125 bytes of payload; b"" after the close frame."""
        if len(payload) > 125:
            raise ValueError("a ping has at most 125 bytes of payload")
        return b"" if self.close_sent else _frame(_FIN | _PING, payload)

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """Return the close frame; b"" if there was one.

        `code`: 1005 means a frame without code and reason. `reason`: it is cut to 123 bytes of
        UTF-8. Raises ValueError for a code that must not be sent (§7.4). What the client still
        sends is dropped, up to its close frame.
        """
        if code != NO_CODE and not may_be_sent(code):
            raise ValueError(f"a close frame cannot have the code {code}")
        if self.close_sent:
            return b""
        self.close_sent = True
        self._parts = self._utf8 = None
        payload = b""
        if code != NO_CODE:
            text = reason.encode()
            if len(text) > REASON_MAX:
                text = text[:REASON_MAX].decode(errors="ignore").encode()
            payload = code.to_bytes(2, "big") + text
        return _frame(_FIN | _CLOSE, payload)


def _check_text(utf8: IncrementalDecoder, content: bytes, last: bool) -> None:
    """Check a part of a text. Raises UnicodeDecodeError at the first wrong byte."""
    utf8.decode(content, last)
    kept = utf8.getstate()[0]
    # Python waits for the third byte of a surrogate, which is wrong from its second byte on.
    if len(kept) == 2 and kept[0] == 0xED and kept[1] >= 0xA0:
        kept.decode()


def _read_close(payload: bytes) -> Close:
    """Read the payload of a close frame (§5.5.1). Raises `Violation`."""
    if not payload:
        return Close(NO_CODE, "")
    if len(payload) == 1:
        raise Violation(rules.CLOSE_LENGTH)
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise Violation(rules.CLOSE_CODE)
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise Violation(rules.CLOSE_REASON) from None


def _frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame (§5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _head_16(first, 126, size) + payload
    return _head_64(first, 127, size) + payload
