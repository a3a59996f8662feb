"""Keeps one reactor for each CPU with `--reactors auto`, also when the number of CPUs changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.sockets.rlimits import available_cpus

__all__ = ["CPUCount"]

_EVERY: Final = 10.0
"""Seconds between two checks of the number of CPUs."""


class CPUCount:
    """Follows the number of CPUs until an operator chooses a number."""

    def __init__(self, loop: Loop, scale: Callable[[int], None]) -> None:
        """`scale`: called with the number of reactors that should serve."""
        self._loop = loop
        self._scale = scale
        self._timer = Timer(self._look)

    def begin(self) -> None:
        """Follow the number of CPUs from now on."""
        self._look()

    def end(self) -> None:
        """Follow it no more: an operator has chosen a number."""
        self._loop.forget(self._timer)

    def _look(self) -> None:
        self._loop.set_deadline(self._timer, _EVERY)
        self._scale(available_cpus())
