"""Frames as a client sends them, for tests."""

from __future__ import annotations

from reactor_run.protocol.websocket.masking import xor_mask

__all__ = ["MASK", "frame"]

MASK = b"\x37\xfa\x21\x3d"


def frame(
    first: int, payload: bytes | str = b"", *, mask: bytes | None = MASK, wide: int | None = None
) -> bytes:
    """Return a frame. `first`: its first byte. `wide`: bytes of an extended length, 0, 2 or 8."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload)
    if wide is None:
        wide = 0 if size < 126 else 2 if size < 65536 else 8
    marked = 0 if mask is None else 0x80
    short = {0: size, 2: 126, 8: 127}[wide]
    head = bytes((first, marked | short)) + (size.to_bytes(wide, "big") if wide else b"")
    return head + (payload if mask is None else mask + xor_mask(payload, mask))
