"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").

It owns the wrapper that an app returns, and finds how many bytes its file has left. `run_wsgi` and
the sink send the bytes.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Protocol

__all__ = ["FileLike", "FileWrapper", "bytes_left"]


class FileLike(Protocol):
    """A file-like object as PEP 3333 asks for it. It may also have `close()`."""

    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """Iterates over a file-like object in blocks of `blksize` bytes.

    If an app returns an object of exactly this class, the server may send the file by sendfile(2).
    Middleware that iterates over it gets the same bytes.
    """

    __slots__ = ("blksize", "filelike")

    def __init__(self, filelike: FileLike, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block = self.filelike.read(self.blksize)
        if block:
            return block
        raise StopIteration

    def close(self) -> None:
        """Close the file by its current `close`: Django replaces this attribute."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def bytes_left(filelike: object) -> int | None:
    """Return the bytes from the current position of `filelike` to its end, or None if unknown.

    The number is known only for a BytesIO and for regular files of the classes that `open(...,
    "rb")` returns. In other classes the bytes of `fileno()` may differ from those of `read()`: in
    gzip.GzipFile they are compressed. If a number is returned for anything but a BytesIO, sendfile
    can send the file from `tell()`. Raises what the file raises, ValueError if it is closed.
    """
    kind = type(filelike)
    if kind is io.BytesIO:
        assert isinstance(filelike, io.BytesIO)
        with filelike.getbuffer() as view:
            size = view.nbytes
        return max(size - filelike.tell(), 0)
    if kind is io.BufferedReader or kind is io.BufferedRandom:
        assert isinstance(filelike, io.BufferedReader | io.BufferedRandom)
        if type(filelike.raw) is not io.FileIO:
            return None
        if kind is io.BufferedRandom:
            filelike.flush()
    elif kind is not io.FileIO:
        return None
    assert isinstance(filelike, io.BufferedReader | io.BufferedRandom | io.FileIO)
    status = os.fstat(filelike.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    left = status.st_size - filelike.tell()
    # Files in /proc are regular and have size 0, but they have content.
    return left if left > 0 else None
