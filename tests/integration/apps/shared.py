"""What an app and the test outside its process share: bytes to compare, notes and gates.

Notes and gates are files, so they work across processes, runtimes and blocked event loops: the
app writes notes that the test reads, and waits at a gate until the test creates the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

# A prime length, so that bytes lost, doubled or moved by a buffer's size change the hash.
BLOCK = hashlib.shake_128(b"pattern").digest(65521)


def pattern(size: int) -> Iterator[bytes]:
    """`size` bytes, the same ones for everybody, in pieces of nearly 64 KiB."""
    whole, rest = divmod(size, len(BLOCK))
    for _ in range(whole):
        yield BLOCK
    if rest:
        yield BLOCK[:rest]


def hash_of(pieces: Iterator[bytes]) -> str:
    """The SHA-256 of all pieces together, in hexadecimal."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def note(path: str, text: str) -> None:
    """Append one line to the notes at `path`, whole even beside other writers."""
    if not path:
        return
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, text.encode() + b"\n")
    finally:
        os.close(file)


def is_open(gate: str) -> bool:
    """Whether the test has opened the gate at this path; no path is an open gate."""
    return not gate or Path(gate).exists()
