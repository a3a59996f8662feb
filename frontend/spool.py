"""Bytes that wait for somebody slow: in memory first, then in a temporary file without a name.

`Spool` holds a request body until all of it has come. `Outbox` holds what a client has not taken
of its answers.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from typing import BinaryIO, Final

__all__ = ["MEMORY_MAX", "Outbox", "Spool"]

MEMORY_MAX: Final = 65536
"""Bytes of one request body that are held in memory."""

_IOV_MAX: Final = 64
_SENDFILE_MAX: Final = 1 << 20


class Spool:
    """A request body, decoded, on its way in; then a file to send from."""

    __slots__ = ("_file", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Add content. Raises OSError if the temporary file cannot be written."""
        self.size += len(data)
        if self._file is None:
            if self.size <= MEMORY_MAX:
                self._parts.append(data)
                return
            self._file = tempfile.TemporaryFile(prefix="reactor-run-", buffering=0)  # noqa: SIM115
            _write_all(self._file, b"".join(self._parts))
            self._parts.clear()
        _write_all(self._file, data)

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def content(self) -> bytes:
        """All of it, of a body that is in memory."""
        return b"".join(self._parts)

    def send(self, sock: socket.socket, offset: int) -> int:
        """Send from `offset` on what the kernel takes. Raises OSError, BlockingIOError too."""
        assert self._file is not None
        return os.sendfile(
            sock.fileno(), self._file.fileno(), offset, min(self.size - offset, _SENDFILE_MAX)
        )

    def close(self) -> None:
        """Give the space back."""
        self._parts.clear()
        if self._file is not None:
            self._file.close()


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class Outbox:
    """What a client has not taken yet, in order: memory, then, if allowed, a temporary file."""

    __slots__ = ("_file", "_memory", "_read", "_written", "size")

    def __init__(self) -> None:
        self.size = 0
        self._memory: deque[memoryview] = deque()
        self._file: BinaryIO | None = None
        self._read = 0
        self._written = 0

    @property
    def in_file(self) -> int:
        """Bytes that the temporary file has on disk, sent ones included."""
        return self._written if self._file is not None else 0

    def add(self, data: bytes | memoryview, memory_max: int | None = None) -> None:
        """Keep `data`; beyond `memory_max` bytes in memory it goes to the file.

        Raises OSError if the file cannot be written.
        """
        size = len(data)
        if self._file is None:
            if memory_max is None or self.size + size <= memory_max:
                self._memory.append(memoryview(data))
                self.size += size
                return
            self._file = tempfile.TemporaryFile(prefix="reactor-run-", buffering=0)  # noqa: SIM115
            self._read = self._written = 0
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, self._written)
            self._written += written
            self.size += written
            view = view[written:]

    def send(self, sock: socket.socket) -> int:
        """Send what the kernel takes; how much. Raises BlockingIOError and other OSErrors."""
        memory = self._memory
        if not memory:
            assert self._file is not None
            count = min(self._written - self._read, _SENDFILE_MAX)
            sent = os.sendfile(sock.fileno(), self._file.fileno(), self._read, count)
            self._read += sent
            self.size -= sent
            if self._read == self._written:
                self.close()
            return sent
        if len(memory) == 1:
            sent = total = sock.send(memory[0])
        else:
            sent = total = sock.sendmsg([memory[i] for i in range(min(len(memory), _IOV_MAX))])
        self.size -= total
        while sent:
            first = memory[0]
            if sent < len(first):
                memory[0] = first[sent:]
                break
            sent -= len(first)
            memory.popleft()
        return total

    def close(self) -> None:
        """Drop what is there, and give the space back."""
        self._memory.clear()
        self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None
