"""The rules that a client's frames must keep, numbered, each with its source and close code.

     1  RESERVED_BITS     §5.2     a reserved bit is set only as an extension says
     2  OPCODE            §5.2     the opcode is 0, 1, 2, 8, 9 or 10
     3  UNMASKED          §5.1     a client masks each frame
     4  LENGTH            §5.2     a length has the fewest bytes that hold it, and at most 63 bits
     5  CONTROL_LENGTH    §5.5     a control frame has at most 125 bytes of payload
     6  CONTROL_FRAGMENT  §5.5     a control frame is not fragmented
     7  CONTINUATION      §5.4     a continuation follows a fragment that was not the last
     8  INTERLEAVED       §5.4     no message begins within another one
     9  TEXT              §8.1     text is UTF-8, from its first byte to its last
    10  CLOSE_LENGTH      §5.5.1   the payload of a close frame is empty or begins with a code
    11  CLOSE_CODE        §7.4     a close frame has a code that may be sent
    12  CLOSE_REASON      §5.5.1   the reason of a close frame is UTF-8
    13  TOO_BIG           §10.4    a message has at most as many bytes as the server takes
    14  DEFLATE           RFC 7692 §7.2.2   a compressed payload is valid DEFLATE

The first violation fails the connection (§7.1.7). The close frame carries the rule's code, and its
text as the reason. What the client sends after that is not read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "CLOSE_CODE",
    "CLOSE_LENGTH",
    "CLOSE_REASON",
    "CONTINUATION",
    "CONTROL_FRAGMENT",
    "CONTROL_LENGTH",
    "DEFLATE",
    "INTERLEAVED",
    "LENGTH",
    "NO_CODE",
    "OPCODE",
    "REASON_MAX",
    "RESERVED_BITS",
    "TEXT",
    "TOO_BIG",
    "UNMASKED",
    "Close",
    "Violation",
    "may_be_sent",
]


class Close(NamedTuple):
    """Why a WebSocket ends (RFC 6455 §7.1.5, §7.1.6)."""

    code: int
    reason: str


class Violation(Exception):
    """The client's bytes break a rule."""

    def __init__(self, rule: Close) -> None:
        super().__init__(rule.reason)
        self.rule = rule


RESERVED_BITS: Final = Close(1002, "a reserved bit is set")
OPCODE: Final = Close(1002, "the opcode is unknown")
UNMASKED: Final = Close(1002, "a frame is not masked")
LENGTH: Final = Close(1002, "the length of a frame is malformed")
CONTROL_LENGTH: Final = Close(1002, "a control frame is too long")
CONTROL_FRAGMENT: Final = Close(1002, "a control frame is fragmented")
CONTINUATION: Final = Close(1002, "a continuation continues nothing")
INTERLEAVED: Final = Close(1002, "a message begins within another one")
TEXT: Final = Close(1007, "a text is not UTF-8")
CLOSE_LENGTH: Final = Close(1002, "a close frame has half a code")
CLOSE_CODE: Final = Close(1002, "a close frame has a code that must not be sent")
CLOSE_REASON: Final = Close(1007, "the reason of a close frame is not UTF-8")
TOO_BIG: Final = Close(1009, "the message is too big")
DEFLATE: Final = Close(1007, "a compressed message is malformed")

NO_CODE: Final = 1005
"""Stands for a close frame without a code. It is never sent (§7.4.1)."""

REASON_MAX: Final = 123
"""Most bytes of a reason: a control frame has 125, and the code takes two (§5.5)."""

_RESERVED: Final = frozenset((1004, 1005, 1006))


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry this code (§7.4).

    These are 1000 to 1014 without those that are reserved, as registered with IANA; 3000 to 3999
    for libraries and frameworks, and 4000 to 4999 for private use.
    """
    return (1000 <= code <= 1014 and code not in _RESERVED) or 3000 <= code <= 4999
