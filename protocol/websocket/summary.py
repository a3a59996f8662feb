"""What a reactor tells of a WebSocket that has ended, for the access log and the metrics."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

__all__ = ["Summary"]

_WIRE: Final = Struct("!HQQ")


class Summary(NamedTuple):
    """How a WebSocket ended, and what it carried.

    code: the close code that the app was told, or that it has sent (RFC 6455 §7.4). 1006: there was
    no closing handshake. received, sent: messages from the client, and to it.
    """

    code: int
    received: int
    sent: int

    def pack(self) -> bytes:
        """Return it as the payload of a DONE message: 18 bytes."""
        return _WIRE.pack(*self)

    @classmethod
    def read(cls, payload: bytes) -> Summary:
        """Read the payload of a DONE message. Raises ValueError if it has another size."""
        if len(payload) != _WIRE.size:
            raise ValueError(f"a summary has {_WIRE.size} bytes, not {len(payload)}")
        return cls(*_WIRE.unpack(payload))
