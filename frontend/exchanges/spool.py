"""Buffers bytes in memory, and beyond a limit in a temporary file without a name.

`Spool` holds a request body until all of it has arrived. `Outbox` holds the bytes of answers that a
client has not taken.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import BinaryIO, Final, Protocol

from reactor_run.outgoing import Outgoing, Writable

__all__ = ["MEMORY_MAX", "Outbox", "Spool"]

MEMORY_MAX: Final = 131072
"""The most bytes of one request body that are held in memory."""

_SENDFILE_MAX: Final = 1 << 20


class Spool:
    """A request body without its transfer coding: written piece by piece, then sent."""

    __slots__ = ("_file", "_memory", "size")

    def __init__(self) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: BinaryIO | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Add content. The caller may reuse the memory of `data` after the call.

        Raises OSError if the temporary file cannot be written.
        """
        self.size += len(data)
        if self._file is None:
            if self.size <= MEMORY_MAX:
                self._memory += data
                return
            self._file = _unnamed_file()
            _write_all(self._file, self._memory)
            self._memory = bytearray()
        _write_all(self._file, data)

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def content(self) -> bytearray:
        """Return the whole body, which must be in memory. Do not use the spool after this."""
        return self._memory

    def send(self, sock: socket.socket, offset: int) -> int:
        """Send bytes of the file from `offset` on; return how many the kernel took.

        Raises BlockingIOError if the kernel takes none, and OSError.
        """
        assert self._file is not None
        count = min(self.size - offset, _SENDFILE_MAX)
        sent = os.sendfile(sock.fileno(), self._file.fileno(), offset, count)
        if not sent:
            raise OSError(errno.EIO, "a temporary file has become shorter")
        return sent

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of the file from `offset` on, at least one. Raises OSError."""
        assert self._file is not None
        data = os.pread(self._file.fileno(), size, offset)
        if not data:
            raise OSError(errno.EIO, "a temporary file has become shorter")
        return data

    def close(self) -> None:
        """Free the memory and the file."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


def _unnamed_file() -> BinaryIO:
    # The import is slow. It is paid only when a file is needed.
    import tempfile

    return tempfile.TemporaryFile(prefix="reactor-run-", buffering=0)


def _write_all(file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class Sink(Writable, Protocol):
    """Takes the bytes of an Outbox."""

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send at most `count` bytes of a file; return how many were taken."""


class Outbox:
    """The bytes that a client has not taken, in order: in memory, then in a temporary file."""

    __slots__ = ("_file", "_memory", "_read", "_written")

    def __init__(self) -> None:
        self._memory = Outgoing()
        self._file: BinaryIO | None = None
        self._read = 0
        self._written = 0

    @property
    def size(self) -> int:
        """The bytes that wait."""
        return self._memory.size + self._written - self._read

    @property
    def in_memory(self) -> int:
        """The bytes that wait in memory."""
        return self._memory.size

    @property
    def in_file(self) -> int:
        """The size of the temporary file in bytes, those already sent included."""
        return self._written

    def add(self, data: bytes | memoryview, memory_max: int | None = None) -> None:
        """Keep `data` in memory, or in the file if memory would then hold over `memory_max` bytes.

        None: all in memory. Raises OSError if the file cannot be written.
        """
        memory = self._memory
        if self._file is None:
            if memory_max is None or memory.size + len(data) <= memory_max:
                memory.add(data)
                return
            self._file = _unnamed_file()
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, self._written)
            self._written += written
            view = view[written:]

    def send(self, sink: Sink) -> int:
        """Send bytes to `sink`; return how many it took.

        Raises BlockingIOError if it takes none, and OSError.
        """
        if self._memory.size:
            return self._memory.send(sink)
        assert self._file is not None
        count = min(self._written - self._read, _SENDFILE_MAX)
        sent = sink.send_file(self._file.fileno(), self._read, count)
        self._read += sent
        if self._read == self._written:
            self.close()
        return sent

    def close(self) -> None:
        """Drop all bytes, and free the memory and the file."""
        self._memory.clear()
        self._read = self._written = 0
        if self._file is not None:
            self._file.close()
            self._file = None
