"""The bytes of an open file: what of them is in memory, and how to get the rest there.

preadv2(2) with RWF_NOWAIT reads only what is in the page cache. What is not there is read by a
thread. On file systems that do not know the flag, a thread reads first, always.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # It needs ctypes, which most services do not.
    from reactor_run.frontend.static.beneath import OpenFile

__all__ = ["LOAD", "FileShrunk", "load", "read_all", "read_ready", "ready"]

LOAD: Final = 1 << 20
"""Bytes that a thread loads at a time."""
_STRIDE: Final = 65536
"""Bytes between two looks. A page in between may be missing after the kernel needed memory. Then
sendfile waits for it."""
_UNKNOWN: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_one = bytearray(1)


class FileShrunk(OSError):
    """A file has become shorter since it was opened."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "a file has become shorter while it was sent")


def read_ready(fd: int, start: int, space: memoryview) -> bool:
    """Fill `space` from `start` on if all bytes are in memory; return whether they are."""
    try:
        return os.preadv(fd, [space], start, os.RWF_NOWAIT) == len(space)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNKNOWN:
            return False
        raise


def read_all(file: OpenFile, start: int, end: int) -> bytes:
    """Return the bytes from `start` to `end`, waiting for the disk. Raises OSError."""
    pieces = []
    while start < end:
        piece = os.pread(file.fd, end - start, start)
        if not piece:
            raise FileShrunk
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def ready(fd: int, start: int, count: int) -> int:
    """Return how many bytes from `start` on can be sent without waiting, at most `count`.

    Raises FileShrunk if the file ends before, and OSError.
    """
    place = start
    end = start + count
    try:
        while place < end:
            if not os.preadv(fd, [_one], place, os.RWF_NOWAIT):
                break
            place += _STRIDE
    except OSError as error:
        if error.errno not in (*_UNKNOWN, errno.EAGAIN):
            raise
        return place - start
    if place == start:
        raise FileShrunk
    return min(place, end) - start


def load(fd: int, start: int, count: int) -> int:
    """Read `count` bytes of a file from `start` on, so that the kernel has them in its page cache.
    Return how many there are: fewer if the file ends before."""
    space = memoryview(bytearray(min(count, _STRIDE * 4)))
    loaded = 0
    while loaded < count:
        got = os.preadv(fd, [space[: count - loaded]], start + loaded)
        if not got:
            break
        loaded += got
    return loaded
