"""Settings of malloc: the process keeps the memory of large buffers that were dropped.

glibc's malloc asks the kernel for a mapping for each block above a threshold, 128 KiB at first. It
also returns the top of its heap when more than a second threshold is free there. A process that
allocates and drops MiBs per batch, such as pieces of uploads, then maps, faults in and returns them
each time, or not at all, depending on what lies above in the heap. Other C libraries may ignore
this.
"""

from __future__ import annotations

from typing import Final

from reactor_run.native import set_malloc_bounds

__all__ = ["keep_dropped_memory"]

_MAPPED: Final = 1 << 20
"""Bytes from which a block gets a mapping of its own."""
_KEPT: Final = 8 << 20
"""Most free bytes that stay: twice what all buffers of one direction hold (pulse.py)."""


def keep_dropped_memory() -> None:
    """Have malloc keep up to 8 MiB of free memory at the top of its heap, from now on.

    Without the C extension it keeps 2 MiB.
    """
    if not set_malloc_bounds(_MAPPED, _KEPT):
        # This block is mapped, never touched, and freed at once. The first threshold grows to its
        # size then, and the second one to twice that (mallopt(3)).
        bytes(_MAPPED)
