"""What differs between Trio and asyncio under the worker loop, and nothing else.

A worker task hosts one exchange after another. Whatever an app leaves behind in the task would hit
the next client, so after each exchange the loop compares a snapshot with the one before, and a
worker that has changed ends. What can be left, and how it is found, is on_trio.py and
on_asyncio.py; only the one in use is imported, since that is most of what a start takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Hygiene", "backend_options", "hygiene_for"]


class Hygiene(Protocol):
    """A worker's guard against what an app leaves in its task."""

    @property
    def reusable_after_suspension(self) -> bool:
        """Whether a task in which an app suspended may host the next exchange."""

    def snapshot(self) -> object:
        """The task as it is before an exchange; compared with != afterwards."""

    async def restore(self) -> None:
        """Close what the app left open, so that the worker can end in order."""


def hygiene_for(runtime: str) -> Callable[[], Hygiene]:
    """The guard for `trio`, `asyncio` or `uvloop`."""
    if runtime == "trio":
        from reactor_run.reactor.on_trio import TrioHygiene

        return TrioHygiene
    from reactor_run.reactor.on_asyncio import AsyncioHygiene

    return AsyncioHygiene


def backend_options(runtime: str) -> tuple[str, dict[str, Any]]:
    """anyio's backend and its options for a `--runtime`."""
    if runtime == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return runtime, {}
