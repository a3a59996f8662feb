"""Memory that large buffers give back stays with the process.

glibc's malloc has the kernel map what is larger than a threshold, 128 KiB at first, and returns the
top of its heap when more than twice that is free there. Whoever takes and drops some hundred KiB
with each batch then has all of it mapped, faulted in and returned every time, or not at all: that
depends on what happens to lie above it. Both thresholds grow with the largest mapped block that was
dropped, see mallopt(3). Other C libraries may do as they like.
"""

from __future__ import annotations

from typing import Final

__all__ = ["keep_dropped_memory"]

_BLOCK: Final = 1 << 20


def keep_dropped_memory() -> None:
    """Have malloc keep as much as 2 MiB that is free at its heap's top, from now on."""
    # Mapped, never touched, and dropped at once.
    bytes(_BLOCK)
