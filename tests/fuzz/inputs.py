"""The inputs of all fuzz targets: how one is taken apart, and where they are kept.

An input is four bytes of control, then the bytes to be read. The control says how those are cut
into pieces, so that a fuzzer finds cuts as it finds bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["BYTEWISE", "CONTROL_SIZE", "TARGETS", "WHOLE", "ends", "kept", "split_input"]

TARGETS: Final = (
    "heads",
    "native",
    "bodies",
    "proxy",
    "forwarded",
    "responses",
    "frames",
    "websocket",
    "http2",
)
"""The modules beside this one that have `check` and `seeds`."""

REGRESSIONS: Final = Path(__file__).parent / "regressions"
CONTROL_SIZE: Final = 4
WHOLE: Final = bytes(CONTROL_SIZE)
"""The control of an input that arrives in one piece."""
_EACH_BYTE: Final = 0x38
"""Bits of the control. If all are set, the input arrives byte by byte. That is slow, so it is done
in one of eight inputs."""
BYTEWISE: Final = bytes([_EACH_BYTE]) + bytes(CONTROL_SIZE - 1)


def split_input(data: bytes) -> tuple[bytes, bytes]:
    """Return control and content. A control that is too short is filled up with zeros."""
    return data[:CONTROL_SIZE].ljust(CONTROL_SIZE, b"\0"), data[CONTROL_SIZE:]


def ends(control: bytes, size: int) -> Iterator[int]:
    """Return where the pieces of `size` bytes end, the last of them at `size`; at least one."""
    if control[0] & _EACH_BYTE == _EACH_BYTE:
        yield from range(1, size)
    else:
        yield from sorted({cut * size // 256 for cut in control[1:]} - {0})
    yield size


def kept(target: str) -> Iterator[bytes]:
    """Return the inputs in the repository: former findings."""
    for path in sorted((REGRESSIONS / target).glob("*")):
        yield path.read_bytes()
