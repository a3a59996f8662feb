"""The inputs of all fuzz targets: how one is taken apart, and where they are kept.

An input is four bytes of control, then the bytes to be read. The control says how those are cut
into pieces, so that a fuzzer finds cuts as it finds bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final

__all__ = [
    "BYTEWISE",
    "CONTROL_SIZE",
    "TARGETS",
    "WHOLE",
    "check_changed",
    "ends",
    "kept",
    "split_input",
]

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
    "translation",
    "encoding",
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


def check_changed(
    check: Callable[[bytes], None], seeds: Iterator[bytes], bytes_: bytes, seconds: float, seed: int
) -> int:
    """Check seeds with random changes for so long, without a fuzzer; return how many.

    `bytes_`: those that are put in. Each has a meaning to what is checked.
    """
    random = Random(seed)
    begun = list(seeds)
    end = monotonic() + seconds
    count = 0
    while monotonic() < end:
        data = bytearray(random.choice(begun))
        for _ in range(random.randrange(4)):
            at = random.randrange(len(data))
            change = random.randrange(3)
            if change == 0:
                data[at] = random.choice(bytes_)
            elif change == 1:
                del data[at : at + random.randrange(1, 9)]
            else:
                data[at:at] = random.choice(begun)[random.randrange(40) :]
            if not data:
                break
        check(bytes(data))
        count += 1
    return count


def kept(target: str) -> Iterator[bytes]:
    """Return the inputs in the repository: former findings."""
    for path in sorted((REGRESSIONS / target).glob("*")):
        yield path.read_bytes()
