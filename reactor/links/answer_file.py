"""A part of a file that ends an answer.

It owns the file's descriptor. The links send the bytes: stream.py and lane.py.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

__all__ = ["PIECE_MAX", "TURN_MAX", "AnswerFile", "ShortFileError", "open_file"]

PIECE_MAX: Final = 1 << 20
"""Most bytes of one sendfile(2)."""
TURN_MAX: Final = 1 << 22
"""Bytes that one turn of the loop writes to one client. A fast client of a large file would keep
all other exchanges waiting."""


class ShortFileError(OSError):
    """The file ended before the size that was promised to the client."""

    def __init__(self) -> None:
        super().__init__("a file of an answer ended before its declared size")


class AnswerFile:
    """The bytes of a file from `offset` to `end`. Close it, also if it was not sent."""

    __slots__ = ("end", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        """Owns `fd` from now on."""
        self.fd = fd
        self.offset = offset
        self.end = offset + count

    @property
    def left(self) -> int:
        """Bytes that are not sent yet."""
        return self.end - self.offset

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes from `offset`, without moving it. Raises OSError."""
        return os.pread(self.fd, min(self.left, size), self.offset)

    def sent(self, size: int) -> None:
        """Count `size` bytes as sent. Raises ShortFileError if there were none."""
        if not size:
            raise ShortFileError
        self.offset += size

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def open_file(path: str) -> AnswerFile:
    """Open a whole regular file, as large as it is now.

    Raises OSError if it cannot be opened, and if it is no regular file. A pipe does not block.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return AnswerFile(fd, 0, status.st_size)
