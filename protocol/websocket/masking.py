"""The mask of a client's payload: XOR with a key of four bytes (RFC 6455 §5.3).

C takes a fifth of the time for 100 bytes, and a thirtieth for 64 KiB.
"""

from __future__ import annotations

from sys import byteorder
from typing import TYPE_CHECKING, Final

from reactor_run.native import NATIVE

__all__ = ["apply_mask", "xor_mask"]

_PIECE: Final = 65536
"""Bytes that are changed at once. Larger integers do not stay in the processor's cache."""


def xor_mask(data: bytes | memoryview, mask: bytes) -> bytes:
    """Return `data` with the mask applied or removed. `mask` has four bytes."""
    size = len(data)
    if size > _PIECE:
        return b"".join([xor_mask(data[at : at + _PIECE], mask) for at in range(0, size, _PIECE)])
    key = (mask * (size // 4 + 1))[:size]
    number = int.from_bytes(data, byteorder) ^ int.from_bytes(key, byteorder)
    return number.to_bytes(size, byteorder)


if TYPE_CHECKING or not NATIVE:
    apply_mask = xor_mask
else:
    from reactor_run.protocol._frames import apply_mask
