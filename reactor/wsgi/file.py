"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").

Owns the wrapper that an app returns and the question how many bytes its file has left. Sending
them is run_wsgi's and the sink's.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Protocol

__all__ = ["FileLike", "FileWrapper", "bytes_left"]


class FileLike(Protocol):
    """What PEP 3333 asks of a file-like object; `close()` is optional."""

    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """Iterates over a file-like object in blocks of `blksize` bytes.

    A server that is given exactly this class may send the file in a faster way; middleware that
    iterates gets the same bytes.
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
        """Close the file, with the `close` that it has now: Django puts its own in its place."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def bytes_left(filelike: object) -> int | None:
    """Bytes from the current position to the end of `filelike`; None if only reading can tell.

    Known for a BytesIO and for a regular file opened by `open(..., "rb")` or the like, and for
    these classes alone: others have a `fileno()` whose bytes are not the ones that their
    `read()` returns (gzip.GzipFile: the compressed ones). Any other than a BytesIO can be sent
    by sendfile, beginning at `tell()`. Raises what the file raises (ValueError if it is closed).
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
    # Files of /proc are regular, of size 0, and have content.
    return left if left > 0 else None
