"""What the fuzz targets share: how an input is taken apart, and where inputs are kept.

An input is four bytes of control and then the bytes to be read. The control says how those are cut
into pieces, so that a fuzzer finds cuts as it finds bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["BYTEWISE", "CONTROL_SIZE", "TARGETS", "WHOLE", "ends", "kept", "split_input"]

TARGETS: Final = ("heads", "bodies", "proxy", "forwarded", "responses", "frames")
"""The modules beside this one that have `check` and `seeds`."""

REGRESSIONS: Final = Path(__file__).parent / "regressions"
CONTROL_SIZE: Final = 4
WHOLE: Final = bytes(CONTROL_SIZE)
"""The control of an input that comes in one piece."""
_EACH_BYTE: Final = 0x38
"""Bits of the control: all are set in one of eight, for it is slow."""
BYTEWISE: Final = bytes([_EACH_BYTE]) + bytes(CONTROL_SIZE - 1)


def split_input(data: bytes) -> tuple[bytes, bytes]:
    """Control and content; a control that is too short is filled up with zeros."""
    return data[:CONTROL_SIZE].ljust(CONTROL_SIZE, b"\0"), data[CONTROL_SIZE:]


def ends(control: bytes, size: int) -> Iterator[int]:
    """Where the pieces of `size` bytes end, the last of them at `size`; at least one."""
    if control[0] & _EACH_BYTE == _EACH_BYTE:
        yield from range(1, size)
    else:
        yield from sorted({cut * size // 256 for cut in control[1:]} - {0})
    yield size


def kept(target: str) -> Iterator[bytes]:
    """The inputs in the repository: what once was a finding."""
    for path in sorted((REGRESSIONS / target).glob("*")):
        yield path.read_bytes()
