"""A setting of malloc: the process keeps the memory of large buffers that were dropped.

glibc's malloc asks the kernel for a mapping for each block above a threshold, 128 KiB at first. It
also returns the top of its heap when more than twice that is free there. A process that allocates
and drops some hundred KiB per batch then maps, faults in and returns them each time, or not at all,
depending on what lies above in the heap. Both thresholds grow with the largest mapped block that
was freed (mallopt(3)). Other C libraries may ignore this.
"""

from __future__ import annotations

from typing import Final

__all__ = ["keep_dropped_memory"]

_BLOCK: Final = 1 << 20


def keep_dropped_memory() -> None:
    """Have malloc keep up to 2 MiB of free memory at the top of its heap, from now on."""
    # This block is mapped, never touched, and freed at once.
    bytes(_BLOCK)
